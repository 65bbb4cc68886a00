"""Installs the operator on the test cluster the way a user does: images from the Dockerfile, the chart by Helm.

Used by the demo and by the end-to-end tests. A second call with unchanged images and values does nothing.
"""

import hashlib
import json
import subprocess
from collections.abc import Mapping
from typing import Any, Final

from e2e.cluster import golang, images, kind, paths
from e2e.cluster.progress import step
from e2e.cluster.provider import AnyCluster

RELEASE: Final = "unjucks"
NAMESPACE: Final = "unjucks-system"
IMAGES: Final = ("operator", "renderer", "courier", "postgres")
_WAIT: Final = "180s"


class InstallError(Exception):
    """Helm or the rollout failed; the message has its output."""


def values_for(cluster: AnyCluster, extra: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Build and load the images; the chart's values that use them."""
    webhooks = bool((extra or {}).get("webhooks", {}).get("enabled"))
    wanted = (*IMAGES, "webhooks") if webhooks else IMAGES
    built = images.load(cluster, wanted, docker=isinstance(cluster, kind.KindCluster))
    return {
        "image": {
            "operator": built["operator"].reference,
            "renderer": built["renderer"].reference,
            "courier": built["courier"].reference,
            **({"webhooks": built["webhooks"].reference} if webhooks else {}),
            "pullPolicy": "IfNotPresent",
        },
        "database": {"bundled": {"enabled": True, "image": built["postgres"].reference}},
        **(extra or {}),
    }


def install(cluster: AnyCluster, extra: Mapping[str, Any] | None = None) -> bool:
    """Install or upgrade, and wait until the operator serves. False when everything was as wanted already."""
    values = values_for(cluster, extra)
    current = _helm(cluster, "get", "values", RELEASE, "--output", "json", check=False)
    status = _helm(cluster, "status", RELEASE, "--output", "json", check=False)
    installed = current.returncode == 0 and status.returncode == 0
    if installed and json.loads(current.stdout) == values and _digest(cluster) == _chart_digest():
        return False
    with step("installing the chart"):
        done = _helm(
            cluster,
            *("upgrade", "--install", RELEASE, str(paths.REPOSITORY / "charts/unjucks-operator")),
            *("--create-namespace", "--values", "-", "--wait", "--timeout", _WAIT),
            *("--description", f"chart {_chart_digest()}"),
            stdin=json.dumps(values),
            check=False,
        )
        if done.returncode:
            pods = cluster.kubectl("-n", NAMESPACE, "describe", "pods", check=False).stdout
            logs = cluster.kubectl("-n", NAMESPACE, "logs", "deployment/unjucks-operator", "--tail=50", check=False)
            raise InstallError(f"{done.stderr}\n{pods[-4000:]}\n{logs.stdout[-4000:]}")
    return True


def _digest(cluster: AnyCluster) -> str:
    history = _helm(cluster, "history", RELEASE, "--max", "1", "--output", "json", check=False)
    if history.returncode:
        return ""
    entry = json.loads(history.stdout)[-1]
    return str(entry["description"]).removeprefix("chart ") if entry["status"] == "deployed" else ""


def _chart_digest() -> str:
    digest = hashlib.sha256()
    folder = paths.REPOSITORY / "charts/unjucks-operator"
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        digest.update(f"{file.relative_to(folder)}\0".encode() + file.read_bytes())
    return digest.hexdigest()[:16]


def _helm(
    cluster: AnyCluster, *arguments: str, stdin: str | None = None, check: bool = True
) -> "subprocess.CompletedProcess[str]":
    command = [str(golang.helm()), "--kubeconfig", str(cluster.kubeconfig), "--namespace", NAMESPACE, *arguments]
    return subprocess.run(command, input=stdin, capture_output=True, text=True, check=check)
