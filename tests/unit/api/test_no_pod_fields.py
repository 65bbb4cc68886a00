"""No field of our kinds ends in a pod: tenants choose no image, no command, no account, no node, no volume."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

CRDS = sorted((Path(__file__).resolve().parents[3] / "crds").glob("*.yaml"))
FORBIDDEN = {
    *(
        "affinity",
        "args",
        "automountServiceAccountToken",
        "capabilities",
        "command",
        "container",
        "containers",
        "dnsConfig",
    ),
    *(
        "env",
        "envFrom",
        "hostAliases",
        "hostNetwork",
        "hostPID",
        "hostPath",
        "image",
        "imagePullSecrets",
        "initContainers",
    ),
    *("nodeName", "nodeSelector", "podSpec", "podTemplate", "priorityClassName", "runtimeClassName", "schedulerName"),
    *("securityContext", "serviceAccount", "serviceAccountName", "sidecars", "template.spec", "tolerations", "volumes"),
    *("volumeMounts", "kubeconfig", "server", "token", "insecureSkipTLSVerify"),
}


def properties(schema: dict[str, Any], path: str = "") -> Iterator[str]:
    for name, child in (schema.get("properties") or {}).items():
        yield f"{path}.{name}".strip(".")
        yield from properties(child, f"{path}.{name}")
    for part in ("items", "additionalProperties"):
        if isinstance(schema.get(part), dict):
            yield from properties(schema[part], path)


@pytest.mark.isolation("T-no-pod-fields")
@pytest.mark.parametrize("path", CRDS, ids=lambda path: str(path.stem))
def test_no_field_reaches_a_pod(path: Path) -> None:
    crd = yaml.safe_load(path.read_text(encoding="utf-8"))
    spec = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    found = list(properties(spec))
    assert len(found) > 5
    assert [name for name in found if name.split(".")[-1] in FORBIDDEN] == []
