"""The numbers of one cluster: its name, folders and networks. Pure; chosen once at ``up`` and kept in its state folder.

Several clusters can run on one machine: each has an index, and with it networks of its own.
"""

import ipaddress
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from e2e.cluster import paths

DEFAULT_NAME: Final = "unjucks"
NODE_NAME: Final = "node1"
API_PORT: Final = 6443
CLUSTERS: Final = 16  # how many sets of networks there are
# Where things are inside the node; its file trees are its own (see ``nodeinit``).
CONTAINERD_SOCKET: Final = "/run/containerd/containerd.sock"


@dataclass(frozen=True)
class Settings:
    """One cluster. All networks derive from ``index``."""

    name: str = DEFAULT_NAME
    index: int = 0

    @property
    def state(self) -> Path:
        """Everything this cluster writes; removed by ``down``."""
        return paths.cache() / "cluster" / self.name

    @property
    def link(self) -> ipaddress.IPv4Network:
        """The four addresses between host and node."""
        return ipaddress.IPv4Network(f"10.243.{self.index}.0/30")

    @property
    def host_address(self) -> str:
        """The host, as the node and the pods see it."""
        return str(self.link[1])

    @property
    def node_address(self) -> str:
        """The node: the apiserver and the kubelet listen there."""
        return str(self.link[2])

    @property
    def pods(self) -> ipaddress.IPv4Network:
        """Pod addresses; the host has a route to them."""
        return ipaddress.IPv4Network(f"10.244.{self.index * 4}.0/22")

    @property
    def services(self) -> ipaddress.IPv4Network:
        """Service addresses; the host has a route to them."""
        return ipaddress.IPv4Network(f"10.96.{self.index * 16}.0/20")

    @property
    def kubernetes_service(self) -> str:
        """The apiserver's address for pods: always the first one."""
        return str(self.services[1])

    @property
    def dns_service(self) -> str:
        """The DNS server's address for pods."""
        return str(self.services[10])

    @property
    def server(self) -> str:
        """The apiserver, from the host."""
        return f"https://{self.node_address}:{API_PORT}"

    @property
    def host_device(self) -> str:
        """The host's end of the link; 15 characters at most."""
        return f"ujk{self.index}"

    @property
    def cgroup(self) -> str:
        """The node's group below each cgroup controller."""
        return f"unjucks-cluster-{self.name}"

    def overlaps(self, networks: Iterable[ipaddress.IPv4Network]) -> bool:
        """True when one of our networks is in use by somebody else."""
        return any(own.overlaps(other) for other in networks for own in (self.link, self.pods, self.services))

    def save(self) -> None:
        """Keep the choice beside the cluster's state."""
        self.state.mkdir(parents=True, exist_ok=True)
        (self.state / "settings.json").write_text(json.dumps(asdict(self)))

    @classmethod
    def load(cls, name: str) -> "Settings | None":
        """The saved choice; None when there is no such cluster (or its file was cut off by a crash)."""
        try:
            values = json.loads((cls(name).state / "settings.json").read_text())
            return cls(name=values["name"], index=values["index"])
        except (OSError, ValueError, KeyError):
            return None
