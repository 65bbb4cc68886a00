"""An OCI artifact as an output: one layer with the files, as Flux and ORAS read it, and the manifest of the files beside it.

Equal files give an equal layer: a .tar.gz sorted by path without times and owners. Blobs are pushed first; the artifact's manifest,
put under the tag, is the commit point. A registry has no compare-and-set of tags: the tag is looked at right before, and two
attempts of one run push the same bytes. A tag with other content is moved only when it was asked for, and only when this job made
it. Called by ``outputs.tasks``.
"""

import gzip
import hashlib
import io
import tarfile
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode, urljoin, urlsplit

import orjson

from unjucks_api.courier_protocol import OciSource, OciTarget
from unjucks_api.reasons import Reason
from unjucks_runtime.courier.errors import CourierError, transient
from unjucks_runtime.courier.net import check_url
from unjucks_runtime.outputs.checks import Content, Tree
from unjucks_runtime.sources.archive import ArchiveLimits, unpack_tar_gz
from unjucks_runtime.sources.model import Job, status_error
from unjucks_runtime.sources.oci import Registry

MEDIA_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
MEDIA_CONFIG = "application/vnd.cncf.flux.config.v1+json"
MEDIA_LAYER = "application/vnd.cncf.flux.content.v1.tar+gzip"
MEDIA_FILES = "application/vnd.unjucks.manifest.v1+json"
MEDIA_STATEMENT = "application/vnd.in-toto+json"
ANNOTATION_JOB = "io.unjucks.job"
ANNOTATION_RUN = "io.unjucks.run"
_MOST_OWN = 8 * 1024 * 1024
_CONFIG = b"{}"


