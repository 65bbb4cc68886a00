"""The source that is an OCI artifact, as Flux and ORAS push them: one layer with a .tar.gz, by tag, version or digest.

Every manifest and blob is compared with its digest. Tokens are got from where the registry says, which is checked like every other
address; credentials go to the registry and its token service only, never to where blobs are redirected to. A cosign signature is
taken when a given key made it over exactly this manifest's digest. Called by ``fetch`` in a courier's child.
"""

import base64
import binascii
import hashlib
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode, urljoin, urlsplit

import orjson
import re2
from urllib3.response import BaseHTTPResponse

from unjucks_api.courier_protocol import OciSource
from unjucks_api.reasons import Reason
from unjucks_runtime.courier.errors import CourierError
from unjucks_runtime.courier.net import GuardedPoolManager, check_url, printable_url, read_body
from unjucks_runtime.courier.secretfiles import client_certificate
from unjucks_runtime.sources.archive import ArchiveLimits, unpack_tar_gz
from unjucks_runtime.sources.model import Fetched, Job, status_error, unusable
from unjucks_runtime.sources.signatures import fits, pem_keys
from unjucks_runtime.sources.versions import newest

MAX_MANIFEST = 1024 * 1024
MAX_LIST = 4 * 1024 * 1024
MAX_TAGS = 20_000
MAX_PAGES = 50
MAX_SIGNATURES = 32
_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_DOCKER = "application/vnd.docker.distribution.manifest.v2+json"
_SIGNATURE = "dev.cosignproject.cosign/signature"
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_CHALLENGE = re.compile(r'([a-zA-Z]+)="([^"]*)"')


def fetch_oci(source: OciSource, job: Job) -> Fetched:
    """The wanted files of the artifact's layer. Raises CourierError or GenerationError."""
    registry = Registry(source, job)
    tag, digest = _choose(source, registry)
    manifest, found = registry.manifest(digest or tag)
    revision = f"{tag}@{found}" if tag else found
    if revision == job.known:
        return Fetched(revision, None, digest=found)
    verified = _verify(registry, found, job) if source.verify else ""
    layer = _layer(manifest, source)
    data = registry.blob(layer, job.limits.download_bytes)
    limits = ArchiveLimits(bytes=job.limits.source_bytes, files=job.limits.files)
    if data[:2] != b"\x1f\x8b":
        raise CourierError(Reason.ARCHIVE_INVALID, "the artifact's layer is no .tar.gz")
    tree = job.selection.filter(unpack_tar_gz(data, limits))
    told = {
        key.rpartition(".")[2]: value[:256]
        for key, value in (manifest.get("annotations") or {}).items()
        if key
        in ("org.opencontainers.image.revision", "org.opencontainers.image.source", "org.opencontainers.image.created")
        and isinstance(value, str)
    }
    return Fetched(revision, tree, digest=found, verified_by=verified, metadata=told, downloaded=len(data))


def _choose(source: OciSource, registry: "Registry") -> tuple[str, str]:
    """(tag, digest); one of the two may be empty."""
    if source.digest:
        return "", source.digest
    if source.semver:
        tags = registry.tags()
        if source.semver_filter:
            try:
                pattern = re2.compile(source.semver_filter)
            except re2.error:
                raise CourierError(
                    Reason.URL_INVALID, "ref.semverFilter is no regular expression (RE2 syntax)"
                ) from None
            tags = [tag for tag in tags if pattern.search(tag)]
        return newest(tags, source.semver, registry.shown), ""
    return source.tag or "latest", ""


