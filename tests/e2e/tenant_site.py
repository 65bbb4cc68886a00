"""What the end-to-end tests about tenants share: pods that try connections, and what they are pointed at.

The fixture ``site`` (tests/e2e/conftest.py) has three tenants: ``amber`` and ``birch`` with nothing opened, ``cedar`` with the
rules ``RULES``; and the namespace ``plain``, which is nobody's, for the controls. Every "cannot" needs one: a dead target is no
closed door.
"""

import json
from typing import Any, Final

from e2e.cluster.provider import AnyCluster
from e2e.install import NAMESPACE as PLATFORM
from support import policies
from support.netns import ADDRESS, DISTANT
from unjucks_api import names

TENANTS: Final = ("amber", "birch", "cedar")
PLAIN: Final = "plain"
STAND_IN_RANGE: Final = "198.51.100.128/25"
"""Declared as the cluster's own: what an excluded range does to real packets, the metadata service's too, is shown with it."""
VALUES: Final = {
    "network": {"clusterCidrs": [STAND_IN_RANGE], "ingressNamespaces": [PLAIN]},
    "policies": {"pods": {"images": [policies.IMAGE]}},
}
RULES: Final = {
    "ingressFrom": [{"namespace": PLAIN, "ports": [8080]}],
    "egressTo": [
        {"cidr": f"{ADDRESS}/32", "ports": [80]},
        {"cidr": "198.51.0.0/16", "ports": [443]},
        {"cidr": "0.0.0.0/0", "ports": [5432, 6443, 8080, 8081, 8443, 9443, 10250]},
    ],
}
assert DISTANT.startswith("198.51.100.2")  # inside the stand-in range
PORTS: Final = (8080, 8081)

Aim = tuple[str, int]
_SERVER: Final = f"""
import socket, threading
def run(port):
    server = socket.create_server(("", port))
    while True:
        server.accept()[0].close()
for port in {PORTS}:
    threading.Thread(target=run, args=(port,)).start()
"""
# A question for the address of a name, as any resolver sends it.
_CLIENT: Final = """
import concurrent.futures, json, socket, sys
NAME = "kubernetes.default.svc.cluster.local"
LABELS = b"".join(bytes([len(part)]) + part.encode() for part in NAME.split("."))
QUERY = b"\\0\\7\\1\\0\\0\\1\\0\\0\\0\\0\\0\\0" + LABELS + b"\\0\\0\\1\\0\\1"
def attempt(item):
    name, (host, port, kind) = item
    try:
        if kind == "udp":
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
                client.settimeout(3)
                client.connect((host, port))
                client.send(QUERY)
                client.recv(512)
        else:
            socket.create_connection((host, port), 3).close()
        return name, "connected"
    except OSError as error:
        return name, type(error).__name__
aims = json.loads(sys.argv[1])
with concurrent.futures.ThreadPoolExecutor(len(aims)) as pool:
    print(json.dumps(dict(pool.map(attempt, aims.items()))))
"""


def apply(cluster: AnyCluster, *objects: dict[str, Any]) -> None:
    """Server-side apply as administrator."""
    items = json.dumps({"apiVersion": "v1", "kind": "List", "items": list(objects)})
    cluster.kubectl("apply", "--server-side", "--filename=-", stdin=items)


def get(cluster: AnyCluster, *arguments: str) -> dict[str, Any]:
    """``kubectl get -o json``."""
    found: dict[str, Any] = json.loads(cluster.kubectl("get", *arguments, "-o", "json").stdout)
    return found


def space(tenant: str) -> str:
    """The namespace of a tenant; any other name is a namespace itself."""
    return names.default_namespace(tenant) if tenant in TENANTS else tenant


def probe(tenant: str, image: str, name: str = "probe", **labels: str) -> dict[str, Any]:
    """A pod that serves on two ports and from which connections are tried; as a tenant's pods have to be."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": space(tenant), "labels": {"app": "probe", **labels}},
        "spec": {
            "terminationGracePeriodSeconds": 0,
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "securityContext": {"runAsNonRoot": True, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [
                {
                    "name": "main",
                    "image": image,
                    "imagePullPolicy": "IfNotPresent",
                    "command": ["python3", "-c", _SERVER],
                    "securityContext": {
                        "allowPrivilegeEscalation": False,
                        "readOnlyRootFilesystem": True,
                        "capabilities": {"drop": ["ALL"]},
                    },
                    "resources": {"limits": {"cpu": "100m", "memory": "64Mi", "ephemeral-storage": "16Mi"}},
                }
            ],
        },
    }


def service(tenant: str) -> dict[str, Any]:
    """A Service of the tenant's probe."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "probe", "namespace": space(tenant)},
        "spec": {"selector": {"app": "probe"}, "ports": [{"port": 80, "targetPort": 8080}]},
    }


def reach_all(
    cluster: AnyCluster, tenant: str, aims: dict[str, Aim], *, kind: str = "tcp", pod: str = "probe"
) -> dict[str, str]:
    """What the connections from the tenant's probe come to, all tried at once: "connected" or the error's name."""
    wanted = json.dumps({name: (*aim, kind) for name, aim in aims.items()})
    done = cluster.kubectl("exec", "-n", space(tenant), pod, "--", "python3", "-c", _CLIENT, wanted)
    found: dict[str, str] = json.loads(done.stdout)
    return found


def reach(cluster: AnyCluster, tenant: str, host: str, port: int) -> str:
    """The same for one."""
    return reach_all(cluster, tenant, {"it": (host, port)})["it"]


def connected(found: dict[str, str]) -> set[str]:
    """The names that were reached."""
    return {name for name, result in found.items() if result == "connected"}


def pod_address(cluster: AnyCluster, tenant: str, name: str = "probe") -> str:
    """The address of a pod."""
    return str(get(cluster, "pod", name, "-n", space(tenant))["status"]["podIP"])


def service_address(cluster: AnyCluster, namespace: str, name: str) -> str:
    """The address of a Service."""
    return str(get(cluster, "service", name, "-n", namespace)["spec"]["clusterIP"])


def targets(cluster: AnyCluster) -> dict[str, Aim]:
    """Everything that a tenant's pod has no business with, as far as it runs now."""
    node = get(cluster, "nodes")["items"][0]
    address = next(it["address"] for it in node["status"]["addresses"] if it["type"] == "InternalIP")
    found = {
        "pod of the other tenant": (pod_address(cluster, "birch"), 8080),
        "service of the other tenant": (service_address(cluster, space("birch"), "probe"), 80),
        "apiserver": (service_address(cluster, "default", "kubernetes"), 443),
        "apiserver on its node": (address, 6443),
        "kubelet": (address, 10250),
        "internet": (ADDRESS, 80),
        "metadata stand-in": (DISTANT, 443),
    }
    ports = {"operator": 8080, "postgres": 5432, "webhooks": 9443}
    for component, port in ports.items():
        pods = get(cluster, "pods", "-n", PLATFORM, "-l", f"app.kubernetes.io/component={component}")["items"]
        running = [pod["status"]["podIP"] for pod in pods if pod["status"].get("podIP")]
        if running:
            found["database" if component == "postgres" else component] = (running[0], port)
    renderers = get(cluster, "pods", "-n", space("birch"), "-l", "app.kubernetes.io/component=renderer")["items"]
    if renderers:
        found["renderer of the other tenant"] = (renderers[0]["status"]["podIP"], names.RENDERER_PORT)
    return found
