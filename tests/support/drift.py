"""Somebody edits what the operator made: every field that it holds, one by one, changed and taken away; and whole objects deleted.

Which fields those are is read from the objects themselves (managedFields), so that nothing has to be listed by hand. Used by the
test that all of it is taken back, and by the benchmark that says how fast.
"""

import asyncio
import json
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from support.operator_process import Site
from support.tenants import CHILD_KINDS
from unjucks_api import names
from unjucks_operator.errors import OperatorError
from unjucks_operator.kube.api import PatchType
from unjucks_operator.kube.resources import Resource

REPAIRED_WITHIN = 30.0
_KEYS = ("name", "containerPort", "protocol", "mountPath")
_DEFAULTS = (
    *("successThreshold", "terminationMessagePath", "terminationMessagePolicy"),
    *("dnsPolicy", "schedulerName", "restartPolicy", "serviceAccount"),
)
"""Fields of pods that the API server fills in and our manifests leave open."""
Path = tuple[str | int, ...]
Body = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Repair:
    """One edit and how long it stood, in seconds; None: the API server refused it, or it changed nothing."""

    kind: str
    name: str
    what: str
    seconds: float | None


async def children(site: Site, tenant: str) -> list[tuple[Resource, Body]]:
    """Everything of the tenant, with managedFields."""
    found = []
    for resource in CHILD_KINDS:
        items, _ = await site.api.list_all(resource, label_selector=f"{names.LABEL_TENANT}={tenant}")
        for item in items:
            whole = {"apiVersion": resource.api_version, "kind": resource.kind} | item
            found.append((resource, whole))
    return found


def held_paths(body: Body) -> list[Path]:
    """Where the fields are that the operator holds, as they stand in the object."""
    found: dict[Path, None] = {}
    for entry in body["metadata"].get("managedFields") or ():
        if entry["manager"].startswith(names.FIELD_MANAGER_PREFIX) and not entry.get("subresource"):
            for path in _leaves(entry.get("fieldsV1") or {}, body, ()):
                found[path] = None
    return sorted(found, key=str)


def _leaves(fields: Body, value: Any, path: Path) -> Iterator[Path]:
    below = {key: child for key, child in fields.items() if key != "."}
    if not below:
        yield path
        return
    for key, child in below.items():
        kind, _, text = key.partition(":")
        if kind == "f" and isinstance(value, dict) and text in value:
            yield from _leaves(child, value[text], (*path, text))
        elif kind == "k" and isinstance(value, list):
            wanted = json.loads(text)
            for place, item in enumerate(value):
                if all(item.get(name) == part for name, part in wanted.items()):
                    yield from _leaves(child, item, (*path, place))
        elif kind == "v" and isinstance(value, list) and json.loads(text) in value:
            yield (*path, value.index(json.loads(text)))


def value_at(body: Any, path: Path) -> Any:
    """What stands there."""
    for part in path:
        body = body[part]
    return body


