"""Chooses how the cluster runs: kind where a Docker engine answers, processes in namespaces where none does."""

from typing import Final

from e2e.cluster import cluster, kind, sandbox
from e2e.cluster.errors import ClusterError
from e2e.cluster.settings import DEFAULT_NAME, Settings

AUTO: Final = "auto"
KIND: Final = "kind"
PROCESSES: Final = "processes"
PROVIDERS: Final = (AUTO, KIND, PROCESSES)
AnyCluster = cluster.Cluster | kind.KindCluster


def choose(name: str, wanted: str = AUTO) -> str:
    """The provider for this cluster; one that already runs keeps the one it has."""
    if wanted != AUTO:
        return wanted
    if Settings(name).state.exists():
        return PROCESSES
    return KIND if kind.docker_answers() else PROCESSES


def up(name: str = DEFAULT_NAME, wanted: str = AUTO) -> AnyCluster:
    """Start it, or return at once when it runs."""
    return kind.up(name) if choose(name, wanted) == KIND else cluster.up(name)


def attach(name: str = DEFAULT_NAME, wanted: str = AUTO) -> AnyCluster:
    """The running cluster; ClusterError when there is none."""
    return kind.attach(name) if choose(name, wanted) == KIND else cluster.Cluster.attach(name)


def down(name: str = DEFAULT_NAME, wanted: str = AUTO) -> bool:
    """Remove it; False when there was nothing."""
    return kind.down(name) if choose(name, wanted) == KIND else cluster.down(name)


def node_pid(running: AnyCluster) -> int:
    """A host pid inside the node's namespaces: whoever has it can enter the node's network."""
    if isinstance(running, kind.KindCluster):
        return running.node_pid()
    pid = sandbox.init_pid(running.settings)
    if pid is None:
        raise ClusterError(f"cluster {running.name!r} is not running: `make cluster-up` starts it")
    return pid
