"""The cluster leaves nothing behind: taken down in order, killed while it starts, or killed at any other moment."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from e2e.cluster import cluster, kind, leftovers, provider, sandbox
from e2e.cluster.errors import ClusterError
from e2e.cluster.settings import Settings

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.timeout(600),
    pytest.mark.skipif(os.geteuid() != 0, reason="a cluster without Docker takes root"),
    pytest.mark.skipif(kind.docker_answers(), reason="a Docker engine answers here, so the cluster is kind's business"),
]
NAME = "unjucks-leftovers"
TESTS = Path(__file__).parents[1]


@pytest.fixture
def before() -> Iterator[leftovers.Picture]:
    """The machine before the test, which has no cluster of this name; afterwards there is none again."""
    cluster.down(NAME)
    yield leftovers.picture(NAME)
    cluster.down(NAME)


def _command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "e2e.cluster", "--name", NAME, "--provider", provider.PROCESSES, *arguments]


def _environment() -> dict[str, str]:
    return dict(os.environ) | {"PYTHONPATH": str(TESTS)}


def _settled(before: leftovers.Picture) -> list[str]:
    """The difference, when the kernel has had a moment to remove devices of dead namespaces."""
    for _ in range(100):
        found = leftovers.difference(before, leftovers.picture(NAME))
        if not found:
            return []
        time.sleep(0.1)
    return found


def _alive(pids: dict[int, str]) -> list[int]:
    return [pid for pid, started in pids.items() if leftovers.start_time(pid) == started]


def test_down_leaves_nothing(before: leftovers.Picture) -> None:
    running = cluster.up(NAME)
    pid = sandbox.init_pid(running.settings)
    assert pid is not None
    inside = leftovers.processes_in_namespace_of(pid)
    assert len(inside) >= 9  # the programs and the DNS pod
    # The picture can see a cluster at all:
    seen = leftovers.difference(before, leftovers.picture(NAME))
    assert any(line.startswith("links: +") for line in seen)
    assert any(line.startswith("cgroups: +") for line in seen)
    # And even while it runs the machine's own tables, settings and folders are as before.
    assert [line for line in seen if line.split(":")[0] not in ("links", "cgroups", "routes")] == []
    assert cluster.down(NAME) is True
    assert _alive(inside) == []
    assert _settled(before) == []
    assert not Settings(NAME).state.exists()
    assert cluster.down(NAME) is False


def test_up_again_is_the_same_cluster(before: leftovers.Picture) -> None:
    first = sandbox.init_pid(cluster.up(NAME).settings)
    assert first is not None
    assert sandbox.init_pid(cluster.up(NAME).settings) == first


def _boxed(name: str) -> bool:
    return (Settings(name).state / "node.json").exists()


def _programs_started(name: str) -> bool:
    log = Settings(name).state / "node.log"
    return log.exists() and "kube-apiserver ready" in log.read_text()


@pytest.mark.parametrize("moment", [_boxed, _programs_started], ids=["namespaces being made", "programs starting"])
def test_up_killed_half_way_is_cleaned_up(before: leftovers.Picture, moment: Callable[[str], bool]) -> None:
    with subprocess.Popen(
        _command("up"), env=_environment(), stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL
    ) as child:
        while child.poll() is None and not moment(NAME):
            time.sleep(0.01)
        child.send_signal(signal.SIGKILL)
    assert child.returncode == -signal.SIGKILL
    # Whatever of it runs is not taken for a cluster.
    with pytest.raises(ClusterError, match="is not running"):
        cluster.Cluster.attach(NAME)
    # Starting again gives a whole cluster; taking it down leaves nothing of either.
    running = cluster.up(NAME)
    assert running.node_ready()
    cluster.down(NAME)
    assert _settled(before) == []


def test_down_after_the_node_was_killed(before: leftovers.Picture) -> None:
    running = cluster.up(NAME)
    pid = sandbox.init_pid(running.settings)
    assert pid is not None
    inside = leftovers.processes_in_namespace_of(pid)
    os.kill(pid, signal.SIGKILL)
    for _ in range(200):
        if not _alive(inside):
            break
        time.sleep(0.05)
    assert _alive(inside) == []
    with pytest.raises(ClusterError, match="is not running"):
        cluster.Cluster.attach(NAME)
    status = subprocess.run(_command("status"), env=_environment(), capture_output=True, text=True, check=False)
    assert status.returncode == 6
    cluster.down(NAME)
    assert _settled(before) == []


def test_a_program_that_ends_is_started_again(before: leftovers.Picture) -> None:
    running = cluster.up(NAME)
    old = running.node("pgrep", "--exact", "kube-scheduler").stdout.split()
    assert len(old) == 1
    running.node("kill", "-KILL", *old)
    for _ in range(200):
        new = running.node("pgrep", "--exact", "kube-scheduler", check=False).stdout.split()
        if new and new != old:
            break
        time.sleep(0.1)
    assert len(new) == 1
    assert new != old
