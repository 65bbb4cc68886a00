"""Tries now and then whether the network plugin enforces policies: two pods, a few seconds, in the operator's own namespace.

    policies in place → server runs → client tries, reports → both deleted → result kept in a ConfigMap → tenants woken

At the start, every ``network.probe.interval``, and when somebody gives the ConfigMap the annotation ``unjucks.io/requested-at`` a
new value. The last result outlives the operator, so a restart makes nobody doubt. Between probes nothing is written. Made by
``app``; runs in the leading process only.
"""

import asyncio
import json
import logging
import random
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any, Final

from unjucks_api import names
from unjucks_operator.config import Config
from unjucks_operator.engine.clock import Clock
from unjucks_operator.errors import OperatorError, Retryable
from unjucks_operator.kube.api import KubeApi, Manifest, PatchType
from unjucks_operator.kube.child import Child
from unjucks_operator.kube.resources import CONFIG_MAP, POD, Resource
from unjucks_operator.kube.store import ChildStore
from unjucks_operator.network.enforcement import NEVER_TRIED, OFF, Enforcement, Verdict, after, dump, judge, load
from unjucks_operator.network.probe_pods import build_client, build_policies, build_server

_log = logging.getLogger(__name__)

_POLL: Final = 0.2
_FIRST_RETRY: Final = 15.0
_SOON_ENOUGH: Final = 300.0
"""A result that is younger than this is not doubted at the start, in seconds: an operator that keeps restarting makes no pods."""
_REMEMBERED: Final = timedelta(days=7)
_OLD_AFTER: Final = 3
"""A result counts for this many intervals."""


