"""Order between jobs: ``dependsOn`` of one namespace, with circles found. Pure. Called by ``job.plan`` and ``job.reconcile``."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from unjucks_api.conditions import ConditionType, find_condition
from unjucks_api.reasons import Reason
from unjucks_operator.errors import Waiting

RETRY_DEPENDENCY = 60.0
"""Seconds until a dependency is looked at again; its events tell earlier."""
MAX_FOLLOWED = 500
"""Jobs that are followed to find a circle."""

Body = Mapping[str, Any]


def names_of(body: Body) -> list[str]:
    """What a job depends on, by its body, whoever wrote it."""
    listed = (body.get("spec") or {}).get("dependsOn") or ()
    return [str(item.get("name")) for item in listed if isinstance(item, Mapping)]


def follow(first: Sequence[str], read: Callable[[str], Body | None]) -> dict[str, Body | None]:
    """Every job that the dependencies lead to, also over others."""
    found: dict[str, Body | None] = {}
    todo = list(first)
    while todo and len(found) < MAX_FOLLOWED:
        name = todo.pop()
        if name not in found:
            body = found[name] = read(name)
            todo += names_of(body) if body is not None else []
    return found


def require_dependencies(job: str, first: Sequence[str], jobs: Mapping[str, Body | None]) -> None:
    """Raise Waiting (DependencyNotReady) until every job of ``first`` has succeeded; says of a circle how it goes."""
    circle = _circle(job, first, jobs)
    if circle:
        raise _waiting(f"spec.dependsOn goes in a circle: {' → '.join(circle)}; take one of them out")
    for name in first:
        body = jobs.get(name)
        if body is None:
            raise _waiting(f"waits for GenerationJob {name} (spec.dependsOn), which does not exist in this namespace")
        status = body.get("status") or {}
        current = status.get("observedGeneration") == body["metadata"].get("generation")
        ready = find_condition(status, ConditionType.READY) or {}
        if not current or ready.get("status") == "True":
            if current:
                continue
            raise _waiting(f"waits for GenerationJob {name} (spec.dependsOn), which has not run yet")
        over = find_condition(status, ConditionType.FAILED) is not None
        how = f"failed: {ready.get('reason')}; it has to succeed first" if over else "has not succeeded yet"
        raise _waiting(f"waits for GenerationJob {name} (spec.dependsOn), which {how}")


def _waiting(message: str) -> Waiting:
    return Waiting(message, reason=Reason.DEPENDENCY_NOT_READY, after=RETRY_DEPENDENCY)


def _circle(job: str, first: Sequence[str], jobs: Mapping[str, Body | None]) -> list[str]:
    """The way from the job back to itself, or nothing. Circles of others are told at those."""
    came_from: dict[str, str] = {}
    todo = [(job, name) for name in first]
    while todo:
        before, name = todo.pop()
        if name == job:
            way = [job, before]
            while way[-1] != job:
                way.append(came_from[way[-1]])
            return way[::-1] if way[1:] != [job] else [job, job]
        if name in came_from:
            continue
        came_from[name] = before
        body = jobs.get(name)
        todo += [(name, following) for following in (names_of(body) if body is not None else ())]
    return []
