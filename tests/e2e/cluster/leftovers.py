"""What a cluster could leave behind on the machine: a picture taken before and after, and the difference in words.

Used by tests, and by hand: ``python -m e2e.cluster.leftovers`` prints what is there now that looks like a cluster's.
"""

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Final

from e2e.cluster import packages, paths
from e2e.cluster.settings import Settings

_SYSCTLS: Final = (
    "net/ipv4/ip_forward",
    "net/ipv4/conf/all/route_localnet",
    "net/ipv4/conf/all/rp_filter",
    "net/netfilter/nf_conntrack_max",
    "vm/overcommit_memory",
    "vm/panic_on_oom",
    "kernel/panic",
    "kernel/panic_on_oops",
    "kernel/hostname",
)
# Places where Kubernetes and containerd keep things when they run without a box.
_FOLDERS: Final = (
    *("/run/netns", "/run/containerd", "/run/flannel", "/var/lib/cni", "/var/lib/kubelet", "/var/lib/etcd"),
    *("/var/lib/containerd", "/var/log/pods", "/var/log/containers", "/etc/cni/net.d", "/etc/kubernetes"),
    *("/usr/libexec/kubernetes", "/opt/cni"),
)


@dataclass(frozen=True)
class Picture:
    """The parts of the machine's state that a cluster touches; each a set of lines."""

    mounts: frozenset[str]
    links: frozenset[str]
    routes: frozenset[str]
    rules: frozenset[str]
    ipsets: frozenset[str]
    namespaces: frozenset[str]
    cgroups: frozenset[str]
    folders: frozenset[str]
    sysctls: frozenset[str]
    hosts: frozenset[str]


def _lines(*command: str) -> frozenset[str]:
    if shutil.which(command[0]) is None:
        return frozenset()
    result = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
    return frozenset(line.strip() for line in result.stdout.splitlines() if line.strip())


def _rules() -> frozenset[str]:
    found: set[str] = set()
    for command in ("iptables-save", "ip6tables-save"):
        for line in _lines(command):
            if not line.startswith("#"):
                without_counters = re.sub(r"\[\d+:\d+\]", "", line)
                found.add(f"{command}: {without_counters}")
    return frozenset(found)


def _mounts() -> frozenset[str]:
    found = set()
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        parts = line.split()
        found.add(f"{parts[4]} from {line.partition(' - ')[2]}")
    return frozenset(found)


def _cgroups() -> frozenset[str]:
    root = Path("/sys/fs/cgroup")
    found = {str(p) for pattern in ("unjucks-*", "*/unjucks-*", "kubepods*", "*/kubepods*") for p in root.glob(pattern)}
    return frozenset(found)


def _folders() -> frozenset[str]:
    found = set()
    for folder in map(Path, _FOLDERS):
        if folder.exists():
            found.add(str(folder))
            found |= {str(child) for child in folder.iterdir()}
    return frozenset(found)


def _sysctls() -> frozenset[str]:
    base = Path("/proc/sys")
    return frozenset(f"{name} = {(base / name).read_text().strip()}" for name in _SYSCTLS if (base / name).exists())


def _without_others(lines: frozenset[str], name: str) -> frozenset[str]:
    """Without lines about other clusters that somebody runs, starts or removes at the same time."""
    folder = paths.cache() / "cluster"
    others = [
        s for p in folder.glob("*/settings.json") if p.parent.name != name and (s := Settings.load(p.parent.name))
    ]
    words = {word for other in others for word in (other.host_device, other.cgroup)}
    return frozenset(line for line in lines if not words & set(re.split(r"[\s/]", line)))


def picture(name: str = "") -> Picture:
    """Take a picture of the machine; with a cluster's name, without what belongs to other clusters."""
    packages.extend_path()
    links = {line.split()[1].split("@")[0].rstrip(":") for line in _lines("ip", "-oneline", "link")}
    routes = _lines("ip", "route", "show", "table", "all")
    return Picture(
        mounts=_mounts(),
        links=_without_others(frozenset(links), name) if name else frozenset(links),
        routes=_without_others(routes, name) if name else routes,
        rules=_rules(),
        ipsets=_lines("ipset", "list", "-name"),
        namespaces=_lines("ip", "netns", "list"),
        cgroups=_without_others(_cgroups(), name) if name else _cgroups(),
        folders=_folders(),
        sysctls=_sysctls(),
        hosts=frozenset(Path("/etc/hosts").read_text().splitlines()),
    )


def difference(before: Picture, after: Picture) -> list[str]:
    """What was added (+) and what is missing (-), one line each; empty when nothing changed."""
    found = []
    for part in fields(Picture):
        old, new = getattr(before, part.name), getattr(after, part.name)
        found += [f"{part.name}: + {line}" for line in sorted(new - old)]
        found += [f"{part.name}: - {line}" for line in sorted(old - new)]
    return found


def processes_in_namespace_of(pid: int) -> dict[int, str]:
    """Host pids (with their start times, so that a reused pid is not mistaken) in the same pid namespace as ``pid``."""
    wanted = os.readlink(f"/proc/{pid}/ns/pid")
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if os.readlink(entry / "ns/pid") == wanted:
                    found[int(entry.name)] = start_time(int(entry.name))
            except OSError:
                continue
    return found


def start_time(pid: int) -> str:
    """When a process began, in clock ticks since boot; empty when it is gone or only waits for its parent (a zombie)."""
    try:
        values = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if values[0] in "ZX" else values[19]


def main() -> int:
    """Print what looks like a cluster's; exit code 1 when there is something."""
    now = picture()
    suspicious = [f"cgroup {name}" for name in sorted(now.cgroups)]
    suspicious += [f"link {name}" for name in sorted(now.links) if re.match(r"ujk\d+|cni\d+|inet\d+", name)]
    suspicious += [f"mount {line}" for line in sorted(now.mounts) if "unjucks" in line]
    suspicious += [f"rule {line}" for line in sorted(now.rules) if re.search(r"KUBE-|CNI-", line)]
    suspicious += [f"ipset {name}" for name in sorted(now.ipsets) if name.startswith("KUBE-")]
    print("\n".join(suspicious) if suspicious else "nothing of a cluster is on this machine")
    return 1 if suspicious else 0


if __name__ == "__main__":
    sys.exit(main())
