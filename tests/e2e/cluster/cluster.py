"""The full cluster without Docker: one node with a real kubelet, containerd, DNS, services and enforced NetworkPolicies.

``up`` is idempotent, ``down`` leaves nothing behind; both hold a lock, so two shells cannot trip over each other. The command
line is in ``__main__``; tests use ``Cluster.attach()``.
"""

import contextlib
import json
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from e2e.cluster import addons, archive, components, golang, packages, paths, process, sandbox
from e2e.cluster.api import ApiAccess
from e2e.cluster.errors import ClusterError, StartFailed
from e2e.cluster.pki import Authority, Pair
from e2e.cluster.progress import Step, step
from e2e.cluster.settings import CONTAINERD_SOCKET, DEFAULT_NAME, NODE_NAME, Settings

_READY_WITHIN: Final = 180.0  # seconds; usually 20


class Cluster(ApiAccess):
    """A running cluster of this kind."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.name = settings.name
        self.server = settings.server
        self.authority = Authority(settings.state / "pki")
        self.ca = self.authority.certificate_file
        self.admin_pair = Pair(self.ca.with_name("admin.crt"), self.ca.with_name("admin.key"))
        self.kubeconfig = settings.state / "kubeconfig"
        self.audit_log = settings.state / "audit.jsonl"
        self.kubectl_program = golang.components() / "kubectl"

    @classmethod
    def attach(cls, name: str = DEFAULT_NAME) -> "Cluster":
        """The running cluster of that name; ClusterError when there is none."""
        settings = Settings.load(name)
        if settings is None or not _finished(settings) or sandbox.init_pid(settings) is None:
            raise ClusterError(f"cluster {name!r} is not running: `make cluster-up` starts it")
        return cls(settings)

    def inside(self, *command: str | Path, namespaces: Sequence[str] = ("all",)) -> list[str]:
        """The command line that runs something inside the node, or only in its network (``namespaces=["net"]``)."""
        return sandbox.inside(self.settings, *command, namespaces=namespaces)

    def node(self, *command: str, check: bool = True) -> "subprocess.CompletedProcess[str]":
        """Run a command inside the node, for example ``iptables-save``."""
        return sandbox.run(*self.inside(*command), check=check)

    def images(self) -> set[str]:
        """References of the images in the node's containerd."""
        listed = self.node("ctr", "--address", CONTAINERD_SOCKET, "--namespace", "k8s.io", "images", "list", "--quiet")
        return set(listed.stdout.split())

    def load_image(self, file: Path) -> None:
        """Import a docker-archive into the node's containerd."""
        self.node("ctr", "--address", CONTAINERD_SOCKET, "--namespace", "k8s.io", "images", "import", str(file))

    def status(self) -> dict[str, Any]:
        """What ``status`` prints."""
        version = self.admin.get("/version").require()["gitVersion"]
        pods = self.admin.get("/api/v1/pods").require()["items"]
        phases: dict[str, int] = {}
        for pod in pods:
            phase = pod.get("status", {}).get("phase", "Unknown")
            phases[phase] = phases.get(phase, 0) + 1
        return {
            "name": self.name,
            "provider": "processes",
            "running": True,
            "ready": self.node_ready(),
            "server": self.server,
            "version": version,
            "kubeconfig": str(self.kubeconfig),
            "pods": phases,
            "logs": str(self.settings.state / "logs"),
        }

    def node_ready(self) -> bool:
        """True when the kubelet reports Ready."""
        answer = self.admin.get(f"/api/v1/nodes/{NODE_NAME}")
        conditions = answer.body.get("status", {}).get("conditions", []) if answer.ok else []
        return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)


@contextlib.contextmanager
def _lock(name: str) -> Iterator[None]:
    with golang.locked(paths.cache() / "cluster" / f"{name}.lock", f"it is working on cluster {name!r}"):
        yield


def _snapshotter(state: Path) -> str:
    kind = subprocess.run(
        ["stat", "-f", "-c", "%T", str(state)], capture_output=True, text=True, check=True
    ).stdout.strip()
    return "native" if kind == "overlayfs" else "overlayfs"  # overlayfs cannot be stacked on itself