class Registry:
    """One repository of a registry. ``actions``: what a token is asked for."""

    actions = "pull"

    def __init__(self, source: OciSource, job: Job) -> None:
        check_url(source.url, ("oci",))
        parts = urlsplit(source.url)
        self._job = job
        self._host = parts.netloc
        self._name = parts.path.strip("/")
        self.shown = printable_url(source.url)
        self._base = f"https://{self._host}/v2/{self._name}/"
        with client_certificate(job.credentials) as client:
            self._pool: GuardedPoolManager = job.network.http(authority=job.authority, client=client)
        self._login = _login(job, self._host)
        self._authorization = ""

    def manifest(self, reference: str) -> tuple[dict[str, Any], str]:
        """A manifest and its digest. ``reference``: a tag or digest."""
        data = self._get(f"manifests/{reference}", MAX_MANIFEST, {"Accept": f"{_MANIFEST}, {_DOCKER}"})
        digest = "sha256:" + hashlib.sha256(data).hexdigest()
        if _DIGEST.fullmatch(reference) and digest != reference:
            raise CourierError(
                Reason.VERIFICATION_FAILED, f"{self.shown}: the manifest {reference} has the digest {digest}"
            )
        manifest = _object(data, f"{self.shown}: the manifest {reference}")
        if not isinstance(manifest.get("layers"), list):
            raise CourierError(
                Reason.ARCHIVE_INVALID,
                f"{self.shown}: {reference} is no manifest of a single artifact",
            )
        return manifest, digest

    def blob(self, layer: Mapping[str, Any], most: int) -> bytes:
        """A blob, compared with the digest in its descriptor."""
        digest = str(layer.get("digest"))
        if not _DIGEST.fullmatch(digest):
            raise CourierError(Reason.ARCHIVE_INVALID, f"{self.shown}: a layer has no sha256 digest")
        data = self._get(f"blobs/{digest}", most, {})
        if "sha256:" + hashlib.sha256(data).hexdigest() != digest:
            raise CourierError(
                Reason.VERIFICATION_FAILED, f"{self.shown}: the layer {digest} has another content than its digest says"
            )
        return data

    def tags(self) -> list[str]:
        """All tags, page by page."""
        path, found = "tags/list?n=1000", []
        for _ in range(MAX_PAGES):
            response_headers: dict[str, str] = {}
            page = _object(self._get(path, MAX_LIST, {}, response_headers), f"{self.shown}: the list of tags")
            found += [tag for tag in page.get("tags") or () if isinstance(tag, str)]
            if len(found) > MAX_TAGS:
                raise CourierError(
                    Reason.ARCHIVE_TOO_LARGE, f"{self.shown} has more than {MAX_TAGS} tags", limit="refs"
                )
            link = re.match(r'<([^>]+)>; *rel="?next', response_headers.get("Link", ""))
            if link is None:
                return found
            target = urljoin(self._base + path, link[1])
            if not target.startswith(self._base):
                raise CourierError(Reason.EGRESS_REFUSED, f"{self.shown}: the list of tags goes on at another place")
            path = target.removeprefix(self._base)
        raise CourierError(Reason.ARCHIVE_TOO_LARGE, f"{self.shown}: the list of tags has no end", limit="refs")

    def _get(self, path: str, most: int, headers: dict[str, str], answered: dict[str, str] | None = None) -> bytes:
        url = self._base + path
        for attempt in (1, 2):
            sent = {"User-Agent": "unjucks-courier", "Accept-Encoding": "identity", **headers}
            if self._authorization:
                sent["Authorization"] = self._authorization
            response = self._pool.urlopen("GET", url, headers=sent, preload_content=False)
            if response.status == 401 and attempt == 1:
                response.close()
                self._authorization = self._authorize(response)
                continue
            if response.status != 200:
                response.close()
                if response.status == 404 and path.startswith("manifests/"):
                    raise CourierError(
                        Reason.REVISION_NOT_FOUND, f"{self.shown} has no {path.removeprefix('manifests/')}"
                    )
                raise status_error(self.shown, response.status)
            if answered is not None:
                answered.update(response.headers)
            return read_body(self._job.network, response, most, self.shown)
        raise status_error(self.shown, 401)

    def _authorize(self, response: BaseHTTPResponse) -> str:
        """The header for the next try: of the login itself, or of a token that the registry's service gives for it.

        Only the registry says where the login goes; a server to which it redirects blobs could name any place.
        """
        if urlsplit(response.geturl() or "").netloc != self._host:
            raise status_error(f"{self.shown}: the server that it redirects to", 401)
        kind, _, rest = response.headers.get("WWW-Authenticate", "").partition(" ")
        if kind.lower() == "basic" and self._login:
            return f"Basic {self._login}"
        told = dict(_CHALLENGE.findall(rest))
        if kind.lower() != "bearer" or "realm" not in told:
            raise status_error(self.shown, 401)
        check_url(told["realm"])
        query = {"scope": f"repository:{self._name}:{self.actions}"} | (
            {"service": told["service"]} if "service" in told else {}
        )
        joint = "&" if "?" in told["realm"] else "?"
        headers = {"User-Agent": "unjucks-courier"} | ({"Authorization": f"Basic {self._login}"} if self._login else {})
        response = self._pool.urlopen(
            "GET", told["realm"] + joint + urlencode(query), headers=headers, preload_content=False, redirect=False
        )
        if response.status != 200:
            response.close()
            raise status_error(f"{self.shown}: the registry's token service", response.status)
        body = _object(
            read_body(self._job.network, response, MAX_MANIFEST, "the token"), "the answer of the token service"
        )
        token = str(body.get("token") or body.get("access_token") or "")
        if not token or not token.isascii() or any(char <= " " for char in token):
            raise CourierError(Reason.FETCH_FAILED, f"{self.shown}: the registry's token service gives no token")
        return f"Bearer {token}"


