"""What the courier checks again before it writes anywhere: every path, every digest, and that the manifest lists these files.

The operator has checked it all; a publisher that believes its caller is one mistake away from writing outside its place. Pure.
"""

import base64
import binascii
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from unjucks_api.courier_protocol import PublishRequest
from unjucks_api.reasons import Reason
from unjucks_api.tree import PathRejectedError, check_collisions, check_path
from unjucks_runtime.courier.errors import CourierError

OWN_FOLDER = ".unjucks"
"""Folder for what is not generated, below the output's path: one folder in it for each job."""
MANIFEST = "manifest.json"
STATEMENT = "provenance.json"

Tree = dict[str, tuple[bytes, int]]


@dataclass(frozen=True, slots=True)
class Content:
    """A publication, checked. ``files``: path to bytes and mode, all of which the manifest lists with these digests."""

    files: Tree
    removed: tuple[str, ...]
    manifest: bytes
    statement: bytes
    seen: frozenset[str] | None = None
    """Existing files that may be overwritten, when the caller saw only a part of them."""

    def own(self, job: str) -> Tree:
        """Manifest and statement at their places."""
        made = {own_path(job, MANIFEST): (self.manifest, 0o644)}
        if self.statement:
            made[own_path(job, STATEMENT)] = (self.statement, 0o644)
        return made


def own_path(job: str, name: str) -> str:
    """Where a file of ours lies in a shared place. ``job``: namespace/name."""
    return f"{OWN_FOLDER}/{job.partition('/')[2]}/{name}"


def check_content(request: PublishRequest) -> Content:
    """Raises CourierError: PathRejected, ManifestMismatch."""
    files: Tree = {}
    for file in request.files:
        path = _safe(file.path)
        if path in files:
            raise CourierError(Reason.PATH_REJECTED, f"path {path!r} stands there twice", path=path)
        files[path] = (decode(file.content, path), 0o755 if file.mode & 0o100 else 0o644)
    removed = tuple(sorted({_safe(path) for path in request.removed} - files.keys()))
    manifest = decode(request.manifest, MANIFEST)
    try:
        check_collisions(list(files))
    except PathRejectedError as error:
        raise CourierError(Reason.PATH_REJECTED, str(error)) from None
    _check_manifest(manifest, files)
    seen = None if request.seen is None else frozenset(request.seen)
    return Content(files, removed, manifest, decode(request.statement, STATEMENT), seen)


def listed(manifest: bytes) -> dict[str, str]:
    """Path to sha256 of a manifest that was found somewhere; empty when it cannot be read, or names an unsafe path."""
    try:
        told: Mapping[str, Any] = orjson.loads(manifest)
        return {_safe(str(item["path"])): str(item["sha256"]) for item in told["files"]}
    except (ValueError, KeyError, TypeError, AttributeError, CourierError):
        return {}


def _safe(path: str) -> str:
    try:
        normal = check_path(path)
    except PathRejectedError as error:
        raise CourierError(Reason.PATH_REJECTED, str(error)) from None
    if normal.split("/")[0].casefold() == OWN_FOLDER:
        raise CourierError(
            Reason.PATH_REJECTED,
            f"path {path[:120]!r}: the folder {OWN_FOLDER} holds manifests and is not generated into",
        )
    return normal


def _check_manifest(manifest: bytes, files: Tree) -> None:
    told = listed(manifest)
    if told.keys() != files.keys():
        odd = sorted(told.keys() ^ files.keys())[:3]
        raise CourierError(
            Reason.MANIFEST_MISMATCH, f"the manifest does not list exactly the files; the difference begins with {odd}"
        )
    for path, (content, _) in files.items():
        if hashlib.sha256(content).hexdigest() != told[path]:
            raise CourierError(Reason.MANIFEST_MISMATCH, f"{path!r} is not what the manifest says", path=path)


def decode(text: str, what: str) -> bytes:
    """Base64 to bytes. Raises CourierError (ManifestMismatch)."""
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error:
        raise CourierError(Reason.MANIFEST_MISMATCH, f"{what[:120]!r} does not hold base64") from None


def encode(content: bytes) -> str:
    """Bytes to base64."""
    return base64.b64encode(content).decode()
