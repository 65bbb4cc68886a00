"""Asks the API server which addresses the cluster uses, now and then; wakes the tenants when the answer changes.

Nodes tell their own addresses and the ranges of their pods, ServiceCIDRs those of services, and the EndpointSlice of the Service
``kubernetes`` where the API server is. What may not be read, or does not exist, has to be named in ``network.clusterCidrs``; until
then ``ClusterRanges.missing`` says what is missing, and no address range is opened to a tenant. Reads only. Made by ``app``.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable
from contextlib import aclosing
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network
from typing import Any
from urllib.parse import urlsplit

from unjucks_api.v1alpha1.tenant_network import IpNetwork, is_inside
from unjucks_operator.config import Config
from unjucks_operator.engine.clock import Clock
from unjucks_operator.errors import NotPermitted, OperatorError
from unjucks_operator.kube.api import KubeApi, Manifest, NotFound
from unjucks_operator.kube.resources import ENDPOINT_SLICE, NODE, SERVICE_CIDR
from unjucks_operator.network.ranges import NOTHING_KNOWN, ClusterRanges, cluster_ranges, neighbourhoods

_log = logging.getLogger(__name__)

_FIRST_RETRY = 1.0
_LAST_RETRY = 30.0


@dataclass(slots=True)
class Found:
    """What one look brought. ``unknown``: parts that could not be read, in words."""

    ranges: set[IpNetwork] = field(default_factory=set)
    ranges_of_pods: bool = False
    hosts: set[IpNetwork] = field(default_factory=set)
    """Single addresses of nodes and of the API server."""
    unknown: list[str] = field(default_factory=list)


class Discovery:
    """Keeps ``ranges`` up to date. ``server`` is the API server's URL as the operator calls it."""

    def __init__(
        self, api: KubeApi, config: Config, server: str, *, clock: Clock, on_change: Callable[[], None]
    ) -> None:
        self._api = api
        self._config = config
        self._server = server
        self._clock = clock
        self._on_change = on_change
        self._task: asyncio.Task[None] | None = None
        self.ranges: ClusterRanges = NOTHING_KNOWN

    async def start(self) -> None:
        """Return after the first answer, so that no tenant's rules are taken back for want of one."""
        delay = _FIRST_RETRY
        while not await self._look():
            await self._clock.sleep(delay)
            delay = min(delay * 2, _LAST_RETRY)
        self._task = asyncio.create_task(self._run(), name="network discovery")

    async def stop(self) -> None:
        """End."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            await self._clock.sleep(self._config.network.discovery_interval)
            before = self.ranges
            if await self._look() and self.ranges != before:
                _log.info("the cluster's address ranges changed")
                self._on_change()

    async def _look(self) -> bool:
        """Look once; False when the API server could not be asked. Then what is known stays."""
        try:
            found = await self._ask()
        except OperatorError as error:
            _log.warning("the cluster's address ranges cannot be read: %s", error.message)
            return False
        except Exception:
            # Nobody waits for this task: an error that ended it would freeze the ranges without a word.
            _log.exception("unexpected error while the cluster's address ranges were read")
            return False
        self.ranges = conclude(found, self._config)
        if self.ranges.missing:
            _log.warning("no address range can be opened to tenants: %s", self.ranges.missing)
        return True

    async def _ask(self) -> Found:
        found = Found()
        try:
            async with aclosing(self._api.list_pages(NODE, chunk=100)) as pages:  # a node is large: it lists its images
                async for nodes, _ in pages:
                    read_nodes(nodes, found)
        except (NotPermitted, NotFound):
            found.unknown.append("nodes cannot be listed")
        try:
            services, _ = await self._api.list_all(SERVICE_CIDR)
            found.ranges |= _ranges(cidr for item in services for cidr in item["spec"].get("cidrs") or ())
        except (NotPermitted, NotFound):
            found.unknown.append("the ranges of services (ServiceCIDR) cannot be listed")
        try:
            slice_ = await self._api.get(ENDPOINT_SLICE, "kubernetes", "default")
            endpoints = (slice_ or {}).get("endpoints") or ()
            found.hosts |= _addresses(address for item in endpoints for address in item.get("addresses") or ())
        except NotPermitted:
            found.unknown.append("the API server's endpoints cannot be read")
        found.hosts |= _addresses([urlsplit(self._server).hostname or ""])
        return found


def read_nodes(nodes: Iterable[Manifest], found: Found) -> None:
    """Add what nodes say of themselves and of their pods. Pure."""
    for node in nodes:
        spec: dict[str, Any] = node.get("spec") or {}
        status: dict[str, Any] = node.get("status") or {}
        pods = _ranges([*(spec.get("podCIDRs") or ()), *([spec["podCIDR"]] if spec.get("podCIDR") else ())])
        found.ranges |= pods
        found.ranges_of_pods = found.ranges_of_pods or bool(pods)
        found.hosts |= _addresses(str(item.get("address", "")) for item in status.get("addresses") or ())


def conclude(found: Found, config: Config) -> ClusterRanges:
    """All ranges together, and whether that can be all of them. Pure.

    The operator's own address is the test: where the nodes do not announce the range of their pods it lies outside of all others.
    """
    settings = config.network
    configured = _ranges(settings.cluster_cidrs)
    missing = (
        "" if configured or not found.unknown else f"{'; '.join(found.unknown)}, and network.clusterCidrs is empty"
    )
    known = found.ranges | configured
    own = _addresses([settings.pod_ip])
    if not missing and not all(any(is_inside(item, outer) for outer in (*known, *found.hosts)) for item in own):
        missing = (
            f"the operator's own address {settings.pod_ip} lies in none of the known ranges; network.clusterCidrs has to name the "
            "range of the pods"
        )
    if not missing and not configured and not found.ranges_of_pods:
        missing = "the nodes announce no ranges of pods, and network.clusterCidrs is empty"
    # An address inside a range that is closed anyway needs no line of its own.
    single = [item for item in found.hosts if not any(is_inside(item, outer) for outer in known)]
    return cluster_ranges({*known, *neighbourhoods(single)}, missing)


def _ranges(texts: Iterable[str]) -> set[IpNetwork]:
    return {ip_network(text, strict=False) for text in texts}


def _addresses(texts: Iterable[str]) -> set[IpNetwork]:
    """Those of the texts that are addresses; nodes also announce host names."""
    found: set[IpNetwork] = set()
    for text in texts:
        try:
            found.add(ip_network(ip_address(text)))
        except ValueError:
            continue
    return found