def _login(job: Job, host: str) -> str:
    """user:password in base64; empty without credentials."""
    text = job.text(".dockerconfigjson")
    if text:
        try:
            entries = orjson.loads(text)["auths"]
            entry = next(
                (entries[key] for key in (host, f"https://{host}", f"https://{host}/v1/") if key in entries), None
            )
            if entry is None:
                raise unusable(f"the Secret's .dockerconfigjson has no entry for {host}")
            if entry.get("auth"):
                return str(entry["auth"])
            user, password = str(entry["username"]), str(entry["password"])
        except (ValueError, KeyError, TypeError, AttributeError):
            raise unusable("the Secret's .dockerconfigjson cannot be read") from None
    else:
        user, password = job.text("username"), job.text("password")
        if not user and not password:
            return ""
        if not user or not password:
            raise unusable("the Secret has only one of username and password")
    return base64.b64encode(f"{user}:{password}".encode()).decode()


def _layer(manifest: Mapping[str, Any], source: OciSource) -> Mapping[str, Any]:
    layers = [layer for layer in manifest["layers"] if isinstance(layer, dict)]
    if source.media_type:
        layers = [layer for layer in layers if layer.get("mediaType") == source.media_type]
    if not layers:
        kind = f" of the media type {source.media_type}" if source.media_type else ""
        raise CourierError(Reason.ARCHIVE_INVALID, f"the artifact has no layer{kind}")
    return layers[0]


def _verify(registry: Registry, digest: str, job: Job) -> str:
    """By whose key it is signed. cosign keeps signatures under a tag that is made from the digest."""
    keys = pem_keys(job.signers)
    try:
        manifest, _ = registry.manifest(digest.replace(":", "-") + ".sig")
    except CourierError as error:
        if error.reason is Reason.REVISION_NOT_FOUND:
            raise CourierError(Reason.VERIFICATION_FAILED, f"{registry.shown}: {digest} is not signed") from None
        raise
    for layer in manifest["layers"][:MAX_SIGNATURES]:
        text = (layer.get("annotations") or {}).get(_SIGNATURE) if isinstance(layer, dict) else None
        try:
            signature = base64.b64decode(text or "", validate=True)
        except (binascii.Error, TypeError):
            continue
        payload = registry.blob(layer, MAX_MANIFEST)
        name = next((name for name, key in keys if fits(key, payload, signature)), None)
        if name is not None and _signed_digest(payload) == digest:
            return f"cosign key {name}"
    raise CourierError(
        Reason.VERIFICATION_FAILED,
        f"{registry.shown}: {digest} is not signed by any of the signers' {len(keys)} key(s)",
    )


def _signed_digest(payload: bytes) -> str:
    try:
        return str(orjson.loads(payload)["critical"]["image"]["docker-manifest-digest"])
    except (ValueError, KeyError, TypeError):
        return ""


def _object(data: bytes, what: str) -> dict[str, Any]:
    try:
        found = orjson.loads(data)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise CourierError(Reason.ARCHIVE_INVALID, f"{what} is no JSON object")
    return found
