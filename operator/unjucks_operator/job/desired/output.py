"""A job's output as a ConfigMap or a Secret: a key for each file, and ``manifest.json`` with paths, sizes and digests. Pure.

Keys of both have no ``/``: it is written ``__``. Paths that cannot be a key that way get a key made of a digest; the
manifest maps every path to its key, so nothing has to be guessed.
"""

import base64
import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from unjucks_api import names
from unjucks_api.reasons import Reason
from unjucks_api.v1alpha1.generation_job import GenerationJob, SensitiveFiles
from unjucks_operator.errors import Terminal
from unjucks_operator.planning import Manifest

MANIFEST_KEY = "manifest.json"
MAX_BYTES = 1024 * 1024 - 64 * 1024
"""A ConfigMap and a Secret end at 1 MiB of data; the manifest and metadata need some of it."""

_KEY = re.compile(r"[-._a-zA-Z0-9]{1,253}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Target:
    """Where a job's files go. ``takes_secrets``: files that values from a Secret went into may go there."""

    kind: str
    name: str
    immutable: bool = False
    takes_secrets: bool = False

    def __str__(self) -> str:
        """As kubectl spells it."""
        return f"{self.kind.lower()}/{self.name}"


def target_of(job: GenerationJob) -> Target | None:
    """The output that the job asks for; None for a dry run without one."""
    output = job.spec.output
    if output is not None and output.secret is not None:
        return Target("Secret", output.secret.name, takes_secrets=True)
    if output is not None and output.config_map is not None:
        asked = output.config_map
        return Target("ConfigMap", asked.name, asked.immutable, asked.sensitive_files is SensitiveFiles.ALLOW)
    return None


def refuse_misplaced(target: Target, files: Sequence["File"]) -> None:
    """Raise Terminal (SensitiveDataBlocked) when files with values from Secrets would go where others can read them."""
    misplaced = [file.path for file in files if file.sensitive]
    if misplaced and not target.takes_secrets:
        more = f" and {len(misplaced) - 1} more" if len(misplaced) > 1 else ""
        raise Terminal(
            f"file {misplaced[0]}{more} may hold values of a Secret, and whoever may read ConfigMaps would see them: set "
            "spec.output.secret, or spec.output.configMap.sensitiveFiles: Allow",
            reason=Reason.SENSITIVE_DATA_BLOCKED,
        )


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


def build_output(
    target: Target, *, namespace: str, labels: dict[str, str], run_key: str, files: Sequence[File], manifest: bytes
) -> Manifest:
    """The object. Raises Terminal (OutputTooLarge) with both sizes when the files do not fit into one."""
    total = sum(len(file.content) for file in files) + len(manifest)
    if total > MAX_BYTES:
        raise Terminal(
            f"the output has {total} bytes and a {target.kind} takes {MAX_BYTES}; generate less, or choose another output",
            reason=Reason.OUTPUT_TOO_LARGE,
        )
    keys = _keys([file.path for file in files])
    contents = {MANIFEST_KEY: manifest} | {keys[file.path]: file.content for file in files}
    return {
        "apiVersion": "v1",
        "kind": target.kind,
        "metadata": {
            "name": target.name,
            "namespace": namespace,
            "labels": labels,
            "annotations": {
                names.ANNOTATION_MANIFEST_DIGEST: manifest_digest(manifest),
                names.ANNOTATION_RUN_KEY: run_key,
            },
        },
        **(_secret_data(contents) if target.kind == "Secret" else _config_map_data(contents)),
        **({"immutable": True} if target.immutable else {}),
    }


def _secret_data(contents: Mapping[str, bytes]) -> Manifest:
    # The type is fixed: Kubernetes fills in some others by itself, with tokens for example.
    return {"type": "Opaque", "data": {key: base64.b64encode(content).decode() for key, content in contents.items()}}


def _config_map_data(contents: Mapping[str, bytes]) -> Manifest:
    data: dict[str, str] = {}
    binary: dict[str, str] = {}
    for key, content in contents.items():
        try:
            data[key] = content.decode("utf-8")
        except UnicodeDecodeError:
            binary[key] = base64.b64encode(content).decode()
    return {"data": data} | ({"binaryData": binary} if binary else {})


def read_contents(found: Manifest) -> dict[str, bytes]:
    """What is in a ConfigMap or Secret, by key. Raises ValueError for what is not base64."""
    data: Mapping[str, str] = found.get("data") or {}
    if found.get("kind") == "Secret":
        return {key: base64.b64decode(text) for key, text in data.items()}
    binary: Mapping[str, str] = found.get("binaryData") or {}
    return {key: text.encode() for key, text in data.items()} | {
        key: base64.b64decode(text) for key, text in binary.items()
    }


def read_output(found: Manifest) -> tuple[list[File], str]:
    """The files of an output and the engine's version, from its own manifest; nothing when somebody damaged it."""
    try:
        contents = read_contents(found)
        manifest: dict[str, Any] = orjson.loads(contents.get(MANIFEST_KEY, b"{}"))
        files = [
            File(
                str(it["path"]),
                contents[it["key"]],
                int(it["mode"], 8),
                str(it["sha256"]),
                "unchanged",
                sensitive=bool(it.get("sensitive")),
            )
            for it in manifest.get("files", [])
        ]
        return files, str(manifest.get("engine", ""))
    except (ValueError, KeyError, TypeError, AttributeError):
        return [], ""


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
