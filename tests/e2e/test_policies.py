"""Admission and members' rights on the real cluster, twice: with everything up, and with operator and webhooks at zero.

The same flipped objects as on the API server alone (tests/integration/policies); here the operator, its webhooks and a real kubelet
are around, and nothing of it may make a difference.
"""

import json
import time
from collections.abc import Callable, Iterable
from typing import Any

import pytest

from e2e.cluster.provider import AnyCluster
from e2e.install import NAMESPACE as PLATFORM
from e2e.tenant_site import PLAIN, TENANTS, apply, get, space
from support import policies
from support.flips import Flip, of_new_pods
from support.members import assert_member
from support.tenants import MEMBERS
from unjucks_api import names

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(400)]
SPACE = space("amber")
ADMINISTRATOR = "platform-admin"
"""Has the ClusterRole cluster-admin and is exempt from nothing."""
OWNER = "only@amber.example"


@pytest.fixture(scope="module", autouse=True)
def administrator(site: AnyCluster) -> None:
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"}
    subject = {"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": ADMINISTRATOR}
    binding = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": ADMINISTRATOR},
    }
    apply(site, {**binding, "roleRef": role, "subjects": [subject]})
    # The tests' tenants have the same members; amber gets one of its own.
    members = {"owners": [{"kind": "User", "name": OWNER}, *MEMBERS["owners"]]}
    site.kubectl("patch", "tenant", "amber", "--type=merge", "-p", json.dumps({"spec": {"members": members}}))
    owners = ("rolebinding", names.BINDING_OWNERS, "-n", SPACE)
    _eventually("the new owner", lambda: any(it["name"] == OWNER for it in get(site, *owners)["subjects"]))


def ask(cluster: AnyCluster, *arguments: str, stdin: object = None) -> str:
    """kubectl as that administrator, dry: what it says, on both channels."""
    done = cluster.kubectl(
        *(*arguments, "--dry-run=server", "--as", ADMINISTRATOR),
        stdin=None if stdin is None else json.dumps(stdin),
        check=False,
    )
    return done.stdout + done.stderr


def create(cluster: AnyCluster, items: Iterable[dict[str, Any]]) -> dict[str, str]:
    """Name → the server's words, for each object; "created" among them for one that is admitted."""
    found = {}
    objects = list(items)
    said = ask(cluster, "create", "-f", "-", stdin={"apiVersion": "v1", "kind": "List", "items": objects})
    for item in objects:
        name = item["metadata"]["name"]
        lines = [line for line in said.splitlines() if f'"{name}"' in line or f"/{name} " in line]
        found[name] = "\n".join(lines)
    return found


def escapes(cluster: AnyCluster, flips: Iterable[Flip]) -> dict[str, str]:
    """Flips that were admitted, or refused in words that do not name the field. The unflipped pod has to be admitted."""
    good = policies.compliant_pod(SPACE, "compliant")
    pods, texts = [good], {}
    for number, (called, flip, text, _) in enumerate(flips):
        name = f"flip-{number}-{called}".lower().replace("_", "-")[:60]
        pod = policies.compliant_pod(SPACE, name)
        flip(pod["spec"])
        pods.append(pod)
        texts[name] = text
    said = create(cluster, pods)
    assert "created" in said.pop("compliant")
    return {name: words for name, words in said.items() if "created" in words or texts[name] not in words}


