"""Pods and services of tenants: one that is admitted, then exactly one field is flipped, and the refusal names that field.

The API server stands alone: no operator, no webhook. Pod Security and our policies answer together, as in every cluster.
"""

import copy
import json
import time
from collections.abc import Callable
from typing import Any

import pytest

from support import builders, chart, policies
from support.flips import OF_CONTAINERS, Spec, of_new_pods, parameters, put, token
from support.policies import IMAGE, Policed
from unjucks_operator.config import Config
from unjucks_operator.tenant.desired import Scope
from unjucks_operator.tenant.desired.renderer import build_deployment, build_isolated_pod, build_service_account

pytestmark = [pytest.mark.integration, pytest.mark.timeout(240)]

SPACE = "tenant-acme"
PODS = f"/api/v1/namespaces/{SPACE}/pods"


def pod_with(flip: Callable[[Spec], object] | None = None) -> Spec:
    pod = policies.compliant_pod(SPACE)
    if flip is not None:
        flip(pod["spec"])
    return pod


@pytest.fixture(scope="module")
def good_pod(policed: Policed) -> Spec:
    """The compliant pod is admitted: without this, every refusal below would prove nothing."""
    return policed.post(PODS, pod_with(), dry=False).require()


@pytest.mark.parametrize(("flip", "text"), parameters(of_new_pods()))
def test_one_flipped_field_is_named(
    policed: Policed, good_pod: Spec, flip: Callable[[Spec], object], text: str
) -> None:
    flipped = pod_with(flip)
    flipped["metadata"]["name"] = "flipped"
    answer = policed.post(PODS, flipped)
    assert answer.status in (403, 422), answer.body
    assert text in answer.body["message"]


def test_nobody_is_exempt(policed: Policed, good_pod: Spec) -> None:
    for flip, text in ((token, "spec.volumes[extra]"), (put(enableServiceLinks=True), "spec.enableServiceLinks")):
        flipped = pod_with(flip)
        flipped["metadata"]["name"] = "flipped"
        for who in (policed.admin, policed.exempt, policed.operator):
            answer = policed.post(PODS, flipped, who=who)
            assert answer.status in (403, 422), answer.body
            assert text in answer.body["message"]


def test_without_a_limit_range_every_container_needs_a_limit_of_local_storage(policed: Policed, good_pod: Spec) -> None:
    # In a tenant's namespace the LimitRange fills it in, so the rule is asked in one that has none.
    space = {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": "bare", "labels": {"unjucks.io/tenant": "bare"}},
    }
    policed.post("/api/v1/namespaces", space, who=policed.operator, dry=False)
    policed.post("/api/v1/namespaces", space, who=policed.exempt, dry=False)
    path = "/api/v1/namespaces/bare/pods"
    policed.plane.admin.wait(
        "/api/v1/namespaces/bare/serviceaccounts/default", lambda it: it.ok, timeout=20, what="account"
    )
    pod = policies.compliant_pod("bare")
    assert policed.post(path, pod).ok
    for kind, called in (("containers", "main"), ("initContainers", "first")):
        flipped = copy.deepcopy(pod)
        del flipped["spec"][kind][0]["resources"]["limits"]["ephemeral-storage"]
        message = policed.post(path, flipped).body["message"]
        assert f"spec.{kind}[{called}].resources.limits[ephemeral-storage]: must be set" in message
    # And in a tenant's own namespace such a pod gets the default.
    unlimited = pod_with(lambda spec: spec["containers"][0]["resources"]["limits"].pop("ephemeral-storage"))
    unlimited["metadata"]["name"] = "unlimited"
    limits = policed.post(PODS, unlimited).require()["spec"]["containers"][0]["resources"]["limits"]
    assert "ephemeral-storage" in limits


EPHEMERAL = [(name, flip, text.format("ephemeralContainers[look]"), ids) for name, flip, text, ids in OF_CONTAINERS]