def up(name: str = DEFAULT_NAME) -> Cluster:
    """Start the cluster, or return at once when it runs; removes the remains of one that was killed."""
    packages.ensure(packages.CLUSTER, "a cluster without Docker")
    packages.require_root("a cluster without Docker")
    programs = golang.components()
    with _lock(name):
        settings = Settings.load(name)
        if settings is not None and sandbox.init_pid(settings) is not None and _finished(settings):
            return Cluster(settings)
        if settings is not None or Settings(name).state.exists():
            with step(f"removing the remains of cluster {name!r}"):
                sandbox.stop(name)
        _require_bridge_filter()
        settings = sandbox.choose_settings(name)
        try:
            _start(settings, programs)
        except BaseException:
            _keep_logs(settings)
            sandbox.stop(name)
            raise
        (settings.state / "finished").touch()
        return Cluster(settings)


def _finished(settings: Settings) -> bool:
    return (settings.state / "finished").exists()


def _require_bridge_filter() -> None:
    """Packets between two pods on one bridge pass iptables only with this kernel module; policies depend on it."""
    if Path("/proc/sys/net/bridge").exists():
        return
    if shutil.which("modprobe"):
        sandbox.run("modprobe", "br_netfilter", check=False)
    if not Path("/proc/sys/net/bridge").exists():
        raise ClusterError(
            "the kernel module br_netfilter is not there, and NetworkPolicies need it: `modprobe br_netfilter`"
        )


def _keep_logs(settings: Settings) -> None:
    """The logs of a failed start outlive its removal."""
    kept = Path(tempfile.gettempdir()) / f"unjucks-cluster-{settings.name}-failed-logs"
    shutil.rmtree(kept, ignore_errors=True)
    with contextlib.suppress(OSError):
        shutil.copytree(settings.state / "logs", kept)


def _start(settings: Settings, programs: Path) -> None:
    with step(f"starting cluster {settings.name!r}") as shown:
        shown.detail = "certificates and configuration"
        authority = Authority(settings.state / "pki")
        components.write_files(settings, authority, _snapshotter(settings.state))
        sandbox.start(settings, components.programs(settings, programs))
        cluster = Cluster(settings)
        _wait(cluster, shown, "apiserver", lambda: cluster.admin.get("/readyz").status == 200)
        pause = settings.state / "pause.tar"
        archive.write_program_image(
            pause, components.PAUSE_IMAGE, programs / "pause", architecture=addons.architecture()
        )
        cluster.load_image(pause)
        objects = {"apiVersion": "v1", "kind": "List", "items": addons.dns_objects(settings, programs)}
        cluster.kubectl("apply", "--server-side", "--filename=-", stdin=json.dumps(objects))
        _wait(cluster, shown, "node", cluster.node_ready)
        _wait(cluster, shown, "DNS", lambda: _dns_ready(cluster))


def _dns_ready(cluster: Cluster) -> bool:
    answer = cluster.admin.get("/apis/apps/v1/namespaces/kube-system/deployments/coredns")
    return bool(answer.body.get("status", {}).get("availableReplicas"))


def _wait(cluster: Cluster, shown: Step, what: str, condition: "Any") -> None:
    shown.detail = f"waiting for the {what}"
    deadline = time.monotonic() + _READY_WITHIN
    while True:
        with contextlib.suppress(OSError):
            if condition():
                return
        if sandbox.init_pid(cluster.settings) is None:
            raise StartFailed(f"the node ended:\n{process.tail(cluster.settings.state / 'node.log')}")
        if time.monotonic() > deadline:
            raise StartFailed(_complain(cluster.settings, what))
        time.sleep(0.1)


def _complain(settings: Settings, what: str) -> str:
    parts = [f"the {what} is not ready after {_READY_WITHIN:.0f} s"]
    parts.append(process.tail(settings.state / "node.log"))
    for log in sorted((settings.state / "logs").glob("*.log")):
        parts.append(f"--- {log.name}\n{process.tail(log, 5)}")
    return "\n".join(parts)


def down(name: str = DEFAULT_NAME) -> bool:
    """Remove the cluster and everything of it; False when there was nothing."""
    with _lock(name):
        settings = Settings.load(name) or Settings(name)
        running = sandbox.init_pid(settings) is not None
        existed = running or settings.state.exists()
        if existed:
            packages.require_root("taking the cluster down")
        with step(f"removing cluster {name!r}") if existed else contextlib.nullcontext():
            sandbox.stop(name)
    return existed