@pytest.mark.isolation(
    "MTB-PL1-BC-CPI-3", "MTB-PL1-BC-CPI-4", "MTB-PL1-BC-CPI-5", "MTB-PL1-BC-CPI-6", "MTB-PL1-CC-DI-1"
)
@pytest.mark.isolation(
    "MTB-PL1-BC-HI-3", "MTB-PL1-BC-HI-4", "MTB-PL1-BC-HI-5", "MTB-PL1-BC-HI-1-hostpath", "T-image-prefix"
)
def test_one_flipped_field_is_named(site: AnyCluster, platform_state: str) -> None:
    handler = {"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "metadata": {"name": "mine"}, "handler": "x"}
    apply(site, handler)
    flips = list(of_new_pods())
    assert len(flips) > 60
    assert escapes(site, flips) == {}


@pytest.mark.isolation("MTB-PL1-BC-HI-1-nodeport")
def test_services_stay_inside(site: AnyCluster, platform_state: str) -> None:
    changes = {
        "inside": {},
        "node-port": {"type": "NodePort"},
        "balancer": {"type": "LoadBalancer"},
        "name": {"type": "ExternalName", "externalName": "x.example"},
        "addresses": {"externalIPs": ["198.51.100.1"]},
    }
    items = []
    for name, change in changes.items():
        service = policies.compliant_service(SPACE, name)
        service["spec"] |= change
        items.append(service)
    said = create(site, items)
    assert "created" in said.pop("inside")
    assert all("spec.type" in words or "spec.externalIPs" in words for words in said.values()), said
    assert not any("created" in words for words in said.values()), said


@pytest.mark.isolation("MTB-PL1-CC-CPI-1", "MTB-PL1-CC-TI-1", "MTB-PL1-CC-TI-2", "MTB-PL2-CC-TI-1", "T-own-roles")
def test_members_have_rights_in_their_own_namespace_only(site: AnyCluster, platform_state: str) -> None:
    own = assert_member(
        site, OWNER, ("amber",), (space("birch"), space("cedar"), "kube-system", "default", PLATFORM, PLAIN)
    )
    assert ("unjucks.io", "generationjobs", "create", ()) in own
    viewer = assert_member(site, "grace@acme.example", TENANTS, ("kube-system", "default", PLATFORM, PLAIN))
    assert ("unjucks.io", "generationjobs", "get", ()) in viewer
    assert ("unjucks.io", "generationjobs", "create", ()) not in viewer


@pytest.mark.isolation("MTB-PL1-BC-CPI-2", "MTB-PL1-CC-TI-1", "T-net-policy-write")
def test_what_isolates_is_nobodys_to_change(site: AnyCluster, platform_state: str) -> None:
    kinds = {"resourcequota": names.QUOTA, "limitrange": names.LIMITS, "networkpolicy": names.POLICY_DENY}
    for kind, name in kinds.items():
        for arguments in (
            ("annotate", kind, name, "a=b"),
            ("delete", kind, name),
            ("patch", kind, name, "--type=merge", "-p", '{"spec":{"x":null}}'),
        ):
            said = ask(site, arguments[0], "-n", SPACE, *arguments[1:])
            # A patch that changes nothing is nobody's concern.
            assert "it isolates a tenant" in said or "(no change)" in said, (kind, arguments, said)
        assert "it isolates a tenant" in ask(site, "delete", "-n", SPACE, kind, name)
    policy = {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": "open", "namespace": SPACE},
        "spec": {"podSelector": {}, "egress": [{}]},
    }
    assert "it isolates a tenant" in ask(site, "create", "-f", "-", stdin=policy)
    policy["metadata"]["namespace"] = PLAIN  # type: ignore[index]
    assert "created" in ask(site, "create", "-f", "-", stdin=policy)


@pytest.mark.isolation("T-hijack-label", "T-hijack-ownerref", "T-hijack-annotation", "T-hijack-mergepatch")
@pytest.mark.isolation("T-hijack-jsonpatch", "T-hijack-ssa", "T-hijack-subresource", "T-detach")
def test_no_namespace_is_hijacked(site: AnyCluster, platform_state: str) -> None:
    uid = get(site, "tenant", "amber")["metadata"]["uid"]
    owner = {"apiVersion": names.API_VERSION, "kind": "Tenant", "name": "amber", "uid": uid}
    forgeries: tuple[dict[str, Any], ...] = (
        {"labels": {names.LABEL_TENANT: "amber", names.LABEL_TENANT_UID: uid}},
        {"ownerReferences": [owner]},
        {"annotations": {f"{names.GROUP}/tenant": "amber"}},
    )
    for place in (PLAIN, "kube-system", PLATFORM, space("birch")):
        for metadata in forgeries:
            patch = json.dumps({"metadata": metadata})
            tried = [ask(site, "patch", "namespace", place, "--type=merge", "-p", patch)]
            tried.append(ask(site, "patch", "namespace", place, "--subresource=status", "--type=merge", "-p", patch))
            key = next(iter(metadata))
            value = metadata[key]
            if isinstance(value, dict):
                steps = [
                    {"op": "add", "path": f"/metadata/{key}/{name.replace('/', '~1')}", "value": text}
                    for name, text in value.items()
                ]
                if not get(site, "namespace", place)["metadata"].get(key):
                    steps.insert(0, {"op": "add", "path": f"/metadata/{key}", "value": {}})
            else:
                steps = [{"op": "add", "path": f"/metadata/{key}", "value": value}]
            tried.append(ask(site, "patch", "namespace", place, "--type=json", "-p", json.dumps(steps)))
            whole = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": place, **metadata}}
            tried.append(ask(site, "apply", "--server-side", "--force-conflicts", "-f", "-", stdin=whole))
            for said in tried:
                assert "ValidatingAdmissionPolicy 'unjucks-namespaces'" in said, (place, metadata, said)
            # The raw way of the subresource that ends namespaces.
            current = get(site, "namespace", place)
            for key, value in metadata.items():
                merged = {**current["metadata"].get(key, {}), **value} if isinstance(value, dict) else value
                current["metadata"][key] = merged
            raw = site.kubectl(
                *("replace", "--raw", f"/api/v1/namespaces/{place}/finalize?dryRun=All", "-f", "-"),
                *("--as", ADMINISTRATOR),
                stdin=json.dumps(current),
                check=False,
            )
            assert "ValidatingAdmissionPolicy 'unjucks-namespaces'" in raw.stderr, (place, metadata, raw.stderr)
    detach = json.dumps({"metadata": {"labels": {names.LABEL_TENANT: None}}})
    weaken = json.dumps({"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "privileged"}}})
    for patch in (detach, weaken):
        said = ask(site, "patch", "namespace", SPACE, "--type=merge", "-p", patch)
        assert "only the operator sets" in said, said
    # The control: what is none of our business passes.
    assert "patched" in ask(
        site, "patch", "namespace", PLAIN, "--type=merge", "-p", '{"metadata":{"labels":{"a":"b"}}}'
    )


@pytest.mark.isolation("T-mass-delete")
def test_nothing_big_goes_by_mistake(site: AnyCluster, platform_state: str) -> None:
    said = ask(site, "delete", "crd", "tenants.unjucks.io")
    assert "every object of this kind would go with it" in said
    assert "belongs to Tenant amber" in ask(site, "delete", "namespace", SPACE)
    assert "deleted" in ask(site, "delete", "namespace", PLAIN)
    site.kubectl("patch", "tenant", "birch", "--type=merge", "-p", '{"spec":{"protected":true}}')
    try:
        assert "Tenant birch is protected from deletion" in ask(site, "delete", "tenant", "birch")
        assert "deleted" in ask(site, "delete", "tenant", "amber")
    finally:
        # Taking the protection off may need an approval of the webhooks; the administrator's way out does not.
        _unprotect(site, "birch")


def _unprotect(cluster: AnyCluster, name: str) -> None:
    done = cluster.kubectl("patch", "tenant", name, "--type=merge", "-p", '{"spec":{"protected":false}}', check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.isolation("T-operator-down")
def test_nobody_else_is_hindered(site: AnyCluster, platform_state: str) -> None:
    """The outage of a tenancy operator must not become the cluster's: system pods, namespaces, other people's pods."""
    pods = get(site, "pods", "-n", "kube-system", "-l", "k8s-app=kube-dns")["items"]
    assert pods
    site.kubectl("delete", "pod", "-n", "kube-system", pods[0]["metadata"]["name"], "--wait=false")
    _eventually(
        "a new DNS pod",
        lambda: any(pod["metadata"]["uid"] != pods[0]["metadata"]["uid"] and _ready(pod) for pod in _dns(site)),
    )
    name = f"made-while-{platform_state}"
    site.kubectl("create", "namespace", name)
    site.kubectl("delete", "namespace", name, "--wait=false")
    careless = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x", "namespace": PLAIN}}
    careless["spec"] = {"containers": [{"name": "a", "image": "any", "securityContext": {"privileged": True}}]}
    assert "created" in ask(site, "create", "-f", "-", stdin=careless)
    careless["metadata"]["namespace"] = SPACE  # type: ignore[index]
    assert "violates PodSecurity" in ask(site, "create", "-f", "-", stdin=careless)
    # And the quota counts on: two containers of the largest size are more than a starter has.
    greedy = policies.compliant_pod(SPACE, "greedy")
    for container in (limits := greedy["spec"]["containers"] * 3):
        container["resources"]["limits"]["cpu"] = "2"
    greedy["spec"]["containers"] = [{**it, "name": f"c{number}"} for number, it in enumerate(limits)]
    assert "exceeded quota: unjucks-quota" in ask(site, "create", "-f", "-", stdin=greedy)


def _dns(cluster: AnyCluster) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = get(cluster, "pods", "-n", "kube-system", "-l", "k8s-app=kube-dns")["items"]
    return items


def _ready(pod: dict[str, Any]) -> bool:
    return any(it["type"] == "Ready" and it["status"] == "True" for it in pod["status"].get("conditions", ()))


def _eventually(what: str, check: Callable[[], bool], seconds: float = 90) -> None:
    deadline = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < deadline, what
        time.sleep(0.5)