def other(value: Any) -> Any:
    """Another value of the same sort."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 1
    if isinstance(value, str):
        if found := re.fullmatch(r"(\d+)([A-Za-z]*)", value):
            return f"{int(found[1]) + 1}{found[2]}"
        return {"restricted": "privileged"}.get(value, value + "x")
    if isinstance(value, list):
        return value[:-1] if len(value) > 1 else [*value, *value]
    return {}


def essence(resource: Resource, body: Body) -> str:
    """What must be as before: all but status, versions, and what a new certificate changes."""
    metadata = body["metadata"]
    ours = {key: text for key, text in (metadata.get("annotations") or {}).items() if "certificate" not in key}
    ours = {key: text for key, text in ours.items() if key.startswith(names.GROUP)}
    rest = {
        key: value for key, value in body.items() if key not in ("metadata", "status", "data", "apiVersion", "kind")
    }
    return json.dumps([rest, metadata.get("labels"), ours, sorted(body.get("data") or ())], sort_keys=True)


async def delete_child(site: Site, resource: Resource, body: Body) -> Repair:
    """Delete it and wait for another one in its place."""
    metadata, wanted = body["metadata"], essence(resource, body)
    started = time.monotonic()
    await site.api.delete(resource, metadata["name"], metadata.get("namespace"), uid=metadata["uid"])
    async with asyncio.timeout(REPAIRED_WITHIN):
        while True:
            now = await site.api.get(resource, metadata["name"], metadata.get("namespace"))
            if now is not None and now["metadata"]["uid"] != metadata["uid"] and essence(resource, now) == wanted:
                return Repair(resource.kind, metadata["name"], "deleted", time.monotonic() - started)
            await asyncio.sleep(0.01)


async def edit_child(
    site: Site,
    resource: Resource,
    name: str,
    namespace: str | None,
    *,
    take_away: bool,
    wanted: Callable[[Path], bool] = lambda _path: True,
) -> list[Repair]:
    """Edit each held field of one object, one after the other, and wait each time until it is as before."""
    body = await site.api.get(resource, name, namespace)
    assert body is not None
    repairs = []
    for path in filter(wanted, held_paths(body)):
        for operation in ("replace", "remove") if take_away else ("replace",):
            what = f"{operation} {'.'.join(map(str, path))}"
            repairs.append(
                Repair(resource.kind, name, what, await _edit(site, resource, name, namespace, path, operation))
            )
    return repairs


async def _edit(
    site: Site, resource: Resource, name: str, namespace: str | None, path: Path, operation: str
) -> float | None:
    before = await site.api.get(resource, name, namespace)
    assert before is not None
    wanted, version = essence(resource, before), before["metadata"]["resourceVersion"]
    secret = before.get("data")
    try:
        change: Body = {"op": operation, "path": "".join(f"/{_escaped(part)}" for part in path)}
        if operation == "replace":
            change["value"] = "AAAA" if path[0] == "data" else other(value_at(before, path))
    except (KeyError, IndexError):
        return None  # a repair before this one wrote the object in another order
    started = time.monotonic()
    try:
        written = await site.api.patch(
            resource, name, namespace, [change], patch_type=PatchType.JSON, manager="somebody"
        )
    except OperatorError:
        return None
    if written["metadata"]["resourceVersion"] == version or (essence(resource, written) == wanted and not secret):
        return None
    async with asyncio.timeout(REPAIRED_WITHIN):
        while True:
            now = await site.api.get(resource, name, namespace)
            fresh = now is not None and (secret is None or now.get("data") != written.get("data"))
            if now is not None and fresh and essence(resource, now) == wanted:
                return time.monotonic() - started
            await asyncio.sleep(0.01)


def _escaped(part: str | int) -> str:
    return str(part).replace("~", "~0").replace("/", "~1")


def telling(path: Path) -> bool:
    """Not each of the labels that all children have alike, but those that decide whose an object is, and what it enforces.

    And not the keys of lists in the Deployment's pods: another key is another container or volume beside ours, which an apply does
    not take away. That is a limit, named in docs/security.md.
    """
    if path[:2] == ("metadata", "labels"):
        return path[-1] in (names.LABEL_MANAGED_BY, names.LABEL_TENANT_UID) or "pod-security" in str(path[-1])
    key_of_list = any(isinstance(part, int) for part in path[:-1]) and path[-1] in _KEYS
    return not ("template" in path and (key_of_list or path[-1] in _DEFAULTS))


def summary(repairs: list[Repair]) -> dict[str, Any]:
    """Figures for people and for a line of JSON, times in seconds."""
    times = sorted(repair.seconds for repair in repairs if repair.seconds is not None)
    slowest = max((repair for repair in repairs if repair.seconds is not None), key=lambda item: item.seconds or 0.0)
    return {
        "edits": len(repairs),
        "repaired": len(times),
        "refusedOrWithoutEffect": len(repairs) - len(times),
        "p50Seconds": round(times[len(times) // 2], 3),
        "p95Seconds": round(times[int(len(times) * 0.95) - 1], 3),
        "maxSeconds": round(times[-1], 3),
        "slowest": f"{slowest.kind} {slowest.name}: {slowest.what}",
    }
