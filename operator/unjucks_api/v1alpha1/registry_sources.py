"""The remote sources of a TemplateRegistry: what their specs say. Names and precedence are those of Flux' source kinds. Pure.

Credentials never stand here: each source names a Secret of the same namespace (``docs/registries-and-jobs.md`` lists the keys).
Called by ``template_registry``.
"""

import re
from enum import StrEnum
from typing import Annotated, ClassVar

from pydantic import Field

from unjucks_api.courier_protocol import GitVerify
from unjucks_api.durations import DURATION, duration_seconds
from unjucks_api.markers import Cel, Switch
from unjucks_api.v1alpha1.common import Digest, DnsSubdomain, LocalReference, Model, Ruled

MAX_URL = 2048
DAY = 86400

_HTTPS = r"^https://[^\s/?#@]+([/?#]\S*)?$"
_GIT = r"^(https://[^\s/?#@]+|ssh://([A-Za-z0-9._-]+@)?[^\s/?#@:]+(:[0-9]{1,5})?)/[^\s?#]+$"
_OCI = r"^oci://[^\s/?#@]+/[a-z0-9._/-]+$"

Interval = Annotated[
    str,
    Field(min_length=2, max_length=20, pattern=DURATION),
    Cel(
        "duration(self) >= duration('10s') && duration(self) <= duration('24h')",
        "an interval is between 10s and 24h",
        check=lambda text: 10 <= duration_seconds(text) <= DAY,
    ),
]
FetchTimeout = Annotated[
    str,
    Field(min_length=2, max_length=20, pattern=DURATION),
    Cel(
        "duration(self) >= duration('1s') && duration(self) <= duration('10m')",
        "a timeout of a source is between 1s and 10m",
        check=lambda text: 1 <= duration_seconds(text) <= 600,
    ),
]
Ref = Annotated[
    str,
    Field(min_length=1, max_length=256),
    Cel(
        "self.matches('^[A-Za-z0-9][A-Za-z0-9._/+@#=-]*$') && !self.contains('..') && !self.endsWith('.lock')",
        "a name of a branch or tag starts with a letter or digit, holds letters, digits and . _ / + @ # = -, but not '..', and "
        "does not end in .lock",
        check=lambda text: (
            bool(re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._/+@#=-]*", text))
            and ".." not in text
            and not text.endswith(".lock")
        ),
    ),
]
SemverRange = Annotated[str, Field(min_length=1, max_length=128)]


def _url(pattern: str, message: str) -> Cel:
    return Cel(
        f"self.matches('{pattern}')".replace("\\", "\\\\"),
        message,
        check=lambda url: re.fullmatch(pattern.strip("^$"), url) is not None,
    )


class HttpArchive(Model):
    """An archive behind a URL."""

    url: Annotated[
        str,
        Field(min_length=9, max_length=MAX_URL),
        _url(_HTTPS, "the URL starts with https:// and holds neither blanks nor credentials"),
    ] = Field(description="Where the .tar.gz or .zip is, by https. Redirects are followed within https, at most five.")
    digest: Digest | None = Field(
        default=None,
        description="SHA-256 of the archive, sha256:<hex>. Another archive is refused. Absent: any content is taken.",
    )
    secret_ref: LocalReference | None = Field(
        default=None, description="Secret with username and password, or bearerToken. Absent: no credentials are sent."
    )
    cert_secret_ref: LocalReference | None = Field(
        default=None,
        description="Secret with ca.crt for an own authority; tls.crt and tls.key for a client certificate. Absent: public ones.",
    )


class GitRef(Model):
    """Which commit. Of several the first counts: commit, name, semver, tag, branch."""

    branch: Ref | None = Field(default=None, description="Head of this branch. Absent: the repository's own head.")
    tag: Ref | None = Field(default=None, description="Commit of this tag.")
    semver: SemverRange | None = Field(
        default=None, description="Newest tag that is a version in this range, for example >=1.4.0 <2.0.0."
    )
    name: Annotated[Ref, Field(pattern="^(refs/.*|HEAD)$")] | None = Field(
        default=None, description="Full name of a reference, for example refs/heads/main."
    )
    commit: Annotated[str, Field(pattern="^([0-9a-f]{40}|[0-9a-f]{64})$", max_length=64)] | None = Field(
        default=None, description="This commit, by its whole hash."
    )


class GitVerification(Model):
    """Which signatures are needed."""

    mode: GitVerify = Field(
        default=GitVerify.HEAD,
        description="What has to be signed: HEAD (the commit), Tag (the tag object) or TagAndHEAD (both). Absent: HEAD.",
    )
    secret_ref: LocalReference = Field(
        description="Secret whose values are the signers' public keys: OpenPGP certificates, or lines of SSH public keys."
    )


class GitRepositorySource(Ruled):
    """A Git repository."""

    rules: ClassVar[tuple[Cel, ...]] = (
        Cel(
            "!self.url.startsWith('ssh://') || has(self.secretRef)",
            "a repository over ssh needs secretRef with identity and known_hosts",
            check=lambda git: not git.url.startswith("ssh://") or git.secret_ref is not None,
        ),
        Cel(
            "!has(self.verify) || self.verify.mode == 'HEAD' || (has(self.ref) && (has(self.ref.tag) || has(self.ref.semver))"
            " && !has(self.ref.commit) && !has(self.ref.name))",
            "verify.mode Tag and TagAndHEAD need ref.tag or ref.semver, without ref.commit and ref.name",
            check=lambda git: (
                git.verify is None
                or git.verify.mode is GitVerify.HEAD
                or (bool(git.ref and (git.ref.tag or git.ref.semver)) and not (git.ref.commit or git.ref.name))
            ),
        ),
    )

    url: Annotated[
        str,
        Field(min_length=9, max_length=MAX_URL),
        _url(_GIT, "the URL is https://host/path or ssh://user@host/path, without a password"),
    ] = Field(description="Repository, https://… or ssh://user@host/….")
    ref: GitRef | None = Field(default=None, description="Which commit. Absent: the repository's own head.")
    secret_ref: LocalReference | None = Field(
        default=None,
        description="Secret with username and password, or bearerToken, and ca.crt (https); identity, known_hosts and, for an "
        "encrypted key, password (ssh). Absent: no credentials.",
    )
    verify: GitVerification | None = Field(default=None, description="Signatures that are needed. Absent: none.")
    recurse_submodules: Annotated[bool, Switch("Flux' own word for it; a repository's submodules are taken or not")] = (
        Field(
            default=False,
            description="Fetches submodules too, from URLs that are allowed like the repository's. Absent: false.",
        )
    )


class OciRef(Model):
    """Which artifact. Of several the first counts: digest, semver, tag."""

    tag: Annotated[str, Field(max_length=128, pattern="^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$")] | None = Field(
        default=None, description="This tag. Absent: latest."
    )
    semver: SemverRange | None = Field(default=None, description="Newest tag that is a version in this range.")
    semver_filter: Annotated[str, Field(min_length=1, max_length=128)] | None = Field(
        default=None, description="Regular expression; tags that do not match are left out before semver is applied."
    )
    digest: Digest | None = Field(default=None, description="Digest of the manifest, sha256:<hex>.")


class LayerSelector(Model):
    """Which layer of an artifact."""

    media_type: Annotated[str, Field(min_length=1, max_length=256)] = Field(
        description="The first layer of this media type is taken."
    )


class CosignProvider(StrEnum):
    """How artifacts are signed."""

    COSIGN = "Cosign"


class OciVerification(Model):
    """Which signatures are needed."""

    provider: CosignProvider = Field(
        default=CosignProvider.COSIGN, description="Kind of signature: Cosign, with a key pair. Absent: Cosign."
    )
    secret_ref: LocalReference = Field(description="Secret whose values are public keys in PEM form.")


class OciArtifact(Model):
    """An artifact in an OCI registry, as Flux pushes them: one layer with a .tar.gz."""

    url: Annotated[
        str,
        Field(min_length=9, max_length=MAX_URL),
        _url(_OCI, "the URL is oci://host/repository, without a tag"),
    ] = Field(description="Repository, oci://host/name, without a tag.")
    ref: OciRef | None = Field(default=None, description="Which artifact. Absent: the tag latest.")
    layer_selector: LayerSelector | None = Field(default=None, description="Which layer. Absent: the first.")
    secret_ref: LocalReference | None = Field(
        default=None, description="Secret with .dockerconfigjson, or username and password. Absent: no credentials."
    )
    cert_secret_ref: LocalReference | None = Field(
        default=None,
        description="Secret with ca.crt for an own authority; tls.crt and tls.key for a client certificate. Absent: public ones.",
    )
    verify: OciVerification | None = Field(default=None, description="Signatures that are needed. Absent: none.")


class BucketObjects(Model):
    """Objects below a prefix of an S3-compatible bucket."""

    endpoint: Annotated[
        str,
        Field(min_length=9, max_length=512),
        _url(r"^https://[^\s/?#@]+/?$", "the endpoint is https://host, with a port if it needs one, and no path"),
    ] = Field(description="Server, for example https://s3.eu-central-1.amazonaws.com.")
    bucket_name: Annotated[str, Field(min_length=3, max_length=63, pattern="^[a-z0-9][a-z0-9.-]*[a-z0-9]$")] = Field(
        description="Name of the bucket."
    )
    prefix: Annotated[str, Field(max_length=512)] | None = Field(
        default=None, description="Only objects whose keys start with it; it is left out of their paths. Absent: all."
    )
    region: Annotated[str, Field(max_length=64, pattern="^[a-z0-9-]+$")] | None = Field(
        default=None, description="Region that requests are signed for. Absent: us-east-1."
    )
    secret_ref: LocalReference | None = Field(
        default=None,
        description="Secret with accesskey and secretkey, and sessiontoken if there is one. Absent: no credentials.",
    )
    cert_secret_ref: LocalReference | None = Field(
        default=None, description="Secret with ca.crt for an own authority. Absent: public ones."
    )


class FluxKind(StrEnum):
    """Kinds of Flux that publish artifacts."""

    GIT_REPOSITORY = "GitRepository"
    OCI_REPOSITORY = "OCIRepository"
    BUCKET = "Bucket"
    EXTERNAL_ARTIFACT = "ExternalArtifact"


class FluxReference(Model):
    """An object of Flux in the same namespace, whose artifact is taken."""

    kind: FluxKind = Field(description="Kind of Flux: GitRepository, OCIRepository, Bucket or ExternalArtifact.")
    name: DnsSubdomain = Field(description="Name of the object, in the same namespace.")
