"""The control plane of the tests is a real one: it authenticates, authorises, admits, collects and counts."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from e2e.cluster.controlplane import ControlPlane
from support.controlplane import ControlPlaneFactory

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]

NAMESPACES = "/api/v1/namespaces"


def _namespace(name: str, **labels: str) -> dict[str, object]:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}


def test_rbac_refuses_an_unknown_user_and_admits_a_group(control_plane: ControlPlane) -> None:
    assert control_plane.client_for("eve").get(NAMESPACES).status == 403
    assert control_plane.client_for("eve", ["system:masters"]).get(NAMESPACES).status == 200
    kubeconfig = str(control_plane.kubeconfig_for("mallory"))
    result = control_plane.kubectl("get", "namespaces", f"--kubeconfig={kubeconfig}", check=False)
    assert result.returncode == 1
    assert 'User "mallory" cannot list resource "namespaces"' in result.stderr


def test_pod_security_refuses_a_privileged_pod(control_plane: ControlPlane) -> None:
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    control_plane.admin.request("POST", NAMESPACES, _namespace("cp-pss", **labels)).require()
    control_plane.admin.wait(
        f"{NAMESPACES}/cp-pss/serviceaccounts/default", lambda a: a.ok, timeout=30, what="default service account"
    )
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "p"},
        "spec": {"containers": [{"name": "c", "image": "x", "securityContext": {"privileged": True}}]},
    }
    answer = control_plane.admin.request("POST", f"{NAMESPACES}/cp-pss/pods", pod)
    assert answer.status == 403
    assert 'violates PodSecurity "restricted:latest"' in answer.body["message"]


def test_validating_admission_policy_is_enforced(control_plane: ControlPlane) -> None:
    admission = "/apis/admissionregistration.k8s.io/v1"
    policy = {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicy",
        "metadata": {"name": "cp-no-secret-word"},
        "spec": {
            "matchConstraints": {
                "resourceRules": [
                    {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["configmaps"]}
                ]
            },
            "validations": [{"expression": "!('forbidden' in object.data)", "message": "this key is forbidden"}],
        },
    }
    binding = {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": {"name": "cp-no-secret-word"},
        "spec": {"policyName": "cp-no-secret-word", "validationActions": ["Deny"]},
    }
    control_plane.admin.apply(f"{admission}/validatingadmissionpolicies/cp-no-secret-word", policy).require()
    control_plane.admin.apply(f"{admission}/validatingadmissionpolicybindings/cp-no-secret-word", binding).require()
    control_plane.admin.request("POST", NAMESPACES, _namespace("cp-vap")).require()
    bad = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"generateName": "c-"}, "data": {"forbidden": "1"}}
    try:
        for _ in range(200):  # the policy is compiled in the background; until then the object is admitted
            answer = control_plane.admin.request("POST", f"{NAMESPACES}/cp-vap/configmaps", bad)
            if answer.status != 201:
                break
            time.sleep(0.1)
        assert answer.status == 422
        assert "this key is forbidden" in answer.body["message"]
    finally:
        control_plane.admin.request("DELETE", f"{admission}/validatingadmissionpolicybindings/cp-no-secret-word")
        control_plane.admin.request("DELETE", f"{admission}/validatingadmissionpolicies/cp-no-secret-word")


def test_controllers_delete_a_namespace_with_its_objects(control_plane: ControlPlane) -> None:
    admin = control_plane.admin
    admin.request("POST", NAMESPACES, _namespace("cp-gone")).require()
    policy = {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": "deny"},
        "spec": {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]},
    }
    admin.request("POST", "/apis/networking.k8s.io/v1/namespaces/cp-gone/networkpolicies", policy).require()
    admin.request("DELETE", f"{NAMESPACES}/cp-gone").require()
    admin.wait(f"{NAMESPACES}/cp-gone", lambda a: a.status == 404, timeout=60, what="namespace gone")
    assert admin.get("/apis/networking.k8s.io/v1/namespaces/cp-gone/networkpolicies/deny").status == 404


def test_writes_counts_each_write_once_and_no_reads(fresh_control_plane: ControlPlane) -> None:
    mark = fresh_control_plane.audit_mark()
    writer = fresh_control_plane.client_for("writer", ["system:masters"])
    for number in range(20):
        writer.request("POST", NAMESPACES, _namespace(f"cp-count-{number}")).require()
        writer.get(f"{NAMESPACES}/cp-count-{number}").require()
    assert writer.request("POST", NAMESPACES, _namespace("cp-count-0")).status == 409
    mine = fresh_control_plane.writes(mark, user="writer")
    assert [(w.verb, w.resource, w.name, w.code) for w in mine] == [
        ("create", "namespaces", f"cp-count-{number}", 201) for number in range(20)
    ] + [("create", "namespaces", "cp-count-0", 409)]
    assert fresh_control_plane.writes(fresh_control_plane.audit_mark(), user="writer") == []


def test_data_outlives_a_restart_of_etcd_and_apiserver(fresh_control_plane: ControlPlane) -> None:
    plane = fresh_control_plane
    plane.admin.request("POST", NAMESPACES, _namespace("cp-kept")).require()
    assert plane.apiserver is not None
    assert plane.etcd is not None
    plane.apiserver.stop()
    with pytest.raises(OSError, match="refused"):
        plane.admin.get("/readyz")
    plane.etcd.stop()
    plane.start_etcd()
    plane.start_apiserver()
    assert plane.admin.get(f"{NAMESPACES}/cp-kept").status == 200


def test_several_at_once_do_not_see_each_other(
    control_plane: ControlPlane, control_plane_factory: ControlPlaneFactory
) -> None:
    other = control_plane_factory(controllers=False, audit="")
    assert other.server != control_plane.server
    other.admin.request("POST", NAMESPACES, _namespace("cp-other")).require()
    assert control_plane.admin.get(f"{NAMESPACES}/cp-other").status == 404
    with pytest.raises(RuntimeError, match="without an audit log"):
        other.writes()


def test_nothing_keeps_running_when_python_is_killed(tmp_path: Path) -> None:
    script = (
        "import sys, time\n"
        "from e2e.cluster.controlplane import ControlPlane, Options\n"
        "plane = ControlPlane.start(Options(controllers=False, audit=''))\n"
        "print(plane.etcd.pid, plane.apiserver.pid, flush=True)\n"
        "time.sleep(600)\n"
    )
    environment = dict(os.environ) | {"PYTHONPATH": str(Path(__file__).parents[2]), "TMPDIR": str(tmp_path)}
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, env=environment) as child:
        assert child.stdout is not None
        pids = [int(part) for part in child.stdout.readline().split()]
        assert len(pids) == 2
        assert all(Path(f"/proc/{pid}").exists() for pid in pids)
        child.send_signal(signal.SIGKILL)
    for _ in range(300):
        if not any(_alive(pid) for pid in pids):
            break
        time.sleep(0.1)
    assert [pid for pid in pids if _alive(pid)] == []


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
