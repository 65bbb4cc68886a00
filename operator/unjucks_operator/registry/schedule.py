"""When each fetched source is looked at next: by its interval, sooner after a failure, at once when somebody asks. In memory only.

After a restart a source that was in order is looked at some time within its interval, so that a thousand registries do not ask at
once; one that was not is looked at immediately. Nothing of it is written into objects. Called by ``registry.reconcile``.
"""

import random
from dataclasses import dataclass

from unjucks_api.v1alpha1.template_registry import TemplateRegistry
from unjucks_operator.engine.clock import Clock
from unjucks_operator.engine.store import ObjectKey

FIRST_RETRY = 5.0
MOST_RETRY = 300.0
JITTER = 0.05


@dataclass(slots=True)
class _Entry:
    subject: tuple[str, int, str]
    """UID, generation and requested-at that the entry is about: with any other the source is looked at now."""
    due: float
    failures: int = 0


class Schedule:
    """One for the process. Times in seconds; ``least`` is the shortest interval that counts."""

    def __init__(self, clock: Clock, rng: random.Random, *, least: float) -> None:
        self._clock = clock
        self._rng = rng
        self._least = least
        self._entries: dict[ObjectKey, _Entry] = {}

    def due(self, key: ObjectKey, registry: TemplateRegistry, *, settled: bool) -> float:
        """Seconds until the source is to be looked at; 0 for now. ``settled``: its status is in order as it stands."""
        entry = self._entries.get(key)
        if entry is None and settled:
            first = self._rng.uniform(0, self.interval(registry))
            entry = self._entries[key] = _Entry(_subject(registry), self._clock.monotonic() + first)
        if entry is None or entry.subject != _subject(registry):
            return 0.0
        return max(entry.due - self._clock.monotonic(), 0.0)

    def succeeded(self, key: ObjectKey, registry: TemplateRegistry) -> float:
        """The source was looked at; seconds until the next look."""
        return self._set(key, registry, self.interval(registry), 0)

    def failed(self, key: ObjectKey, registry: TemplateRegistry, *, transient: bool) -> float:
        """It could not be read. ``transient``: it is tried again soon, ever more slowly; else at its interval."""
        interval = self.interval(registry)
        entry = self._entries.get(key)
        failures = entry.failures if entry is not None else 0
        delay = min(FIRST_RETRY * 2.0 ** min(failures, 10), MOST_RETRY, interval) if transient else interval
        return self._set(key, registry, delay, failures + 1)

    def forget(self, key: ObjectKey) -> None:
        """The object is gone."""
        self._entries.pop(key, None)

    def interval(self, registry: TemplateRegistry) -> float:
        """The interval that counts."""
        return max(float(registry.spec.interval_seconds), self._least)

    def _set(self, key: ObjectKey, registry: TemplateRegistry, delay: float, failures: int) -> float:
        delay *= self._rng.uniform(1 - JITTER, 1 + JITTER)
        self._entries[key] = _Entry(_subject(registry), self._clock.monotonic() + delay, failures)
        return delay


def _subject(registry: TemplateRegistry) -> tuple[str, int, str]:
    return registry.uid, registry.generation, registry.requested_at
