"""The files of a run, and ``manifest.json`` that lists them: equal files give equal bytes. Pure; called by every output."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from unjucks_api.courier_protocol import MAX_FILES, MAX_OWN_BYTES

MANIFEST_NAME = "manifest.json"
LEAVES = frozenset({"skipped", "removed"})
"""Actions of files that are not in the output afterwards."""


@dataclass(frozen=True, slots=True)
class File:
    """One generated file, checked. ``action`` says what it means for the output: created, updated, unchanged, skipped, removed,
    or conflicted (both sides between marks). ``why``: a few words about it.
    """

    path: str
    content: bytes
    mode: int
    sha256: str
    action: str
    template: str = ""
    sensitive: bool = False
    why: str = ""


def written_files(files: Sequence[File]) -> list[File]:
    """Those that are in the output afterwards."""
    return [file for file in files if file.action not in LEAVES]


def build_manifest(
    files: Sequence[File],
    *,
    generator: str,
    action: str,
    tree: str,
    engine: str,
    keys: Mapping[str, str] | None = None,
    last: str = "",
) -> bytes:
    """``manifest.json``: equal files give equal bytes, whenever and wherever they were made.

    ``keys``: where a path is found, when the output cannot hold it under its own name. ``last``: digest of the stored tree of what
    the templates gave, which the next update is merged with.
    """
    return orjson.dumps(
        {
            "version": 1,
            "generator": generator,
            "action": action,
            "templates": tree,
            "engine": engine,
            **({"last": last} if last else {}),
            "files": [
                {
                    "path": file.path,
                    **({"key": keys[file.path]} if keys is not None else {}),
                    "sha256": file.sha256,
                    "size": len(file.content),
                    "mode": f"{file.mode:04o}",
                    **({"sensitive": True} if file.sensitive else {}),
                }
                for file in files
            ],
        },
        option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS,
    )


def manifest_digest(manifest: bytes) -> str:
    """``sha256:<hex>`` of ``manifest.json``: names the whole output."""
    return "sha256:" + hashlib.sha256(manifest).hexdigest()


@dataclass(frozen=True, slots=True)
class Listed:
    """What a manifest says, beside what is there."""

    files: tuple[File, ...] = ()
    """Listed and there, with the bytes and the digest that they have now."""
    digests: Mapping[str, str] = field(default_factory=dict)
    """Path to the sha256 that was written."""
    engine: str = ""
    last: str = ""


def read_manifest(manifest: bytes, contents: Mapping[str, bytes]) -> Listed:
    """``contents`` by key (or path). Says nothing when somebody damaged the manifest, or made it larger than any of ours."""
    if len(manifest) > MAX_OWN_BYTES:
        return Listed()
    try:
        told: dict[str, Any] = orjson.loads(manifest)
        if len(told.get("files", ())) > MAX_FILES:
            return Listed()
        listed = {str(it["path"]): it for it in told.get("files", [])}
        files = []
        for path, it in listed.items():
            content = contents.get(str(it.get("key", path)))
            if content is not None:
                digest = hashlib.sha256(content).hexdigest()
                mode, sensitive = int(it["mode"], 8), bool(it.get("sensitive"))
                files.append(File(path, content, mode, digest, "unchanged", sensitive=sensitive))
        digests = {path: str(it["sha256"]) for path, it in listed.items()}
        return Listed(tuple(files), digests, str(told.get("engine", "")), str(told.get("last", "")))
    except (ValueError, KeyError, TypeError, AttributeError):
        return Listed()
