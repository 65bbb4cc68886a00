"""A registry's remote source in the words of the courier's protocol: which Secrets it needs, what is asked. Pure.

Called by ``registry.fetch``. Values of Secrets pass through here on their way into one request and stay nowhere.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from unjucks_api.courier_protocol import (
    BucketSource,
    CourierLimits,
    FetchRequest,
    FetchSource,
    GitSource,
    HttpSource,
    OciSource,
    Service,
)
from unjucks_api.reasons import Reason
from unjucks_api.v1alpha1.common import Model
from unjucks_api.v1alpha1.template_registry import TemplateRegistry, TemplateRegistrySpec
from unjucks_api.v1alpha1.tenant import Tenant
from unjucks_operator.config import Config
from unjucks_operator.errors import Terminal, Waiting
from unjucks_operator.network.ranges import ClusterRanges
from unjucks_operator.renderers.allow import allow_list

CREDENTIAL_KEYS = frozenset(
    {
        *("username", "password", "bearerToken", "identity", "known_hosts", "caFile", "ca.crt", ".dockerconfigjson"),
        *("accesskey", "secretkey", "sessiontoken"),
    }
)
CERTIFICATE_KEYS = frozenset({"ca.crt", "tls.crt", "tls.key"})
MOST_SIGNERS = 64
_ARTIFACT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:@+-]{0,255}")


@dataclass(frozen=True, slots=True)
class Needed:
    """Names of the Secrets that a source refers to; empty for none."""

    credentials: str = ""
    certificates: str = ""
    signers: str = ""


def needed_secrets(spec: TemplateRegistrySpec) -> Needed:
    """Which Secrets have to be read."""
    source: Any = spec.http or spec.git or spec.oci or spec.bucket
    if source is None:
        return Needed()
    verify = getattr(source, "verify", None)
    certificates = getattr(source, "cert_secret_ref", None)
    return Needed(
        source.secret_ref.name if source.secret_ref else "",
        certificates.name if certificates else "",
        verify.secret_ref.name if verify else "",
    )


def fetch_source(spec: TemplateRegistrySpec) -> FetchSource:
    """The source itself, unless it is Flux'."""
    if spec.http is not None:
        return HttpSource(url=spec.http.url, digest=spec.http.digest or "")
    if spec.git is not None:
        return GitSource(
            url=spec.git.url,
            recurse_submodules=spec.git.recurse_submodules,
            verify=spec.git.verify.mode if spec.git.verify else None,
            **_given(spec.git.ref),
        )
    if spec.oci is not None:
        return OciSource(
            url=spec.oci.url,
            media_type=spec.oci.layer_selector.media_type if spec.oci.layer_selector else "",
            verify=spec.oci.verify is not None,
            **_given(spec.oci.ref),
        )
    assert spec.bucket is not None
    return BucketSource(
        endpoint=spec.bucket.endpoint,
        bucket=spec.bucket.bucket_name,
        prefix=spec.bucket.prefix or "",
        region=spec.bucket.region or "",
    )


def _given(ref: Model | None) -> dict[str, Any]:
    """What a reference says; its fields have the protocol's names."""
    return ref.model_dump(exclude_none=True) if ref is not None else {}


def flux_source(kind: str, body: Mapping[str, Any], host: str) -> HttpSource:
    """The artifact that a Flux object publishes. Raises Waiting (DependencyNotReady) or Terminal (UrlInvalid)."""
    name = body["metadata"]["name"]
    artifact = (body.get("status") or {}).get("artifact") or {}
    url, digest, revision = (str(artifact.get(key) or "") for key in ("url", "digest", "revision"))
    if not url:
        raise Waiting(f"{kind} {name} has no artifact yet", reason=Reason.DEPENDENCY_NOT_READY, after=15.0)
    try:
        parts = urlsplit(url)
        same = (parts.hostname or "").rstrip(".") == host.rstrip(".") and parts.username is None
        scheme = parts.scheme
    except ValueError:
        same, scheme = False, ""
    if not same or scheme not in ("http", "https"):
        raise Terminal(
            f"the artifact of {kind} {name} is not on {host}, the platform's source-controller (courier.fluxHost)",
            reason=Reason.URL_INVALID,
        )
    # The source-controller serves all tenants' artifacts to whoever asks, and some roles let people write this status.
    place = f"/{kind.lower()}/{body['metadata']['namespace']}/{name}/"
    if not parts.path.startswith(place) or not _ARTIFACT.fullmatch(parts.path.removeprefix(place)) or parts.query:
        raise Terminal(
            f"the artifact of {kind} {name} does not lie below {place}, where the source-controller keeps what is this object's",
            reason=Reason.URL_INVALID,
        )
    if not digest.startswith("sha256:") or len(digest) != 71:
        raise Terminal(f"the artifact of {kind} {name} has no sha256 digest", reason=Reason.VERIFICATION_FAILED)
    return HttpSource(url=url, digest=digest, revision=revision[:512] or digest, flux=True)


def fetch_request(
    registry: TemplateRegistry,
    source: FetchSource,
    secrets: Mapping[str, Mapping[str, str]],
    tenant: Tenant,
    ranges: ClusterRanges,
    config: Config,
    known: str,
) -> FetchRequest:
    """The whole request. ``secrets``: data of the Secrets that ``needed_secrets`` names, by name."""
    spec, needed = registry.spec, needed_secrets(registry.spec)
    settings = config.courier
    wall = min(float(spec.timeout_seconds), settings.max_timeout)
    return FetchRequest(
        source=source,
        path=spec.path,
        ignore=spec.ignore or "",
        known=known,
        credentials=_only(secrets.get(needed.credentials, {}), CREDENTIAL_KEYS),
        certificates=_only(secrets.get(needed.certificates, {}), CERTIFICATE_KEYS),
        signers=dict(list(secrets.get(needed.signers, {}).items())[:MOST_SIGNERS]),
        allow=allow_list(tenant, ranges, config, _own_service(source)),
        limits=CourierLimits(
            wall_seconds=wall,
            connect_seconds=min(10.0, wall),
            read_seconds=min(30.0, wall),
            cpu_seconds=settings.cpu_seconds,
            memory_bytes=settings.memory_bytes,
            download_bytes=settings.download_bytes,
            source_bytes=config.jobs.source_bytes,
            files=config.jobs.files,
        ),
    )


def _own_service(source: FetchSource) -> list[Service]:
    """The host of a Flux artifact: it may lie in the cluster, and it was checked to be the platform's (``flux_source``)."""
    if not (isinstance(source, HttpSource) and source.flux):
        return []
    parts = urlsplit(source.url)
    return [Service(host=parts.hostname or "", port=parts.port or (443 if parts.scheme == "https" else 80))]


def _only(data: Mapping[str, str], keys: frozenset[str]) -> dict[str, str]:
    return {key: value for key, value in data.items() if key in keys}
