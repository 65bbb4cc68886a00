"""The objects of a probe, all in the operator's own namespace: a server, a client, a policy for each. Pure; called by ``probe``.

    port      client may call it    server lets it in    so a connection means
    ALLOWED   yes                   yes                  the network works
    INGRESS   yes                   no                   nobody enforces what comes in
    EGRESS    no                    yes                  nobody enforces what goes out

The pods hold no credential and keep the rules of the level restricted. The program is part of the renderer's image.
"""

from typing import Any, Final

from unjucks_api import names
from unjucks_operator.config import Config

Manifest = dict[str, Any]

ALLOWED: Final = 8081
INGRESS: Final = 8082
EGRESS: Final = 8083

_USER: Final = 65532
_PROGRAM: Final = ("python3", "-m", "unjucks_runtime.network_probe")


def build_policies(config: Config) -> tuple[Manifest, Manifest]:
    """The server's and the client's policy. They stay between probes: a probe starts with them in force."""
    server, client = _selector(names.COMPONENT_PROBE_SERVER), _selector(names.COMPONENT_PROBE_CLIENT)
    return (
        _policy(config, "server", server, {"ingress": [{"from": [{"podSelector": client}], "ports": _ports(EGRESS)}]}),
        _policy(config, "client", client, {"egress": [{"to": [{"podSelector": server}], "ports": _ports(INGRESS)}]}),
    )


def build_server(config: Config, suffix: str) -> Manifest:
    """The pod that listens. It ends by itself should the operator die."""
    command = (*_PROGRAM, "serve", str(ALLOWED), str(INGRESS), str(EGRESS))
    return _pod(config, names.COMPONENT_PROBE_SERVER, f"{names.PROBE}-server-{suffix}", command)


def build_client(config: Config, suffix: str, host: str) -> Manifest:
    """The pod that tries, on another node than the server where there is one. Its report is its termination message."""
    probe = config.network.probe
    command = (*_PROGRAM, "try", host, str(ALLOWED), str(INGRESS), str(EGRESS))
    limits = ("--patience", f"{probe.patience:g}", "--settle", f"{probe.settle:g}")
    pod = _pod(config, names.COMPONENT_PROBE_CLIENT, f"{names.PROBE}-client-{suffix}", (*command, *limits))
    term = {"topologyKey": "kubernetes.io/hostname", "labelSelector": _selector(names.COMPONENT_PROBE_SERVER)}
    preferred = [{"weight": 100, "podAffinityTerm": term}]
    pod["spec"]["affinity"] = {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": preferred}}
    return pod


def deadline(config: Config) -> int:
    """Seconds after which a pod of a probe ends whatever happens: two starts, and what the client may take."""
    probe = config.network.probe
    return int(3 * probe.patience + 2 * probe.settle + 30)


def _pod(config: Config, component: str, name: str, command: tuple[str, ...]) -> Manifest:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": config.platform_namespace, "labels": _labels(component)},
        "spec": {
            "restartPolicy": "Never",
            "activeDeadlineSeconds": deadline(config),
            "terminationGracePeriodSeconds": 0,
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": _USER,
                "runAsGroup": _USER,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [
                {
                    "name": "probe",
                    "image": config.renderer.image,
                    "imagePullPolicy": config.renderer.image_pull_policy,
                    "command": list(command),
                    "resources": {
                        "requests": {"cpu": "10m", "memory": "32Mi", "ephemeral-storage": "1Mi"},
                        "limits": {"cpu": "200m", "memory": "64Mi", "ephemeral-storage": "16Mi"},
                    },
                    "securityContext": {
                        "allowPrivilegeEscalation": False,
                        "readOnlyRootFilesystem": True,
                        "capabilities": {"drop": ["ALL"]},
                    },
                }
            ],
        },
    }


def _policy(config: Config, name: str, selector: Manifest, rules: Manifest) -> Manifest:
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {
            "name": f"{names.PROBE}-{name}",
            "namespace": config.platform_namespace,
            "labels": _labels(f"network-probe-{name}"),
        },
        "spec": {"podSelector": selector, "policyTypes": ["Ingress", "Egress"], **rules},
    }


def _ports(other: int) -> list[Manifest]:
    return [{"port": port, "protocol": "TCP"} for port in (ALLOWED, other)]


def _selector(component: str) -> Manifest:
    return {"matchLabels": {names.LABEL_NAME: names.PART_OF, names.LABEL_COMPONENT: component}}


def _labels(component: str) -> dict[str, str]:
    return {
        names.LABEL_NAME: names.PART_OF,
        names.LABEL_COMPONENT: component,
        names.LABEL_PART_OF: names.PART_OF,
        names.LABEL_MANAGED_BY: names.MANAGED_BY,
    }