@pytest.mark.parametrize(("flip", "text"), parameters(EPHEMERAL))
def test_containers_that_are_added_later_keep_the_rules(
    policed: Policed, good_pod: Spec, flip: Callable[[Spec], object], text: str
) -> None:
    path = f"{PODS}/{good_pod['metadata']['name']}"

    def added(container: Spec) -> Any:
        pod = policed.admin.get(path).require()
        pod["spec"]["ephemeralContainers"] = [container]
        return policed.admin.request("PUT", f"{path}/ephemeralcontainers?dryRun=All", pod)

    assert added(policies.compliant_ephemeral()).ok
    container = policies.compliant_ephemeral()
    flip(container)
    answer = added(container)
    assert answer.status in (403, 422), answer.body
    assert text in answer.body["message"]


@pytest.mark.isolation("T-image-prefix")
def test_images_are_compared_up_to_a_delimiter(policed: Policed, good_pod: Spec) -> None:
    digest = "sha256:" + "a" * 64
    for image in (IMAGE, f"{IMAGE}:2", f"{IMAGE}@{digest}", f"{IMAGE}:2@{digest}", f"{IMAGE}/sub/tool:1"):
        pod = pod_with(lambda spec, image=image: spec["containers"][0].update(image=image))  # type: ignore[misc]
        pod["metadata"]["name"] = "image"
        assert policed.post(PODS, pod).ok, image
    # A pod that runs already may not be given another image either.
    path = f"{PODS}/{good_pod['metadata']['name']}?dryRun=All"
    change = [{"op": "replace", "path": "/spec/containers/0/image", "value": f"{IMAGE}2:1"}]
    answer = policed.admin.request("PATCH", path, change, content_type="application/json-patch+json")
    assert "spec.containers[main].image" in answer.body["message"]


def test_a_pod_that_was_there_before_can_still_be_cleaned_up(policed: Policed) -> None:
    plane = policed.plane
    plane.kubectl("create", "namespace", "adopted")
    plane.admin.wait("/api/v1/namespaces/adopted/serviceaccounts/default", lambda it: it.ok, timeout=20, what="account")
    path = "/api/v1/namespaces/adopted/pods"
    pod = policies.compliant_pod("adopted", "old") | {}
    pod["spec"]["enableServiceLinks"] = True
    pod["metadata"]["finalizers"] = ["example.com/hold"]
    policed.post(path, pod, dry=False).require()
    label = {"metadata": {"labels": {"unjucks.io/tenant": "acme"}}}
    merge = "application/merge-patch+json"
    policed.operator.request("PATCH", "/api/v1/namespaces/adopted", label, content_type=merge).require()
    deadline = time.monotonic() + 10
    while policed.post(path, pod | {"metadata": {"name": "new"}}).ok:
        assert time.monotonic() < deadline, "the label is not seen"
        time.sleep(0.1)
    freed = policed.admin.request(
        "PATCH", f"{path}/old", {"metadata": {"finalizers": None, "labels": {"a": "b"}}}, content_type=merge
    )
    assert freed.ok, freed.body
    assert policed.admin.request("DELETE", f"{path}/old").ok


def test_what_the_configuration_says_of_places_is_allowed(policed: Policed) -> None:
    """Said once, in the operator's configuration: the policy of a chart with placed renderers admits exactly these places."""
    place = {
        "runtimeClass": "gvisor",
        "priorityClass": "tenants",
        "nodeSelector": {"example.com/pool": "tenants"},
        "tolerations": [{"key": "example.com/tenants", "operator": "Exists"}],
    }
    config = {
        "tiers": {"enterprise": {"rendererPods": place}},
        "regions": {"served": ["eu-1"], "nodeLabel": "example.com/region"},
    }
    item = chart.named(chart.render({"config": config}), policies.KINDS[0], "unjucks-tenant-pods")
    texts = json.dumps(item["spec"]["validations"]) + json.dumps(item["spec"]["variables"])
    for wanted in (
        '["gvisor"]',
        '["tenants"]',
        '["example.com/pool=tenants","example.com/region=eu-1"]',
        '"example.com/tenants"]',
    ):
        assert json.dumps(wanted)[1:-1] in texts, wanted


