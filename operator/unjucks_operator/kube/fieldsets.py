"""Operations on managedFields and on the shape of manifests, as pure functions. Called by the child writer only."""

from collections.abc import Iterator, Mapping, Sequence
from hashlib import blake2b
from typing import Any, Final

import orjson

from unjucks_operator.kube.api import Manifest

_NOT_CONTENT: Final = frozenset({"apiVersion", "kind", "metadata", "status"})

Extra = tuple[str, bytes]
"""Where something is that we did not ask for (list positions left out), and what."""


def digest(manifest: Manifest) -> str:
    """Changes with anything in the manifest."""
    return blake2b(orjson.dumps(manifest, option=orjson.OPT_SORT_KEYS), digest_size=16).hexdigest()


def without_empty_lists(manifest: Manifest) -> Manifest:
    """The manifest without empty lists outside metadata. The server stores an empty list as nothing, but some kinds compare what
    is sent before they store it, and would count every repetition as a change."""
    return {key: value if key in _NOT_CONTENT else _pruned(value) for key, value in manifest.items() if value != []}


def _pruned(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _pruned(item) for key, item in value.items() if item != []}
    if isinstance(value, list):
        return [_pruned(item) for item in value]
    return value


def shape(manifest: Manifest) -> str:
    """Changes when a field appears or goes, or when anything inside a list changes; not with plain values (or secrets).

    Two manifests of one shape can replace each other with a merge patch: there is nothing to take away.
    """
    return blake2b(orjson.dumps(_skeleton(manifest), option=orjson.OPT_SORT_KEYS), digest_size=16).hexdigest()


def _skeleton(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _skeleton(item) for key, item in value.items()}
    return value if isinstance(value, list) else 0


def promote(managed_fields: Sequence[Mapping[str, Any]], manager: str) -> list[dict[str, Any]]:
    """managedFields in which what ``manager`` holds through create and patches counts as applied by it.

    Afterwards an apply that leaves a field out removes it, as if the object had been applied from the start.
    """
    kept: list[dict[str, Any]] = []
    applied: dict[str, Any] | None = None
    fields: dict[str, Any] = {}
    for entry in managed_fields:
        if entry.get("manager") != manager or entry.get("subresource"):
            kept.append(dict(entry))
            continue
        fields = union(fields, entry.get("fieldsV1") or {}) if fields else dict(entry.get("fieldsV1") or {})
        if applied is None or entry["operation"] == "Apply":
            applied = dict(entry)
    if applied is None:
        return kept
    return [*kept, applied | {"operation": "Apply", "fieldsV1": fields}]


def union(left: Mapping[str, Any], right: Mapping[str, Any]) -> dict[str, Any]:
    """The union of two field sets in their JSON form: an empty object is a field; "." marks one that has fields below it too."""
    if not left or not right:
        whole = dict(left or right)
        if whole:
            whole.setdefault(".", {})
        return whole
    merged = dict(left)
    for key, below in right.items():
        if key == ".":
            merged[key] = {}
        elif key in merged:
            merged[key] = union(merged[key], below)
        else:
            merged[key] = below
    return merged


def extras(desired: Manifest, live: Manifest) -> set[Extra]:
    """What ``live`` has outside metadata and status that ``desired`` does not ask for. Values are not compared."""
    return {
        found
        for section in live.keys() - _NOT_CONTENT
        for found in _extras(desired.get(section, _MISSING), live[section], section)
    }


_MISSING: Final = object()


def _extras(desired: Any, live: Any, path: str) -> Iterator[Extra]:
    if desired is _MISSING:
        if live not in (None, {}, []):
            yield path, orjson.dumps(live, option=orjson.OPT_SORT_KEYS)
    elif isinstance(live, dict) and isinstance(desired, dict):
        for key, value in live.items():
            yield from _extras(desired.get(key, _MISSING), value, f"{path}.{key}")
    elif isinstance(live, list) and isinstance(desired, list):
        if not _pair_up(desired, live):
            yield path, orjson.dumps(live, option=orjson.OPT_SORT_KEYS)
            return
        for wanted, value in zip(desired, live, strict=False):
            yield from _extras(wanted, value, f"{path}[]")


def replacement(desired: Manifest, live: Manifest) -> list[dict[str, Any]]:
    """The JSON patch that takes the extras out of ``live``, and fails when it was changed meanwhile.

    Values are taken from ``live``, as the server writes them, so that this changes nothing but the extras. Setting the version
    inside the object makes the server compare it and answer 409; a "test" would be a 422.
    """
    version = live["metadata"]["resourceVersion"]
    steps: list[dict[str, Any]] = [{"op": "replace", "path": "/metadata/resourceVersion", "value": version}]
    for section in sorted(live.keys() - _NOT_CONTENT):
        if section in desired:
            value = _trimmed(desired[section], live[section])
            steps.append({"op": "replace", "path": f"/{section}", "value": value})
        else:
            steps.append({"op": "remove", "path": f"/{section}"})
    return steps


def _trimmed(desired: Any, live: Any) -> Any:
    if isinstance(live, dict) and isinstance(desired, dict):
        return {key: _trimmed(desired[key], value) for key, value in live.items() if key in desired}
    if isinstance(live, list) and isinstance(desired, list):
        if not _pair_up(desired, live):
            return desired
        return [_trimmed(wanted, value) for wanted, value in zip(desired, live, strict=True)]
    return live


def _pair_up(desired: list[Any], live: list[Any]) -> bool:
    """Whether the two lists are about the same things in the same order, as far as their names tell."""
    return len(desired) == len(live) and all(_name(a) == _name(b) for a, b in zip(desired, live, strict=True))


def _name(item: Any) -> Any:
    return item.get("name") if isinstance(item, dict) else None


_FIXED: Final[Mapping[str, tuple[str, ...]]] = {
    "RoleBinding": ("roleRef",),
    "ClusterRoleBinding": ("roleRef",),
    # Who changes a role that gathers others needs every right there is.
    "ClusterRole": ("aggregationRule",),
    "Deployment": ("spec", "selector"),
}


def is_out_of_reach(desired: Manifest, live: Manifest) -> bool:
    """Whether ``live`` differs where no write of ours can change it: it has to be deleted and made again.

    Only somebody who deleted ours and made another one of that name, labels included, or sealed it, brings that about.
    """
    if live["kind"] == "Secret":
        return bool(live.get("immutable")) or live.get("type", "Opaque") != desired.get("type", "Opaque")
    path = _FIXED.get(live["kind"])
    return path is not None and _at(desired, path) != _at(live, path)


def _at(manifest: Any, path: tuple[str, ...]) -> Any:
    for key in path:
        manifest = manifest.get(key) or {}
    return manifest
