"""A job's output as a ConfigMap: one key for each file, and ``manifest.json`` that names paths, sizes and digests. Pure.

Keys of a ConfigMap have no ``/``: it is written ``__``. Paths that cannot be a key that way get a key made of a digest; the
manifest maps every path to its key, so nothing has to be guessed.
"""

import base64
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass

import orjson

from unjucks_api import names
from unjucks_api.reasons import Reason
from unjucks_operator.errors import Terminal
from unjucks_operator.planning import Manifest

MANIFEST_KEY = "manifest.json"
MAX_BYTES = 1024 * 1024 - 64 * 1024
"""An object of Kubernetes ends at 1.5 MiB in etcd and a ConfigMap at 1 MiB of data; the manifest and metadata need some of it."""

_KEY = re.compile(r"[-._a-zA-Z0-9]{1,253}", re.ASCII)


@dataclass(frozen=True, slots=True)
class File:
    """One generated file, checked."""

    path: str
    content: bytes
    mode: int
    sha256: str
    action: str
    template: str = ""
    sensitive: bool = False


def build_manifest(files: Sequence[File], *, generator: str, action: str, tree: str, engine: str) -> bytes:
    """``manifest.json``: equal files give equal bytes, whenever and wherever they were made."""
    keys = _keys([file.path for file in files])
    return orjson.dumps(
        {
            "version": 1,
            "generator": generator,
            "action": action,
            "templates": tree,
            "engine": engine,
            "files": [
                {
                    "path": file.path,
                    "key": keys[file.path],
                    "sha256": file.sha256,
                    "size": len(file.content),
                    "mode": f"{file.mode:04o}",
                }
                for file in files
            ],
        },
        option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS,
    )


def manifest_digest(manifest: bytes) -> str:
    """``sha256:<hex>`` of ``manifest.json``: names the whole output."""
    return "sha256:" + hashlib.sha256(manifest).hexdigest()


def build_output(
    *,
    namespace: str,
    name: str,
    immutable: bool,
    labels: dict[str, str],
    run_key: str,
    files: Sequence[File],
    manifest: bytes,
) -> Manifest:
    """The ConfigMap. Raises Terminal (OutputTooLarge) with both sizes when the files do not fit into one."""
    total = sum(len(file.content) for file in files) + len(manifest)
    if total > MAX_BYTES:
        raise Terminal(
            f"the output has {total} bytes and a ConfigMap takes {MAX_BYTES}; generate less, or choose another output",
            reason=Reason.OUTPUT_TOO_LARGE,
        )
    keys = _keys([file.path for file in files])
    data: dict[str, str] = {MANIFEST_KEY: manifest.decode()}
    binary: dict[str, str] = {}
    for file in files:
        try:
            data[keys[file.path]] = file.content.decode("utf-8")
        except UnicodeDecodeError:
            binary[keys[file.path]] = base64.b64encode(file.content).decode()
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": name,
            "namespace": namespace,
            "labels": labels,
            "annotations": {
                names.ANNOTATION_MANIFEST_DIGEST: manifest_digest(manifest),
                names.ANNOTATION_RUN_KEY: run_key,
            },
        },
        "data": data,
        **({"binaryData": binary} if binary else {}),
        **({"immutable": True} if immutable else {}),
    }


def _keys(paths: Sequence[str]) -> dict[str, str]:
    """A distinct legal key for each path."""
    keys: dict[str, str] = {}
    taken = {MANIFEST_KEY}
    for path in sorted(paths):
        key = path.replace("/", "__")
        if not _KEY.fullmatch(key) or key in taken or key in (".", ".."):
            key = "file-" + hashlib.sha256(path.encode()).hexdigest()[:32]
        taken.add(key)
        keys[path] = key
    return keys
