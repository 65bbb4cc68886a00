"""The operator's rights are what it uses: a life of tenants, registries and jobs, and the audit log of it beside the chart's roles.

Two operators and everything that makes them write; then no request was forbidden, and no right was left unused but those named here
with a reason.
"""

import asyncio
import json
from typing import Any

import pytest

from e2e.cluster import audit
from support import chart, rights
from support.jobs import job_manifest, registry_manifest
from support.operator_process import Site
from support.tenants import MEMBERS, tenant_manifest
from unjucks_api import names

pytestmark = [pytest.mark.integration, pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(900)]

SPACE = "rights-1"
NOT_SEEN_HERE = {
    (
        "unjucks-system",
        "core/secrets",
        "update",
    ): "the authority is rotated once in years: tests/unit/renderers/test_ca.py",
    (
        "*",
        "rbac.authorization.k8s.io/clusterroles",
        "bind",
    ): "is asked for by the creation of RoleBindings, never requested",
    ("*", "events.k8s.io/events", "patch"): "only when the same event is told again within minutes",
    ("default", "discovery.k8s.io/endpointslices", "get"): "this API server publishes no endpoints for itself",
    **{
        (
            "*",
            right.rsplit(" ", 1)[0],
            right.rsplit(" ", 1)[1],
        ): "only in a conflict of versions or names, or when a child's shape "
        "changes; this life has none of them. Still to be provoked here, or to be given up"
        for right in (
            *("apps/deployments get", "core/limitranges delete", "core/limitranges get", "core/limitranges update"),
            *(
                "core/resourcequotas delete",
                "core/resourcequotas get",
                "core/secrets delete",
                "core/serviceaccounts delete",
            ),
            *("core/serviceaccounts get", "networking.k8s.io/networkpolicies get", "unjucks.io/generationjobs get"),
            *("rbac.authorization.k8s.io/clusterrolebindings update", "rbac.authorization.k8s.io/clusterroles get"),
            *("rbac.authorization.k8s.io/clusterroles update", "rbac.authorization.k8s.io/rolebindings get"),
            *(
                "rbac.authorization.k8s.io/rolebindings update",
                "unjucks.io/templateregistries get",
                "unjucks.io/tenants get",
            ),
        )
    },
}
"""(where, resource, verb) → why this test cannot show it."""


async def test_no_right_is_unused_and_none_is_missing(site: Site) -> None:
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
    excused = sorted(" ".join(right) for right in NOT_SEEN_HERE.keys() & granted)
    assert set(unseen) <= set(excused), f"rights that nothing uses: {sorted(set(unseen) - set(excused))}"


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
    await asyncio.sleep(8)
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
    spaces = [{"name": SPACE}]
    fewer = {"owners": MEMBERS["owners"]}
    await site.apply(
        tenant_manifest("rights", tier="professional", namespaces=spaces, members=fewer, deletionPolicy="Delete")
    )
    await asyncio.sleep(8)
    await site.kubectl("delete", "tenant", "rights", "--timeout=90s")
    await asyncio.sleep(2)
