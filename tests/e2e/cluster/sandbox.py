"""The box around the node: its namespaces, the link to the host, its cgroups; how to make it, enter it and remove it.

The node is one process tree in pid, mount, network, IPC and UTS namespaces of its own. Outside of them exist only: one end
of a veth pair with three routes (gone with the network namespace), one cgroup per controller, and the state folder. So
removing the node is killing one process, and a node that was killed half-way needs nothing special.
"""

import contextlib
import ipaddress
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from e2e.cluster import paths, process
from e2e.cluster.errors import ClusterError, StartFailed
from e2e.cluster.golang import locked
from e2e.cluster.settings import CLUSTERS, NODE_NAME, Settings

_INIT: Final = Path(__file__).with_name("nodeinit.py")
_CGROUPS: Final = Path("/sys/fs/cgroup")
# What the kubelet wants machine-wide; it is shown these values instead of being let to change them.
_KUBELET_SYSCTLS: Final = {
    "/proc/sys/vm/overcommit_memory": 1,
    "/proc/sys/vm/panic_on_oom": 0,
    "/proc/sys/kernel/panic": 10,
    "/proc/sys/kernel/panic_on_oops": 1,
    "/proc/sys/kernel/keys/root_maxkeys": 1000000,
    "/proc/sys/kernel/keys/root_maxbytes": 25000000,
}


def run(*command: str, check: bool = True) -> "subprocess.CompletedProcess[str]":
    """Run a small command on the host; ClusterError with its output when it must succeed and does not."""
    result = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
    if check and result.returncode != 0:
        raise ClusterError(
            f"{' '.join(command)} failed ({result.returncode}): {(result.stderr or result.stdout).strip()}"
        )
    return result


def _marker(settings: Settings) -> str:
    return str(settings.state / "node.json")


def _processes(settings: Settings) -> Iterator[tuple[int, int]]:
    """(pid, pid inside its own namespace) of the processes that were started for this node by their command line."""
    marker = _marker(settings).encode()
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        with contextlib.suppress(OSError):
            words = (entry / "cmdline").read_bytes().split(b"\0")
            # By the state folder, and the program's name: another checkout of the sources may have started it.
            if marker in words and any(word.endswith(b"/" + _INIT.name.encode()) for word in words):
                status = (entry / "status").read_text()
                inner = next((line.split()[-1] for line in status.splitlines() if line.startswith("NSpid:")), "0")
                yield int(entry.name), int(inner)


def init_pid(settings: Settings) -> int | None:
    """The host's pid of the node's first process; None when the node does not run."""
    return next((pid for pid, inner in _processes(settings) if inner == 1 and pid != 1), None)