class OciOutput(Registry):
    """One tag in one task."""

    actions = "pull,push"

    def __init__(self, target: OciTarget, name: str, job: Job) -> None:
        super().__init__(OciSource(url=target.url), job)
        self._target = target
        self._owner = name

    def look(self) -> tuple[str, dict[str, Any]]:
        """(digest, manifest) of the tag; empty when there is none."""
        try:
            manifest, digest = self.manifest(self._target.tag)
        except CourierError as error:
            if error.reason in (Reason.REVISION_NOT_FOUND, Reason.SOURCE_NOT_FOUND):
                return "", {}
            raise
        owner = (manifest.get("annotations") or {}).get(ANNOTATION_JOB)
        if owner != self._owner and self._target.overwrite:
            raise CourierError(
                Reason.NOT_OWNED,
                f"{self.shown}:{self._target.tag} was not pushed by job {self._owner} and is left as it is; choose another tag",
            )
        return digest, manifest

    def read(self, manifest: Mapping[str, Any]) -> tuple[Tree, bytes, bytes]:
        """(files, their manifest, the statement) of an artifact; nothing of one that is not this job's."""
        if (manifest.get("annotations") or {}).get(ANNOTATION_JOB) != self._owner:
            return {}, b"", b""
        found: dict[str, bytes] = {}
        for layer in manifest["layers"][:8]:
            kind = str(layer.get("mediaType"))
            if kind in (MEDIA_LAYER, MEDIA_FILES, MEDIA_STATEMENT):
                most = self._job.limits.download_bytes if kind == MEDIA_LAYER else _MOST_OWN
                found[kind] = self.blob(layer, most)
        limits = ArchiveLimits(bytes=self._job.limits.download_bytes, files=self._job.limits.files)
        files = dict(unpack_tar_gz(found[MEDIA_LAYER], limits)) if MEDIA_LAYER in found else {}
        return files, found.get(MEDIA_FILES, b""), found.get(MEDIA_STATEMENT, b"")

    def run_of(self, manifest: Mapping[str, Any]) -> str:
        """The run that pushed it, when it is this job's."""
        told = manifest.get("annotations") or {}
        return str(told.get(ANNOTATION_RUN, "")) if told.get(ANNOTATION_JOB) == self._owner else ""

    def facts(self, digest: str) -> dict[str, Any]:
        """For ``status.output``."""
        return {"revision": f"{self._target.tag}@{digest}", "url": self._target.url}

    def write(self, before: str, there: Mapping[str, Any], content: Content, run_key: str) -> tuple[str, bool]:
        """(digest of the artifact, whether it was pushed). Raises CourierError: Conflict."""
        blobs = [(MEDIA_LAYER, pack(content.files)), (MEDIA_FILES, content.manifest)]
        if content.statement:
            blobs.append((MEDIA_STATEMENT, content.statement))
        body = orjson.dumps(
            {
                "schemaVersion": 2,
                "mediaType": MEDIA_MANIFEST,
                "config": _descriptor(MEDIA_CONFIG, _CONFIG),
                "layers": [_descriptor(kind, data) for kind, data in blobs],
                "annotations": {ANNOTATION_JOB: self._owner, ANNOTATION_RUN: run_key},
            },
            option=orjson.OPT_SORT_KEYS,
        )
        digest = _digest(body)
        if digest == before:
            return digest, False
        if before and not self._target.overwrite:
            if next(iter(there.get("layers") or [{}])).get("digest") == _digest(blobs[0][1]):
                return before, False
            raise CourierError(
                Reason.CONFLICT,
                f"{self.shown}:{self._target.tag} exists with other content; set spec.output.oci.overwrite, or use another tag",
            )
        for data in (_CONFIG, *(data for _, data in blobs)):
            self._push(data)
        self._put(f"manifests/{self._target.tag}", body, MEDIA_MANIFEST)
        return digest, True

    # --- pushing --------------------------------------------------------------------------------------------------------
    def _push(self, data: bytes) -> None:
        digest = _digest(data)
        if self._call("HEAD", self._base + f"blobs/{digest}")[0] == 200:
            return
        status, headers = self._call("POST", self._base + "blobs/uploads/", b"")
        if status not in (201, 202):
            raise self._failed(status)
        place = urljoin(self._base, headers.get("Location", ""))
        check_url(place)
        if urlsplit(place).netloc != self._host:
            raise CourierError(Reason.EGRESS_REFUSED, f"{self.shown}: the registry wants blobs at another host")
        place += ("&" if "?" in place else "?") + urlencode({"digest": digest})
        status, _ = self._call("PUT", place, data, "application/octet-stream")
        if status != 201:
            raise self._failed(status)

    def _put(self, path: str, body: bytes, kind: str) -> None:
        status, _ = self._call("PUT", self._base + path, body, kind)
        if status not in (200, 201):
            raise self._failed(status)

    def _call(self, method: str, url: str, body: bytes | None = None, kind: str = "") -> tuple[int, Mapping[str, str]]:
        for attempt in (1, 2):
            sent = {"User-Agent": "unjucks-courier"} | ({"Content-Type": kind} if kind else {})
            if self._authorization:
                sent["Authorization"] = self._authorization
            response = self._pool.urlopen(method, url, body=body, headers=sent, preload_content=False)
            response.drain_conn()
            response.release_conn()
            if response.status == 401 and attempt == 1:
                self._authorization = self._authorize(response)
                continue
            return response.status, response.headers
        raise self._failed(401)

    def _failed(self, status: int) -> CourierError:
        error = status_error(self.shown, status)
        if error.reason is Reason.AUTHENTICATION_FAILED:
            return error
        if error.retryable:
            return transient(error.message)
        return CourierError(Reason.PUBLISH_FAILED, f"{self.shown}: the registry refused the push (HTTP {status})")


def pack(files: Tree) -> bytes:
    """A .tar.gz that depends on paths, bytes and modes only."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for path, (content, mode) in sorted(files.items()):
            entry = tarfile.TarInfo(path)
            entry.size, entry.mode = len(content), mode
            archive.addfile(entry, io.BytesIO(content))
    return gzip.compress(buffer.getvalue(), compresslevel=6, mtime=0)


def _digest(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def _descriptor(kind: str, data: bytes) -> dict[str, Any]:
    return {"mediaType": kind, "digest": _digest(data), "size": len(data)}