class NetworkProbe:
    """``state`` is what is known; ``notice`` has to be called for every event about a ConfigMap of the operator's namespace."""

    def __init__(
        self,
        api: KubeApi,
        pods: ChildStore,
        config: Config,
        *,
        clock: Clock,
        rng: random.Random,
        on_change: Callable[[], None],
    ) -> None:
        self._api = api
        self._pods = pods
        self._config = config
        self._clock = clock
        self._rng = rng
        self._on_change = on_change
        self._namespace = config.platform_namespace
        self._wanted = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._asked = ""
        self._handled = ""
        self._facts: dict[str, str] = {}
        self.state: Enforcement = NEVER_TRIED if config.network.probe.enabled else OFF

    async def start(self) -> None:
        """Read the last result and begin; the first probe is made beside everything else."""
        if not self._config.network.probe.enabled:
            return
        kept = await self._api.get(CONFIG_MAP, names.PROBE, self._namespace)
        data: Mapping[str, str] = (kept or {}).get("data") or {}
        self._handled = data.get("requested", "")
        if self._asked == self._handled:
            self._wanted.clear()  # heard of before it was known that the last operator had done it
        # An old result counts until the first probe, which comes at once: no tenant flickers because the operator was away.
        self.state = load(data, self._clock.wall(), _REMEMBERED)
        self._task = asyncio.create_task(self._run(), name="network probe")

    async def stop(self) -> None:
        """End; a probe under way removes its pods first."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def notice(self, resource: Resource, child: Child | None) -> None:
        """A child changed: it may be a request for a probe."""
        if (
            resource is not CONFIG_MAP
            or child is None
            or (child.namespace, child.name) != (self._namespace, names.PROBE)
        ):
            return
        self._asked = child.annotations.get(names.ANNOTATION_REQUESTED_AT, "")
        if self._asked and self._asked != self._handled:
            self._wanted.set()

    @property
    def _patience(self) -> timedelta:
        return timedelta(seconds=max(self._config.network.probe.interval * _OLD_AFTER, 2 * _SOON_ENOUGH))

    async def _run(self) -> None:
        interval = self._config.network.probe.interval
        pause = 0.0
        if self.state.at is not None:
            age = (self._clock.wall() - self.state.at).total_seconds()
            pause = 0.0 if age > _SOON_ENOUGH else max(interval - age, 0.0)
        retry = _FIRST_RETRY
        while True:
            await self._rest(pause)
            self._handled = self._asked
            latest = await self._once()
            await self._conclude(latest)
            if latest.verdict is Verdict.UNKNOWN:
                pause, retry = min(retry, interval), retry * 2
            else:
                pause, retry = interval, _FIRST_RETRY

    async def _rest(self, seconds: float) -> None:
        waiting = asyncio.create_task(self._clock.sleep(seconds))
        asked = asyncio.create_task(self._wanted.wait())
        try:
            await asyncio.wait((waiting, asked), return_when=asyncio.FIRST_COMPLETED)
        finally:
            waiting.cancel()
            asked.cancel()
            await asyncio.gather(waiting, asked, return_exceptions=True)
        self._wanted.clear()

    async def _conclude(self, latest: Enforcement) -> None:
        before = self.state
        self.state = after(before, latest, self._clock.wall(), self._patience)
        if latest.verdict is Verdict.UNKNOWN:
            _log.warning("the probe of network policies came to no result: %s", latest.why)
        elif latest.failures:
            _log.error("network policies are not enforced: %s", "; ".join(latest.failures))
        try:
            await self._keep(self.state)
        except OperatorError as error:
            _log.warning("the probe's result cannot be kept: %s", error.message)
        if not self.state.same_for_tenants(before):
            self._on_change()

    async def _once(self) -> Enforcement:
        """One probe, from policies to the last deletion."""
        try:
            return await self._probe()
        except OperatorError as error:
            return Enforcement(why=error.message)
        except Exception:
            # Nobody waits for this task: an error that ended it would end every later probe without a word.
            _log.exception("unexpected error in the probe of network policies")
            return Enforcement(why="an unexpected error; see the operator's log")

    async def _probe(self) -> Enforcement:
        for component in (names.COMPONENT_PROBE_SERVER, names.COMPONENT_PROBE_CLIENT):
            for left in self._leftovers(component):
                await self._delete(left.name, left.uid)
        for policy in build_policies(self._config):
            await self._api.apply(policy, manager=names.MANAGER_PLATFORM)
        suffix = f"{self._rng.getrandbits(32):08x}"
        made: list[Manifest] = []
        try:
            server = await self._make(build_server(self._config, suffix), made)
            running = await self._wait(server, lambda status: bool(status.get("podIP")) and _phase(status) == "Running")
            client = await self._make(build_client(self._config, suffix, running["status"]["podIP"]), made)
            probe = self._config.network.probe
            ended = await self._wait(
                client, lambda status: _phase(status) == "Succeeded", extra=probe.patience + 2 * probe.settle
            )
            self._facts = {"nodes": " ".join(str(pod["spec"].get("nodeName", "")) for pod in (running, ended))}
            return judge(self._report(ended), self._clock.wall())
        finally:
            for pod in made:
                # Shielded: an operator that is told to stop must not leave its pods behind.
                await asyncio.shield(self._delete(pod["metadata"]["name"], pod["metadata"]["uid"]))

    async def _make(self, manifest: Manifest, made: list[Manifest]) -> Manifest:
        pod = await self._api.create(manifest, manager=names.MANAGER_PLATFORM)
        if pod is None:
            raise Retryable(f"pod {manifest['metadata']['name']} exists already")
        made.append(pod)
        return pod

    async def _wait(
        self, pod: Manifest, done: Callable[[Mapping[str, Any]], bool], *, extra: float = 0.0
    ) -> dict[str, Any]:
        """The pod once ``done``; looks into the informer's store, so waiting costs no request."""
        name, uid = pod["metadata"]["name"], pod["metadata"]["uid"]
        patience = self._config.network.probe.patience + extra
        begun = self._clock.monotonic()
        seen: dict[str, Any] = {}
        while self._clock.monotonic() - begun < patience:
            child = self._pods.get(self._namespace, name)
            if child is not None and child.uid == uid and child.full is not None:
                seen = child.full
                if done(seen.get("status") or {}):
                    return seen
                if child.deleting or _phase(seen.get("status") or {}) in ("Failed", "Succeeded"):
                    raise Retryable(f"pod {self._namespace}/{name} of the probe ended early: {_why(seen)}")
            await self._clock.sleep(_POLL)
        raise Retryable(f"pod {self._namespace}/{name} of the probe is not done after {patience:g} s: {_why(seen)}")

    def _report(self, pod: Mapping[str, Any]) -> Mapping[str, Any]:
        for container in (pod.get("status") or {}).get("containerStatuses") or ():
            message = ((container.get("state") or {}).get("terminated") or {}).get("message", "")
            try:
                report = json.loads(message)
            except ValueError:
                continue
            if isinstance(report, dict):
                self._facts["window"] = str(report.get("window", ""))[:16]
                return report
        return {}

    def _leftovers(self, component: str) -> list[Child]:
        return [
            child
            for child in self._pods.in_namespace(self._namespace)
            if child.labels.get(names.LABEL_COMPONENT) == component
            and child.labels.get(names.LABEL_TENANT_UID) is None
            and not child.deleting
        ]

    async def _delete(self, name: str, uid: str) -> None:
        await self._api.delete(POD, name, self._namespace, uid=uid)

    async def _keep(self, state: Enforcement) -> None:
        data = dump(state) | self._facts | {"why": state.why, "requested": self._handled}
        kept = await self._api.get(CONFIG_MAP, names.PROBE, self._namespace)
        if kept is None:
            labels = {names.LABEL_NAME: names.PART_OF, names.LABEL_PART_OF: names.PART_OF}
            metadata: dict[str, Any] = {"name": names.PROBE, "namespace": self._namespace, "labels": labels}
            manifest = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}
            await self._api.create(manifest, manager=names.MANAGER_PLATFORM)
        elif kept.get("data") != data:
            await self._api.patch(
                CONFIG_MAP,
                names.PROBE,
                self._namespace,
                {"data": data},
                patch_type=PatchType.MERGE,
                manager=names.MANAGER_PLATFORM,
            )


def _phase(status: Mapping[str, Any]) -> str:
    return str(status.get("phase", ""))


def _why(pod: Mapping[str, Any]) -> str:
    """The first thing that a pod's status complains about."""
    status: Mapping[str, Any] = pod.get("status") or {}
    for container in status.get("containerStatuses") or ():
        for state in (container.get("state") or {}).values():
            if isinstance(state, dict) and state.get("reason") not in (None, "ContainerCreating", "Completed"):
                return f"{state['reason']} {state.get('message', '')}".strip()
    for condition in status.get("conditions") or ():
        if condition.get("status") == "False" and condition.get("message"):
            return str(condition["message"])
    return str(status.get("message") or f"phase {status.get('phase', 'unknown')}")
