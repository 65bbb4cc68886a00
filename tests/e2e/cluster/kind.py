"""The cluster where a Docker engine answers: kind does the work, this module gives it the same face as ``cluster``.

kind's own network plugin enforces NetworkPolicies (since kind 0.24). There is no audit log, so ``writes()`` is not available.
"""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

from e2e.cluster import golang, paths, sandbox
from e2e.cluster.api import ApiAccess
from e2e.cluster.errors import ClusterError
from e2e.cluster.pki import Authority, Pair, write_private
from e2e.cluster.progress import step


def docker_answers() -> bool:
    """True when a Docker *engine* answers; the client alone makes no container."""
    if shutil.which("docker") is None:
        return False
    try:
        result = subprocess.run(
            ["docker", "info", "--format", "{{.ServerVersion}}"],
            capture_output=True,
            text=True,
            timeout=15,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return False
    return result.returncode == 0 and re.match(r"\d", result.stdout.strip()) is not None


def _program() -> str:
    return shutil.which("kind") or str(golang.kind())


def _state(name: str) -> Path:
    return paths.cache() / "cluster" / f"{name}-kind"


def exists(name: str) -> bool:
    """True when kind knows a cluster of that name."""
    return name in sandbox.run(_program(), "get", "clusters", "--quiet", check=False).stdout.split()


class KindCluster(ApiAccess):
    """A running kind cluster with one node."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.container = f"{name}-control-plane"
        state = _state(name)
        self.kubeconfig = state / "kubeconfig"
        self.audit_log = None
        self.kubectl_program = Path(shutil.which("kubectl") or golang.components() / "kubectl")
        # The CA's key comes from the node, so that tests can make certificates for any user here too.
        for file in ("ca.crt", "ca.key"):
            content = sandbox.run("docker", "exec", self.container, "cat", f"/etc/kubernetes/pki/{file}").stdout
            write_private(state / "pki" / file, content.encode())
        self.authority = Authority(state / "pki")
        self.ca = self.authority.certificate_file
        self.admin_pair: Pair = self.authority.issue("admin", "test-admin", ["system:masters"])
        view = sandbox.run(
            str(self.kubectl_program), f"--kubeconfig={self.kubeconfig}", "config", "view", "--minify", "--output=json"
        )
        self.server = json.loads(view.stdout)["clusters"][0]["cluster"]["server"]

    def node(self, *command: str, check: bool = True) -> "subprocess.CompletedProcess[str]":
        """Run a command inside the node."""
        return sandbox.run("docker", "exec", self.container, *command, check=check)

    def node_pid(self) -> int:
        """A host pid inside the node's namespaces."""
        return int(sandbox.run("docker", "inspect", "--format", "{{.State.Pid}}", self.container).stdout)

    def images(self) -> set[str]:
        """References of the images in the node."""
        return set(self.node("ctr", "--namespace", "k8s.io", "images", "list", "--quiet").stdout.split())

    def load_image(self, file: Path) -> None:
        """Import an image archive into the node."""
        sandbox.run(_program(), "load", "image-archive", str(file), "--name", self.name)

    def status(self) -> dict[str, Any]:
        """What ``status`` prints."""
        nodes = self.admin.get("/api/v1/nodes").require()["items"]
        ready = all(
            any(c["type"] == "Ready" and c["status"] == "True" for c in node["status"]["conditions"]) for node in nodes
        )
        return {
            "name": self.name,
            "provider": "kind",
            "running": True,
            "ready": ready,
            "server": self.server,
            "version": self.admin.get("/version").require()["gitVersion"],
            "kubeconfig": str(self.kubeconfig),
        }


def up(name: str) -> KindCluster:
    """Create the cluster, or return at once when it exists."""
    if not exists(name):
        state = _state(name)
        state.mkdir(parents=True, exist_ok=True)
        with step(f"kind create cluster {name}"):
            sandbox.run(
                _program(),
                "create",
                "cluster",
                "--name",
                name,
                "--kubeconfig",
                str(state / "kubeconfig"),
                "--wait",
                "180s",
            )
    return KindCluster(name)


def attach(name: str) -> KindCluster:
    """The running cluster of that name; ClusterError when there is none."""
    if not exists(name):
        raise ClusterError(f"cluster {name!r} is not running: `make cluster-up` starts it")
    return KindCluster(name)


def down(name: str) -> bool:
    """Delete the cluster; False when there was none."""
    existed = exists(name)
    if existed:
        with step(f"kind delete cluster {name}"):
            kubeconfig = str(_state(name) / "kubeconfig")
            sandbox.run(_program(), "delete", "cluster", "--name", name, "--kubeconfig", kubeconfig)
    shutil.rmtree(_state(name), ignore_errors=True)
    return existed