def test_the_renderers_keep_the_rules(policed: Policed) -> None:
    config = Config()
    scope = Scope(builders.tenant(name="acme", spec={"tier": "professional"}), config.tiers["professional"], config)
    object.__setattr__(config.renderer, "image", f"{IMAGE}:1")
    policed.plane.kubectl("apply", "--server-side", "-f", "-", stdin=json.dumps(build_service_account(scope)))
    isolated = build_isolated_pod(scope, SPACE, "orders", builders.JOB_UID, "unjucks-renderer-x-1", 60)
    assert policed.post(PODS, isolated, who=policed.operator).ok
    deployment = build_deployment(scope, 2)
    policed.plane.kubectl("apply", "--server-side", "-f", "-", stdin=json.dumps(deployment))
    path = f"{PODS}?labelSelector=unjucks.io/job="
    # Two real pods, made by the real controllers.
    policed.plane.admin.wait(path, lambda it: len(it.body.get("items", [])) == 2, timeout=30, what="two renderers")
    policed.plane.kubectl("delete", "deployment", "-n", SPACE, deployment["metadata"]["name"])


@pytest.mark.isolation("MTB-PL1-BC-CPI-3", "MTB-PL1-BC-CPI-4", "MTB-PL1-BC-CPI-5", "MTB-PL1-BC-CPI-6")
@pytest.mark.isolation("MTB-PL1-BC-HI-3", "MTB-PL1-BC-HI-4", "MTB-PL1-BC-HI-5", "MTB-PL1-BC-HI-1-hostpath")
@pytest.mark.isolation("T-image-prefix")
def test_no_flip_gets_a_pod_through_a_controller(policed: Policed) -> None:
    """Pod Security and policies look at pods, not at templates: what matters is that the controllers get none."""
    space = "tenant-acme2"
    template = policies.compliant_pod(space)["spec"]
    wanted = {"good": template}
    for number, (called, flip, _, _) in enumerate(of_new_pods()):
        flip(spec := copy.deepcopy(template))
        wanted[f"flip-{number}-{called}".lower().replace("_", "-")[:55]] = spec
    items = []
    for name, spec in wanted.items():
        labels = {"app": name}
        pods = {"metadata": {"labels": labels}, "spec": spec}
        one = {"replicas": 1, "selector": {"matchLabels": labels}, "template": pods}
        items.append(
            {"apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": {"name": name, "namespace": space}, "spec": one}
        )
        job = {"template": {"spec": spec | {"restartPolicy": "Never"}}}
        metadata = {"name": f"job-{name}", "namespace": space}
        items.append({"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": job})
    done = policed.plane.kubectl(
        "create", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": items}), check=False
    )
    admin = policed.plane.admin
    sets = f"/apis/apps/v1/namespaces/{space}/replicasets"
    made = {item["metadata"]["name"] for item in admin.get(sets).body["items"]}
    # A few are no valid template even; all others are taken as they are.
    assert {"good"} <= made
    assert len(made) > len(wanted) * 0.9
    assert all(name in done.stderr for name in wanted.keys() - made), done.stderr

    def settled(answer: Any) -> bool:
        """Every set has its pod, or a condition that says why it has none."""
        return all(
            item["status"].get("replicas")
            or any(it["type"] == "ReplicaFailure" for it in item["status"].get("conditions", ()))
            for item in answer.body["items"]
        )

    answer = admin.wait(sets, settled, timeout=60, what="all decided")
    with_pods = {item["metadata"]["name"] for item in answer.body["items"] if item["status"].get("replicas")}
    assert with_pods == {"good"}

    def jobs_tried(answer: Any) -> bool:
        failed = {it["involvedObject"]["name"] for it in answer.body["items"] if it["involvedObject"]["kind"] == "Job"}
        return len(failed) > len(wanted) * 0.9

    admin.wait(f"/api/v1/namespaces/{space}/events", jobs_tried, timeout=60, what="all jobs tried")
    running = admin.get(f"/api/v1/namespaces/{space}/pods").body["items"]
    owners = {owner["name"] for pod in running for owner in pod["metadata"]["ownerReferences"]}
    assert owners == {"good", "job-good"}
    policed.plane.kubectl("delete", "replicasets,jobs", "--all", "-n", space, "--wait=false")


