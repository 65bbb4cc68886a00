"""Objects of tenants that are refused: each is a compliant one in which exactly one field is flipped, with what the refusal names.

Pure data, for the API server alone (tests/integration/policies) and for the real cluster (tests/e2e). A flip belongs to lines of
the isolation matrix by their ids.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest

from support.policies import IMAGE

Spec = dict[str, Any]
Flip = tuple[str, Callable[[Spec], object], str, str]


def security(**values: Any) -> Callable[[Spec], object]:
    return lambda spec: spec["securityContext"].update(values)


def put(**values: Any) -> Callable[[Spec], object]:
    return lambda spec: spec.update(values)


def volume(**source: Any) -> Callable[[Spec], object]:
    return lambda spec: spec["volumes"].append({"name": "extra", **source})


def token(spec: Spec) -> None:
    volume(projected={"sources": [{"serviceAccountToken": {"path": "token"}}]})(spec)


# (name, what is flipped in the pod's specification, what the refusal names, lines of the isolation matrix)
OF_PODS: list[Flip] = [
    ("automount", put(automountServiceAccountToken=True), "spec.automountServiceAccountToken", ""),
    ("automount-unset", lambda spec: spec.pop("automountServiceAccountToken"), "spec.automountServiceAccountToken", ""),
    ("token", token, "spec.volumes[extra].projected.sources", ""),
    (
        "cluster-certificates",
        volume(projected={"sources": [{"clusterTrustBundle": {"name": "x", "path": "ca"}}]}),
        "spec.volumes[extra].projected.sources",
        "",
    ),
    ("service-links", put(enableServiceLinks=True), "spec.enableServiceLinks", ""),
    ("service-links-unset", lambda spec: spec.pop("enableServiceLinks"), "spec.enableServiceLinks", ""),
    ("node", put(nodeName="node-1"), "spec.nodeName", ""),
    ("host-aliases", put(hostAliases=[{"ip": "198.51.100.1", "hostnames": ["x"]}]), "spec.hostAliases", ""),
    ("scheduler", put(schedulerName="mine"), "spec.schedulerName", ""),
    ("runtime-class", put(runtimeClassName="mine"), "spec.runtimeClassName", ""),
    ("priority", put(priorityClassName="system-cluster-critical"), "spec.priorityClassName", ""),
    ("node-selector", put(nodeSelector={"kubernetes.io/hostname": "node-1"}), "spec.nodeSelector", ""),
    ("toleration", put(tolerations=[{"key": "dedicated", "operator": "Exists"}]), "spec.tolerations[dedicated]", ""),
    ("toleration-of-all", put(tolerations=[{"operator": "Exists"}]), "spec.tolerations[]", ""),
    ("affinity", put(affinity={"nodeAffinity": {}}), "spec.affinity", ""),
    ("devices", put(resourceClaims=[{"name": "gpu", "resourceClaimName": "gpu"}]), "spec.resourceClaims", ""),
    ("image-volume", volume(image={"reference": f"{IMAGE}2:1"}), "spec.volumes[extra]", "T-image-prefix"),
    ("csi", volume(csi={"driver": "x.example"}), "spec.volumes[extra]", "MTB-PL1-BC-HI-1-hostpath"),
    # What Pod Security holds.
    ("host-path", volume(hostPath={"path": "/"}), 'restricted volume type "hostPath"', "MTB-PL1-BC-HI-1-hostpath"),
    ("nfs", volume(nfs={"server": "x", "path": "/"}), 'restricted volume type "nfs"', "MTB-PL1-BC-HI-1-hostpath"),
    ("host-network", put(hostNetwork=True), "hostNetwork=true", "MTB-PL1-BC-HI-3"),
    ("host-pid", put(hostPID=True), "hostPID=true", "MTB-PL1-BC-HI-4"),
    ("host-ipc", put(hostIPC=True), "hostIPC=true", "MTB-PL1-BC-HI-5"),
    ("root", security(runAsUser=0), "runAsUser=0", "MTB-PL1-BC-CPI-4"),
    ("may-be-root", security(runAsNonRoot=False), "runAsNonRoot != true", "MTB-PL1-BC-CPI-4"),
    ("seccomp", security(seccompProfile={"type": "Unconfined"}), 'seccompProfile.type to "Unconfined"', "MTB-PL1-BC-CPI-6"),
    ("sysctl", security(sysctls=[{"name": "kernel.msgmax", "value": "1"}]), "kernel.msgmax", "MTB-PL1-BC-CPI-6"),
    (
        "windows-host-process",
        security(windowsOptions={"hostProcess": True}),
        "hostProcess",
        "MTB-PL1-BC-CPI-5",
    ),
]  # fmt: skip

CAPABILITIES = ("NET_RAW", "SETPCAP", "SYS_ADMIN", "NET_ADMIN", "SYS_PTRACE", "DAC_OVERRIDE", "CHOWN")


def context(**values: Any) -> Callable[[Spec], object]:
    return lambda container: container["securityContext"].update(values)


# (name, what is flipped in one container, what the refusal names: {} is its kind and name, lines of the matrix)
OF_CONTAINERS: list[Flip] = [
    ("writable", context(readOnlyRootFilesystem=False), "spec.{}.securityContext.readOnlyRootFilesystem", ""),
    (
        "writable-unset",
        lambda it: it["securityContext"].pop("readOnlyRootFilesystem"),
        "spec.{}.securityContext.readOnlyRootFilesystem",
        "",
    ),
    ("image", put(image="registry.example/other/tool:1"), "spec.{}.image", "T-image-prefix"),
    ("image-longer-name", put(image=f"{IMAGE}2:1"), "spec.{}.image", "T-image-prefix"),
    ("image-shorter-name", put(image="registry.example/acme:1"), "spec.{}.image", "T-image-prefix"),
    ("image-port-trick", put(image=f"{IMAGE}:5000/evil/tool"), "spec.{}.image", "T-image-prefix"),
    ("image-elsewhere", put(image=f"evil.example/{IMAGE}:1"), "spec.{}.image", "T-image-prefix"),
    ("never-pulled", put(imagePullPolicy="Never"), "spec.{}.imagePullPolicy", "MTB-PL1-CC-DI-1"),
    ("privileged", context(privileged=True, allowPrivilegeEscalation=True), "securityContext.privileged=true", "MTB-PL1-BC-CPI-5"),
    ("escalation", context(allowPrivilegeEscalation=True), "allowPrivilegeEscalation", "MTB-PL1-BC-CPI-6"),
    ("proc-mount", context(procMount="Unmasked"), "procMount", "MTB-PL1-BC-CPI-6"),
    ("container-root", context(runAsUser=0), "runAsUser=0", "MTB-PL1-BC-CPI-4"),
    ("container-may-be-root", context(runAsNonRoot=False), "runAsNonRoot != true", "MTB-PL1-BC-CPI-4"),
    ("capabilities-kept", context(capabilities={}), "capabilities.drop", "MTB-PL1-BC-CPI-3"),
    *(
        (f"capability-{name}", context(capabilities={"drop": ["ALL"], "add": [name]}), name, "MTB-PL1-BC-CPI-3")
        for name in CAPABILITIES
    ),
]  # fmt: skip
OF_LASTING_CONTAINERS: list[Flip] = [
    ("host-port", put(ports=[{"containerPort": 8086, "hostPort": 8086}]), "hostPort", "MTB-PL1-BC-HI-3"),
]


def of_new_pods() -> Iterator[Flip]:
    """Every flip of a whole pod, those of a container in every kind of container that a new pod has."""
    yield from OF_PODS
    for kind, called in (("containers", "main"), ("initContainers", "first")):
        for name, flip, text, ids in (*OF_CONTAINERS, *OF_LASTING_CONTAINERS):

            def in_container(spec: Spec, kind: str = kind, flip: Callable[[Spec], object] = flip) -> None:
                flip(spec[kind][0])

            yield f"{name}-{kind}", in_container, text.format(f"{kind}[{called}]"), ids


def parameters(flips: Iterable[Flip]) -> list[Any]:
    """``(flip, text)`` for pytest, marked with the ids."""
    return [
        pytest.param(flip, text, id=name, marks=[pytest.mark.isolation(*ids.split())] if ids else [])
        for name, flip, text, ids in flips
    ]
