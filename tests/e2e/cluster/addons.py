"""What a cluster needs beyond its programs: the DNS server, as a real pod that NetworkPolicies can select.

CoreDNS is the component program, mounted from the host read-only; its image is the pause image, so nothing is downloaded.
"""

import platform
from pathlib import Path
from typing import Any, Final

from e2e.cluster.components import PAUSE_IMAGE
from e2e.cluster.settings import Settings

_LABELS: Final = {"k8s-app": "kube-dns"}


def architecture() -> str:
    """The machine's architecture in the words of image formats."""
    return {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())


def corefile() -> str:
    """Cluster names only: the cluster has no way to the outside, so there is nobody to forward other names to."""
    return """.:53 {
    errors
    health :8080
    ready :8181
    kubernetes cluster.local in-addr.arpa {
        pods insecure
        ttl 5
    }
    cache 5
}
"""


def dns_objects(settings: Settings, programs: Path) -> list[dict[str, Any]]:
    """All objects of the DNS server."""
    meta = {"name": "coredns", "namespace": "kube-system"}
    role = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRole",
        "metadata": {"name": "system:coredns"},
        "rules": [
            {
                "apiGroups": [""],
                "resources": ["services", "pods", "namespaces"],
                "verbs": ["list", "watch"],
            },
            {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["list", "watch"]},
        ],
    }
    binding = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": "system:coredns"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "system:coredns"},
        "subjects": [{"kind": "ServiceAccount", **meta}],
    }
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "kube-dns", "namespace": "kube-system", "labels": _LABELS},
        "spec": {
            "clusterIP": settings.dns_service,
            "selector": _LABELS,
            "ports": [
                {"name": "dns", "port": 53, "protocol": "UDP", "targetPort": 53},
                {"name": "dns-tcp", "port": 53, "protocol": "TCP", "targetPort": 53},
            ],
        },
    }
    return [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": meta},
        role,
        binding,
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": {"Corefile": corefile()}},
        service,
        {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": meta, "spec": _deployment(programs)},
    ]


def _deployment(programs: Path) -> dict[str, Any]:
    container = {
        "name": "coredns",
        "image": PAUSE_IMAGE,
        "imagePullPolicy": "Never",
        "command": ["/programs/coredns", "-conf", "/etc/coredns/Corefile"],
        "ports": [
            {"name": "dns", "containerPort": 53, "protocol": "UDP"},
            {"name": "dns-tcp", "containerPort": 53, "protocol": "TCP"},
        ],
        "readinessProbe": {"httpGet": {"path": "/ready", "port": 8181}, "periodSeconds": 1},
        "resources": {"requests": {"cpu": "20m", "memory": "32Mi"}, "limits": {"memory": "256Mi"}},
        "securityContext": {
            "runAsUser": 0,
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"], "add": ["NET_BIND_SERVICE"]},
        },
        "volumeMounts": [
            {"name": "config", "mountPath": "/etc/coredns", "readOnly": True},
            {"name": "programs", "mountPath": "/programs", "readOnly": True},
        ],
    }
    return {
        "replicas": 1,
        "selector": {"matchLabels": _LABELS},
        "template": {
            "metadata": {"labels": _LABELS},
            "spec": {
                "serviceAccountName": "coredns",
                "priorityClassName": "system-cluster-critical",
                "dnsPolicy": "Default",
                "containers": [container],
                "volumes": [
                    {"name": "config", "configMap": {"name": "coredns"}},
                    {"name": "programs", "hostPath": {"path": str(programs), "type": "Directory"}},
                ],
            },
        },
    }