@pytest.mark.isolation("MTB-PL1-BC-HI-1-nodeport")
@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"type": "NodePort"}, "spec.type: must be ClusterIP, not NodePort"),
        ({"type": "LoadBalancer"}, "spec.type: must be ClusterIP, not LoadBalancer"),
        ({"type": "ExternalName", "externalName": "x.example"}, "spec.type: must be ClusterIP, not ExternalName"),
        ({"externalIPs": ["198.51.100.1"]}, "spec.externalIPs"),
        ({"externalName": "x.example"}, "spec.externalName"),
    ],
    ids=["node-port", "load-balancer", "external-name", "external-ips", "external-name-alone"],
)
def test_services_stay_inside(policed: Policed, change: dict[str, Any], text: str) -> None:
    path = f"/api/v1/namespaces/{SPACE}/services"
    assert policed.post(path, policies.compliant_service(SPACE)).ok
    service = policies.compliant_service(SPACE)
    service["spec"] |= change
    answer = policed.post(path, service)
    assert answer.status in (403, 422), answer.body
    assert text in answer.body["message"]


@pytest.mark.isolation("MTB-PL1-BC-HI-1-nodeport")
def test_a_service_cannot_take_foreign_traffic_later(policed: Policed) -> None:
    path = f"/api/v1/namespaces/{SPACE}/services"
    policed.post(path, policies.compliant_service(SPACE, "later"), dry=False).require()
    merge = "application/merge-patch+json"
    for patch, subresource, text in (
        ({"spec": {"type": "NodePort"}}, "", "spec.type: must be ClusterIP"),
        ({"spec": {"externalIPs": ["198.51.100.1"]}}, "", "spec.externalIPs"),
        ({"status": {"loadBalancer": {"ingress": [{"ip": "198.51.100.1"}]}}}, "/status", "loadBalancer.ingress"),
    ):
        answer = policed.admin.request("PATCH", f"{path}/later{subresource}", patch, content_type=merge)
        assert answer.status in (403, 422), answer.body
        assert text in answer.body["message"]
    slices = f"/apis/discovery.k8s.io/v1/namespaces/{SPACE}/endpointslices"
    forged = {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": "forged", "labels": {"kubernetes.io/service-name": "later"}},
        "addressType": "IPv4",
        "endpoints": [{"addresses": ["198.51.100.1"]}],
    }
    assert "say where a service leads" in policed.post(slices, forged).body["message"]
    assert policed.post("/apis/discovery.k8s.io/v1/namespaces/plain/endpointslices", forged).ok
    # The controllers' own slice is there.
    policed.plane.admin.wait(slices, lambda it: bool(it.body.get("items")), timeout=20, what="the controller's slice")


@pytest.mark.isolation("T-operator-down", state="down")
def test_nobody_elses_pods_are_hindered(policed: Policed) -> None:
    careless = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "x"},
        "spec": {"containers": [{"name": "a", "image": "any"}]},
    }
    for space in ("kube-system", "default", "plain", "unjucks-system"):
        path = f"/api/v1/namespaces/{space}"
        policed.plane.admin.wait(f"{path}/serviceaccounts/default", lambda it: it.ok, timeout=20, what="account")
        assert policed.post(f"{path}/pods", careless).ok, space
        service = policies.compliant_service(space)
        service["spec"]["type"] = "NodePort"
        assert policed.post(f"{path}/services", service).ok, space
    # Not even when somebody labels the system's namespaces like a tenant's.
    for space in ("kube-system", "unjucks-system"):
        policed.plane.kubectl("label", "namespace", space, "unjucks.io/tenant=acme")
        time.sleep(1)
        assert policed.post(f"/api/v1/namespaces/{space}/pods", careless).ok, space
        policed.plane.kubectl("label", "namespace", space, "unjucks.io/tenant-")