def _ended(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return True


def used_networks(ignore_device: str = "") -> list[ipaddress.IPv4Network]:
    """Networks that the host has routes to, the default route left out."""
    routes = json.loads(run("ip", "-4", "-json", "route", "show", "table", "main").stdout or "[]")
    found = []
    for route in routes:
        if route.get("dst") not in (None, "default") and route.get("dev") != ignore_device:
            found.append(ipaddress.IPv4Network(route["dst"], strict=False))
    return found


def choose_settings(name: str) -> Settings:
    """Settings for a new cluster, with networks nobody uses yet; saved, so that the next one chooses others."""
    folder = paths.cache() / "cluster"
    with locked(folder / "choose.lock", "it is choosing networks"):
        others = [s for file in folder.glob("*/settings.json") if (s := Settings.load(file.parent.name))]
        taken = used_networks() + [n for s in others if s.name != name for n in (s.link, s.pods, s.services)]
        for index in range(CLUSTERS):
            settings = Settings(name, index)
            if not settings.overlaps(taken):
                settings.save()
                return settings
    raise ClusterError(
        f"all {CLUSTERS} sets of networks (10.243.x.0/30, 10.244.x.0/22, 10.96.x.0/20) are in use on this machine; "
        "see `ip route`, and take other clusters down"
    )


# --- cgroups ------------------------------------------------------------------------------------------------------------
def _controllers() -> list[Path]:
    """The roots below which the node needs a group: one per controller (cgroup v1) or one (v2)."""
    if (_CGROUPS / "cgroup.controllers").exists():
        return [_CGROUPS]
    return sorted(p for p in _CGROUPS.iterdir() if p.is_dir() and not p.is_symlink() and (p / "cgroup.procs").exists())


def make_cgroups(settings: Settings) -> None:
    """The kubelet's root group must exist; on v1 a cpuset group starts without processors, which no container survives."""
    for root in _controllers():
        group = root / settings.cgroup
        group.mkdir(exist_ok=True)
        if (root / "cgroup.controllers").exists():  # v2: a controller reaches a group only when all above pass it on
            for controller in (root / "cgroup.controllers").read_text().split():
                for folder in (root, group):
                    with contextlib.suppress(OSError):  # one that cannot be passed on is none that the kubelet needs
                        (folder / "cgroup.subtree_control").write_text(f"+{controller}")
        for name in ("cpuset.cpus", "cpuset.mems"):
            if (root / name).exists() and (group / name).exists():
                (group / name).write_text((root / name).read_text())


def remove_cgroups(settings: Settings) -> None:
    """Remove the node's groups; they are empty once its processes are gone."""
    for root in _controllers():
        group = root / settings.cgroup
        if group.exists():
            for folder, _, _ in os.walk(group, topdown=False):
                _remove_cgroup(Path(folder))


def _remove_cgroup(folder: Path) -> None:
    deadline = time.monotonic() + 10
    while True:
        try:
            folder.rmdir()
            return
        except FileNotFoundError:
            return
        except OSError as error:  # busy: the kernel is still collecting killed processes
            if time.monotonic() > deadline:
                raise ClusterError(f"cannot remove the cgroup {folder}: {error}") from error
            time.sleep(0.05)


# --- life ---------------------------------------------------------------------------------------------------------------
def start(settings: Settings, programs: list[dict[str, Any]]) -> int:
    """Make the namespaces, link them to the host, let the programs start; the host's pid of the first process."""
    state = settings.state
    description = {
        "state": str(state),
        "hostname": NODE_NAME,
        "address": f"{settings.node_address}/{settings.link.prefixlen}",
        "gateway": settings.host_address,
        "binds": [[str(state / "lib"), "/var/lib"], [str(state / "log"), "/var/log"]],
        "tmpfs": ["/run"],
        "folders": ["/run/lock", "/run/netns", "/run/containerd", "/var/log/pods", "/var/log/containers"],
        "sysctls": _KUBELET_SYSCTLS,
        "programs": programs,
    }
    (state / "node.json").write_text(json.dumps(description, indent=1))
    make_cgroups(settings)
    log = state / "node.log"
    unshare = ["unshare", "--fork", "--kill-child", "--pid", "--mount", "--net", "--ipc", "--uts", "--mount-proc"]
    with log.open("ab") as output:
        child = subprocess.Popen(
            [*unshare, sys.executable, "-P", str(_INIT), _marker(settings)],
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=_clean_environment(),
            cwd="/",
            start_new_session=True,
        )
    assert child.stdin is not None
    with child.stdin:
        pid = _wait_for_init(settings, child, log)
        _link(settings, pid)
        child.stdin.write(b"go\n")
    child.returncode = 0  # it outlives us on purpose; do not warn about it
    return pid


def _clean_environment() -> dict[str, str]:
    """No proxies, tokens or certificates of the person who starts the cluster leak into the node."""
    path = os.environ.get("PATH", "")
    return {"PATH": f"{path}:/usr/local/sbin:/usr/sbin:/sbin:/usr/bin:/bin", "HOME": "/root", "LANG": "C.UTF-8"}


def _wait_for_init(settings: Settings, child: "subprocess.Popen[bytes]", log: Path) -> int:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        if child.poll() is not None:
            raise StartFailed(f"the node's first process ended at once:\n{process.tail(log)}")
        pid = init_pid(settings)
        if pid is not None:
            return pid
        time.sleep(0.02)
    child.kill()
    child.wait()
    raise StartFailed(f"the node's first process did not appear:\n{process.tail(log)}")


def _link(settings: Settings, pid: int) -> None:
    device = settings.host_device
    run("ip", "link", "add", device, "type", "veth", "peer", "name", "eth0", "netns", str(pid))
    run("ip", "address", "add", f"{settings.host_address}/{settings.link.prefixlen}", "dev", device)
    run("ip", "link", "set", device, "up")
    for network in (settings.pods, settings.services):
        run("ip", "route", "add", str(network), "via", settings.node_address, "dev", device)


def _kill(pids: Sequence[int], what: str, *, grace: float = 0.0) -> None:
    """SIGKILL after ``grace`` seconds, and wait until they are gone."""
    start = time.monotonic()
    while left := [pid for pid in pids if not _ended(pid)]:
        if time.monotonic() >= start + grace:
            for pid in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        if time.monotonic() > start + grace + 60:
            raise ClusterError(f"{what} does not end: {left}")
        time.sleep(0.02)
    for pid in pids:
        with contextlib.suppress(ChildProcessError):  # our own child, when the same process ran `up`
            os.waitpid(pid, os.WNOHANG)


def stop(name: str) -> None:
    """Kill the node and remove what is outside its namespaces; fine when there is little or nothing of it."""
    saved = Settings.load(name)
    settings = saved or Settings(name)
    processes = list(_processes(settings))
    # The first process of a pid namespace is gone only when the kernel has ended and collected all the others. Its parent,
    # unshare, ends by itself then; killed first, it would leave a zombie to whoever is process 1 of the machine.
    _kill([pid for pid, inner in processes if inner == 1], "the node's first process")
    _kill([pid for pid, inner in processes if inner != 1], "unshare", grace=5.0)
    # The device goes with its namespace, but a little later. Without saved settings its name is not known.
    if saved is not None:
        run("ip", "link", "delete", settings.host_device, check=False)
    remove_cgroups(settings)
    run(
        "rm", "-rf", "--one-file-system", str(settings.state)
    )  # many small files of images: much faster than from Python


# --- inside -------------------------------------------------------------------------------------------------------------
def inside(settings: Settings, *command: str | Path, namespaces: Sequence[str] = ("all",)) -> list[str]:
    """The command line that runs ``command`` inside the node, or only in its ``namespaces`` ("net", "mount", …)."""
    pid = init_pid(settings)
    if pid is None:
        raise ClusterError(f"cluster {settings.name!r} is not running: `make cluster-up` starts it")
    flags = (
        ["--mount", "--pid", "--net", "--ipc", "--uts"]
        if tuple(namespaces) == ("all",)
        else [f"--{n}" for n in namespaces]
    )
    return ["nsenter", "--target", str(pid), *flags, "--", *[str(part) for part in command]]
