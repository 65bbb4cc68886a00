"""The operator's rights are what it uses: a life of tenants, registries and jobs, and the audit log of it beside the chart's roles.

Two operators and everything that makes them write; then no request was forbidden, and no right was left unused.
"""

import asyncio
import json
from datetime import UTC, datetime
from typing import Any

import pytest

from e2e.cluster import audit
from support import chart, rights
from support.jobs import job_manifest, registry_manifest
from support.operator_process import OPERATOR_USER, Site
from support.tenants import MEMBERS, tenant_manifest
from unjucks_api import names
from unjucks_operator.renderers import ca

pytestmark = [pytest.mark.integration, pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(900)]

SPACE = "rights-1"
NOT_SEEN_HERE = {
    (
        "*",
        "rbac.authorization.k8s.io/clusterroles",
        "bind",
    ): "never a request of its own: test_without_the_right_to_bind_no_member_gets_a_role",
    (
        "*",
        "unjucks.io/tenants",
        "get",
    ): "handed on to members: test_members_are_given_what_the_operator_has_and_no_more",
}
"""(where, resource, verb) → what proves it instead of the audit log."""


async def test_without_the_right_to_bind_no_member_gets_a_role(site: Site) -> None:
    """The one right that no log shows: the same account binds the three roles of members, and no other."""
    await site.kubectl("create", "namespace", "rights-bind")
    for role, fine in (("unjucks-tenant-owner", True), ("unjucks-tenant-viewer", True), ("cluster-admin", False)):
        answer = await site.kubectl(
            *("create", "rolebinding", "try", "-n", "rights-bind", f"--clusterrole={role}", "--user=ada"),
            *("--dry-run=server", f"--as={OPERATOR_USER}"),
            check=False,
        )
        assert ("created" in answer) is fine, answer
        assert ("is attempting to grant RBAC permissions" in answer) is not fine, answer


async def test_members_are_given_what_the_operator_has_and_no_more(site: Site) -> None:
    """Reading one Tenant may be handed on because the operator holds it; what it does not hold may not."""
    for verb, fine in (("get", True), ("list", True), ("watch", True), ("update", False), ("delete", False)):
        answer = await site.kubectl(
            *("create", "clusterrole", "unjucks-read-tenant-x", "--resource=tenants.unjucks.io", f"--verb={verb}"),
            *("--resource-name=x", "--dry-run=server", f"--as={OPERATOR_USER}"),
            check=False,
        )
        assert ("created" in answer) is fine, answer
        assert ("is attempting to grant RBAC permissions" in answer) is not fine, answer


async def test_no_right_is_unused_and_none_is_missing(site: Site) -> None:
    ages_ago = datetime.now(UTC) - ca.AUTHORITY_LIFETIME * 0.98
    aged = ca.build_secret(ca.new_authority(ages_ago), names.PLATFORM_NAMESPACE)
    await site.kubectl("delete", "secret", names.CA_SECRET, "-n", names.PLATFORM_NAMESPACE, "--ignore-not-found")
    await site.api.create(aged, manager="test")
    async with site.operator(sweep={"interval": 1}, renderer={"idleAfter": 600}):
        await _live(site)
    async with site.operator(sweep={"interval": 1}):
        await _edit_and_end(site)
    log = site.plane.audit_log
    assert log is not None
    await asyncio.to_thread(site.plane.audit_mark)
    everywhere, at_home, forbidden = audit.deeds(log, names.PLATFORM_NAMESPACE)
    assert forbidden == []
    used = {("*", f"{deed.group or 'core'}/{deed.resource}", deed.verb) for deed in everywhere}
    _, by_default, _ = audit.deeds(log, "default")
    used |= {("default", f"{deed.group or 'core'}/{deed.resource}", deed.verb) for deed in by_default}
    used |= {(names.PLATFORM_NAMESPACE, f"{deed.group or 'core'}/{deed.resource}", deed.verb) for deed in at_home}
    granted = {
        (where, f"{group or 'core'}/{resource}", verb)
        for where, group, resource, verb, _ in rights.granted(chart.render({}))
    }
    at_home_only = {right for right in granted if right[0] == names.PLATFORM_NAMESPACE}
    # What it may do everywhere it may do at home too.
    unused = {
        right
        for right in granted - used
        if not (right[0] == "*" and (names.PLATFORM_NAMESPACE, *right[1:]) in used - at_home_only)
    }
    unseen = sorted(" ".join(right) for right in unused)
    assert unseen == sorted(" ".join(right) for right in NOT_SEEN_HERE), "rights that nothing uses"


