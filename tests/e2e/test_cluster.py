"""The cluster of the tests is a real one: kubelet, logs, exec, DNS, services, and policies that stop packets."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from e2e.cluster import provider
from e2e.cluster.provider import AnyCluster
from support.netns import ADDRESS, Internet, internet

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]
SPACE = "cluster-test"
DENY = {
    "apiVersion": "networking.k8s.io/v1",
    "kind": "NetworkPolicy",
    "metadata": {"name": "deny", "namespace": SPACE},
    "spec": {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]},
}
ALLOW_DNS = {
    "apiVersion": "networking.k8s.io/v1",
    "kind": "NetworkPolicy",
    "metadata": {"name": "dns", "namespace": SPACE},
    "spec": {
        "podSelector": {},
        "policyTypes": ["Egress"],
        "egress": [
            {
                "to": [
                    {
                        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}},
                        "podSelector": {"matchLabels": {"k8s-app": "kube-dns"}},
                    }
                ],
                "ports": [{"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP"}],
            }
        ],
    },
}


def _pod(name: str, image: str, *command: str) -> dict[str, Any]:
    security = {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": True,
        "runAsNonRoot": True,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    container = {"name": "main", "image": image, "command": list(command), "securityContext": security}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": SPACE, "labels": {"app": name}},
        "spec": {"containers": [container], "terminationGracePeriodSeconds": 0},
    }


def _apply(cluster: AnyCluster, *objects: dict[str, Any]) -> None:
    items = json.dumps({"apiVersion": "v1", "kind": "List", "items": list(objects)})
    cluster.kubectl("apply", "--server-side", "--filename=-", stdin=items)


@pytest.fixture(scope="module")
def pods(cluster: AnyCluster, cluster_images: dict[str, str]) -> Iterator[AnyCluster]:
    """A namespace under Pod Security `restricted` with a server, its service and a client."""
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    space = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": SPACE, "labels": labels}}
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "server", "namespace": SPACE},
        "spec": {"selector": {"app": "server"}, "ports": [{"port": 80, "targetPort": 8080}]},
    }
    image = cluster_images["base"]
    _apply(cluster, space)
    _apply(
        cluster,
        service,
        _pod("server", image, "python3", "-m", "http.server", "8080", "--directory=/usr/share"),
        _pod("client", image, "python3", "-c", "import time; print('hello', flush=True); time.sleep(100000)"),
    )
    cluster.kubectl("wait", f"--namespace={SPACE}", "--for=condition=Ready", "pod", "--all", "--timeout=90s")
    yield cluster
    cluster.kubectl("delete", "namespace", SPACE, "--wait=true", "--timeout=90s")


def _python(cluster: AnyCluster, code: str) -> str:
    return cluster.kubectl("exec", f"--namespace={SPACE}", "client", "--", "python3", "-c", code).stdout.strip()


def _reach(cluster: AnyCluster, host: str, port: int) -> str:
    """ "connected", or the name of the error, of a TCP connection from the client pod."""
    return _python(
        cluster,
        "import socket\n"
        "try:\n"
        f"    socket.create_connection(({host!r}, {port}), 3).close(); print('connected')\n"
        "except OSError as error:\n"
        "    print(type(error).__name__)\n",
    )


def _until(cluster: AnyCluster, host: str, port: int, *, connected: bool) -> str:
    """Policies take a moment to become rules; then they hold."""
    for _ in range(60):
        result = _reach(cluster, host, port)
        if (result == "connected") == connected:
            break
        time.sleep(0.5)
    return result


def test_logs_and_exec(pods: AnyCluster) -> None:
    assert pods.kubectl("logs", f"--namespace={SPACE}", "client").stdout == "hello\n"
    assert _python(pods, "import os; print(os.getuid())") == "65532"


def test_the_image_has_no_shell_and_no_pip(pods: AnyCluster) -> None:
    result = pods.kubectl("exec", f"--namespace={SPACE}", "client", "--", "/bin/sh", "-c", "true", check=False)
    assert result.returncode != 0
    assert _python(pods, "import importlib.util; print(importlib.util.find_spec('pip'))") == "None"


def test_dns_and_services(pods: AnyCluster) -> None:
    address = pods.kubectl("get", f"--namespace={SPACE}", "service", "server", "-o=jsonpath={.spec.clusterIP}").stdout
    assert _python(pods, f"import socket; print(socket.gethostbyname('server.{SPACE}.svc.cluster.local'))") == address
    assert _python(pods, "import socket; print(socket.gethostbyname('server'))") == address
    assert _reach(pods, "server", 80) == "connected"


@pytest.fixture
def outside(pods: AnyCluster, tmp_path: Path) -> Iterator[Internet]:
    """A stand-in for the internet beside the node."""
    with internet(provider.node_pid(pods), tmp_path / "internet.log") as running:
        yield running


def test_default_deny_stops_packets(pods: AnyCluster, outside: Internet) -> None:
    apiserver = pods.kubectl("get", "service", "kubernetes", "-o=jsonpath={.spec.clusterIP}").stdout
    node = pods.kubectl(
        "get", "nodes", "-o=jsonpath={.items[0].status.addresses[?(@.type=='InternalIP')].address}"
    ).stdout
    server = pods.kubectl("get", f"--namespace={SPACE}", "pod", "server", "-o=jsonpath={.status.podIP}").stdout
    targets = [(server, 8080), (apiserver, 443), (node, 6443), (node, 10250), (ADDRESS, 80)]
    assert [_reach(pods, *target) for target in targets] == ["connected"] * len(targets)
    assert outside.requests() != []
    _apply(pods, DENY, ALLOW_DNS)
    try:
        assert _until(pods, server, 8080, connected=False) != "connected"
        reached = len(outside.requests())
        assert [target for target in targets if _reach(pods, *target) == "connected"] == []
        assert len(outside.requests()) == reached  # not only no answer: no packet came out
        # The name still resolves, the connection does not come about.
        assert _python(pods, "import socket; print(socket.gethostbyname('server'))").startswith("10.")
        assert _reach(pods, "server", 80) != "connected"
    finally:
        pods.kubectl("delete", f"--namespace={SPACE}", "networkpolicy", "--all")
    assert _until(pods, server, 8080, connected=True) == "connected"


def test_privileged_pod_is_refused(pods: AnyCluster, cluster_images: dict[str, str]) -> None:
    pod = _pod("privileged", cluster_images["base"], "python3")
    pod["spec"]["containers"][0]["securityContext"] = {"privileged": True}
    answer = pods.admin.request("POST", f"/api/v1/namespaces/{SPACE}/pods", pod)
    assert answer.status == 403
    assert "violates PodSecurity" in answer.body["message"]


def test_images_are_loaded_once(cluster: AnyCluster, cluster_images: dict[str, str]) -> None:
    assert set(cluster_images.values()) <= cluster.images()