async def _live(site: Site) -> None:
    await site.kubectl("create", "namespace", "rights-adopted")
    await site.kubectl("annotate", "namespace", "rights-adopted", f"{names.ANNOTATION_ADOPTION_CONSENT}=rights")
    spaces: list[dict[str, Any]] = [{"name": SPACE}, {"name": "rights-adopted", "adopt": True}]
    rules = {"ingressFrom": [{"namespace": "rights-adopted", "ports": [8080]}]}
    wide = tenant_manifest("rights", tier="professional", namespaces=spaces, network=rules, deletionPolicy="Delete")
    await site.apply(wide)
    await site.wait_for("tenant/rights", "condition=Ready", 90)
    await site.apply(registry_manifest(SPACE))
    await site.wait_for("templateregistry/templates", "condition=Ready", 90, SPACE)
    for kind in ("GitRepository", "OCIRepository", "Bucket", "ExternalArtifact"):
        # Flux is not there: each is looked for by name, and then as a kind.
        flux = registry_manifest(SPACE, kind.lower(), sourceRef={"kind": kind, "name": "t"}, interval="10m")
        del flux["spec"]["inline"]
        await site.apply(flux)
        reason = "jsonpath={.status.conditions[0].reason}=DependencyNotReady"
        await site.wait_for(f"templateregistry/{kind.lower()}", reason, 60, SPACE)
    values = {"name": "values", "namespace": SPACE}
    sources = [
        {"kind": "ConfigMap", "name": "values", "valuesKey": "name", "targetPath": "name"},
        {"kind": "Secret", "name": "values", "valuesKey": "token", "targetPath": "token"},
    ]
    await site.apply(
        {"apiVersion": "v1", "kind": "Secret", "metadata": values, "stringData": {"token": "hunter2"}},
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": values, "data": {"name": "bob"}},
        job_manifest(SPACE, "pooled", {"name": "ada"}, ttl={"afterSuccess": "1s"}),
        job_manifest(SPACE, "alone", {"name": "ada"}, execution="Isolated"),
        job_manifest(SPACE, "hidden", {"name": "ada"}, output={"secret": {"name": "hidden"}}),
        job_manifest(SPACE, "kept", variablesFrom=sources, output={"secret": {"name": "kept"}}),
    )
    for name in ("alone", "hidden", "kept"):
        await site.wait_for(f"generationjob/{name}", "condition=Ready", 120, SPACE)
    for name in ("alone", "hidden"):
        await site.kubectl(
            "patch", "ugj", name, "-n", SPACE, "--type=merge", "-p", '{"spec":{"variables":{"name":"eve"}}}'
        )
    # The same thing told twice is one Event with a count.
    for suspended in (True, False, True, False):
        await site.kubectl(
            "patch", "tenant", "rights", "--type=merge", "-p", json.dumps({"spec": {"suspend": suspended}})
        )
        await asyncio.sleep(2)
    await asyncio.sleep(4)
    await site.wait_for("generationjob/pooled", "delete", 60, SPACE)


async def _edit_and_end(site: Site) -> None:
    """Additions that have to be taken out as a whole, edits, deletions; then fewer members, no rules, one namespace, no Tenant."""
    await asyncio.sleep(4)
    reader = (await site.kubectl("get", "clusterroles", "-o", "name", "-l", names.MANAGED_SELECTOR)).split()
    assert reader
    role = reader[0].split("/")[1]
    here = ("-n", SPACE)
    group = {"kind": "Group", "name": "more", "apiGroup": "rbac.authorization.k8s.io"}

    def add(path: str, value: object) -> list[dict[str, Any]]:
        return [{"op": "add", "path": path, "value": value}]

    additions: tuple[tuple[tuple[str, ...], list[dict[str, Any]]], ...] = (
        (("resourcequota", names.QUOTA, *here), add("/spec/hard/count~1roles", "9")),
        (("limitrange", names.LIMITS, *here), add("/spec/limits/-", {"type": "Pod", "max": {"cpu": "9"}})),
        (("networkpolicy", names.POLICY_DENY, *here), add("/spec/egress", [{}])),
        (("rolebinding", names.BINDING_OWNERS, *here), add("/subjects/-", group)),
        (("clusterrole", role), add("/aggregationRule", {"clusterRoleSelectors": [{"matchLabels": {"x": "y"}}]})),
        (("clusterrole", role), add("/rules/-", {"apiGroups": [""], "resources": ["nodes"], "verbs": ["get"]})),
        (("clusterrolebinding", role), add("/subjects/-", group)),
        (("namespace", SPACE), add("/metadata/labels/pod-security.kubernetes.io~1warn", "baseline")),
        (("serviceaccount", names.RENDERER, *here), add("/automountServiceAccountToken", True)),
        (("deployment", names.RENDERER, *here), add("/spec/progressDeadlineSeconds", 999)),
        (("secret", names.RENDERER, *here), add("/data/tls.key", "AAAA")),
    )
    for what, patch in additions:
        await site.kubectl("patch", *what, "--type=json", "-p", json.dumps(patch))
    await asyncio.sleep(8)
    # Without our label they are out of our sight: making them anew finds them.
    for what in {what for what, _ in additions}:
        await site.kubectl("label", *what, f"{names.LABEL_MANAGED_BY}-")
    await asyncio.sleep(8)
    unlabelled = await site.kubectl(
        *("get", "quota,limits,netpol,rolebindings,sa,secrets,deployments", *here, "-o", "name"),
        *("-l", f"{names.LABEL_TENANT},!{names.LABEL_MANAGED_BY}"),
    )
    assert unlabelled == ""
    # Another home: what renders moves, and nothing of it stays.
    other = {"name": "rights-adopted", "adopt": True}
    await _respec(site, [other, {"name": SPACE}], MEMBERS)
    await _respec(site, [{"name": SPACE}], {"owners": MEMBERS["owners"]})
    await site.kubectl("delete", "tenant", "rights", "--timeout=90s")
    await asyncio.sleep(2)


async def _respec(site: Site, spaces: list[dict[str, Any]], members: Any) -> None:
    await site.apply(
        tenant_manifest("rights", tier="professional", namespaces=spaces, members=members, deletionPolicy="Delete")
    )
    await asyncio.sleep(6)
