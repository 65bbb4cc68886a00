"""What the operator and a tenant's courier say to each other: JSON over HTTPS with certificates on both sides.

    POST /v1/fetch     FetchRequest -> FetchResponse      what a source holds now, when it is not what the caller knows already
    POST /v1/inspect   InspectRequest -> InspectResponse  what an output holds now, and under which version
    POST /v1/publish   PublishRequest -> PublishResponse  one compare-and-set of an output on that version
    GET  /healthz, /readyz                                 plain HTTP on another port, for the kubelet

Bytes travel as base64 text. A response that is not HTTP 200 is an ``ErrorResponse`` of ``render_protocol`` (422: the task itself
failed; 429 and 503: busy or ending). Credentials come with each request from the tenant's Secret and are kept nowhere; fields that
hold them have no ``repr``. Both sides treat the other's data as untrusted. Pure models, no I/O.
"""

from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import Field

from unjucks_api.reasons import Reason
from unjucks_api.render_protocol import Base64, Message, SourceFile

MAX_COURIER_REQUEST_BYTES = 48 * 1024 * 1024
MAX_COURIER_RESPONSE_BYTES = 48 * 1024 * 1024
MAX_FILES = 10_000
"""Files of one tree or one output in a message."""
MAX_OWN_BYTES = 8 * 1024 * 1024
"""Of an output's manifest, and of its statement: far more than those of ``MAX_FILES`` files have."""
FETCH_PATH = "/v1/fetch"

COURIER_FAILURES = frozenset(
    {
        Reason.URL_INVALID,
        Reason.AUTHENTICATION_FAILED,
        Reason.FETCH_FAILED,
        Reason.SOURCE_NOT_FOUND,
        Reason.REVISION_NOT_FOUND,
        Reason.VERIFICATION_FAILED,
        Reason.EGRESS_REFUSED,
        Reason.ARCHIVE_INVALID,
        Reason.ARCHIVE_TOO_LARGE,
        Reason.PATH_NOT_FOUND,
        Reason.PATH_REJECTED,
        Reason.LIMIT_EXCEEDED,
        Reason.INTERNAL_ERROR,
    }
)
"""The reasons with which a fetch can fail; a courier that claims another one is not believed."""


# --- what both fetching and publishing need ------------------------------------------------------------------------------
class Service(Message):
    """One host and port of the platform's own choice that may be called although it lies in the cluster."""

    host: str = Field(min_length=1, max_length=253)
    port: int = Field(ge=1, le=65535)


class Allow(Message):
    """Where the courier may connect to; see ``courier.net.AddressPolicy``. Ranges in CIDR form; hosts exact or ``*.example``."""

    cidrs: list[str] = Field(default_factory=list, max_length=256)
    hosts: list[str] = Field(default_factory=list, max_length=256)
    closed: list[str] = Field(default_factory=list, max_length=1024)
    services: list[Service] = Field(default_factory=list, max_length=16)


class CourierLimits(Message):
    """Bounds of one task. The child process' rlimits and the wall clock hold in any case."""

    wall_seconds: float = Field(default=60.0, gt=0, le=3600)
    connect_seconds: float = Field(default=10.0, gt=0, le=300)
    read_seconds: float = Field(default=30.0, gt=0, le=300)
    cpu_seconds: int = Field(default=60, ge=1, le=3600)
    memory_bytes: int = Field(default=512 * 1024 * 1024, ge=64 * 1024 * 1024)
    download_bytes: int = Field(default=32 * 1024 * 1024, ge=1)
    source_bytes: int = Field(default=4 * 1024 * 1024, ge=1)
    files: int = Field(default=2000, ge=1, le=10000)


SecretData = Annotated[dict[str, Base64], Field(default_factory=dict, max_length=64, repr=False)]
"""The data of a Secret as the API server has it: key to base64. Never logged, never in an error."""


# --- fetch ---------------------------------------------------------------------------------------------------------------
class HttpSource(Message):
    """An archive (.tar.gz or .zip). ``digest``: sha256 of its bytes. ``flux``: an artifact of Flux, whose URL may be plain http.

    Secret keys: username and password, or bearerToken; ca.crt; tls.crt and tls.key.
    """

    kind: Literal["http"] = "http"
    url: str = Field(max_length=2048)
    digest: str = Field(default="", pattern="^(|sha256:[0-9a-f]{64})$")
    flux: bool = False
    revision: str = Field(default="", max_length=512)


class GitVerify(StrEnum):
    """Which signatures a Git source needs."""

    HEAD = "HEAD"
    TAG = "Tag"
    TAG_AND_HEAD = "TagAndHEAD"


class GitSource(Message):
    """A commit of a repository: commit > name > semver > tag > branch, as Flux has it; nothing given: the default branch.

    Secret keys over https: username and password, or bearerToken; ca.crt (or caFile). Over ssh: identity, known_hosts, password (of
    the key). ``signers``: OpenPGP certificates or lines of an SSH allowed-signers file, under any key.
    """

    kind: Literal["git"] = "git"
    url: str = Field(max_length=2048)
    branch: str = Field(default="", max_length=256)
    tag: str = Field(default="", max_length=256)
    semver: str = Field(default="", max_length=256)
    name: str = Field(default="", max_length=512)
    commit: str = Field(default="", pattern="^(|[0-9a-f]{40}|[0-9a-f]{64})$")
    recurse_submodules: bool = False
    verify: GitVerify | None = None


class OciSource(Message):
    """A layer of an OCI artifact: digest > semver > tag; nothing given: the tag latest.

    Secret keys: .dockerconfigjson, or username and password; ca.crt. ``signers``: cosign public keys (PEM).
    """

    kind: Literal["oci"] = "oci"
    url: str = Field(max_length=2048)
    tag: str = Field(default="", max_length=128)
    semver: str = Field(default="", max_length=256)
    semver_filter: str = Field(default="", max_length=256)
    digest: str = Field(default="", pattern="^(|sha256:[0-9a-f]{64})$")
    media_type: str = Field(default="", max_length=256)
    verify: bool = False


class BucketSource(Message):
    """The objects below a prefix of an S3-compatible bucket. Secret keys: accesskey, secretkey, sessiontoken; ca.crt."""

    kind: Literal["bucket"] = "bucket"
    endpoint: str = Field(max_length=512)
    bucket: str = Field(min_length=3, max_length=63)
    prefix: str = Field(default="", max_length=512)
    region: str = Field(default="", max_length=64)


FetchSource = Annotated[HttpSource | GitSource | OciSource | BucketSource, Field(discriminator="kind")]


class FetchRequest(Message):
    """Fetch ``source`` below ``path``, without what ``ignore`` (gitignore syntax) names.

    ``known``: the revision that the caller has from the same source; when it still holds the answer is ``unchanged`` and empty.
    """

    source: FetchSource
    path: str = Field(default=".", max_length=512)
    ignore: str = Field(default="", max_length=4096)
    known: str = Field(default="", max_length=512)
    credentials: SecretData
    certificates: SecretData
    signers: SecretData
    allow: Allow = Allow()
    limits: CourierLimits = CourierLimits()


class FetchResponse(Message):
    """What the source holds. ``revision`` as Flux writes it (``v1.4.2@sha1:…``); ``digest``: of what was downloaded."""

    revision: str = Field(max_length=512)
    digest: str = Field(default="", max_length=128)
    unchanged: bool = False
    verified_by: str = Field(default="", max_length=512)
    files: list[SourceFile] = Field(default_factory=list, max_length=MAX_FILES)
    metadata: dict[str, str] = Field(default_factory=dict, max_length=16)
    downloaded_bytes: int = Field(default=0, ge=0)
    cpu_seconds: float = 0.0


# --- inspect and publish: the outputs' messages go below this line -------------------------------------------------------
INSPECT_PATH = "/v1/inspect"
PUBLISH_PATH = "/v1/publish"

PUBLISH_FAILURES = frozenset(
    {
        Reason.URL_INVALID,
        Reason.AUTHENTICATION_FAILED,
        Reason.PUBLISH_FAILED,
        Reason.FETCH_FAILED,
        Reason.REVISION_NOT_FOUND,
        Reason.EGRESS_REFUSED,
        Reason.PROTECTED_BRANCH,
        Reason.CONFLICT,
        Reason.NOT_OWNED,
        Reason.ARCHIVE_INVALID,
        Reason.ARCHIVE_TOO_LARGE,
        Reason.OUTPUT_TOO_LARGE,
        Reason.PATH_REJECTED,
        Reason.MANIFEST_MISMATCH,
        Reason.LIMIT_EXCEEDED,
        Reason.INTERNAL_ERROR,
    }
)
"""The reasons with which inspecting or publishing can fail; a courier that claims another one is not believed."""

RunKey = Annotated[str, Field(pattern="^[0-9a-f]{8,64}$")]
JobName = Annotated[
    str, Field(pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?/[a-z0-9]([-a-z0-9.]*[a-z0-9])?$", max_length=320)
]


class GitProvider(StrEnum):
    """Whose API opens pull requests (GitLab: merge requests)."""

    GITHUB = "GitHub"
    GITLAB = "GitLab"
    GITEA = "Gitea"


class PullRequest(Message):
    """The request for a branch. ``api``: the endpoint from the operator's configuration. ``repository``: its full name there.

    Secret key: token, else password.
    """

    provider: GitProvider
    api: str = Field(max_length=512)
    repository: str = Field(min_length=3, max_length=512)
    title: str = Field(min_length=1, max_length=256)
    body: str = Field(default="", max_length=4096)
    labels: list[str] = Field(default_factory=list, max_length=20)
    draft: bool = False


class GitTarget(Message):
    """A branch that starts at ``base`` and gets one commit for each run. Secret keys as those of a ``GitSource``."""

    kind: Literal["git"] = "git"
    url: str = Field(max_length=2048)
    base: str = Field(min_length=1, max_length=256)
    branch: str = Field(min_length=1, max_length=256)
    path: str = Field(
        default="", max_length=512, description="folder of the files, without a slash at its ends; empty: the root"
    )
    author_name: str = Field(min_length=1, max_length=128)
    author_email: str = Field(min_length=1, max_length=256)
    message: str = Field(min_length=1, max_length=4096)
    time: int = Field(ge=0, description="of the commit, in seconds; the same in every attempt of a run")
    pull_request: PullRequest | None = None


class OciTarget(Message):
    """A tag of a repository in a registry: ``oci://host/name``. Secret keys as those of an ``OciSource``."""

    kind: Literal["oci"] = "oci"
    url: str = Field(max_length=2048)
    tag: str = Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$")
    overwrite: bool = False


class BucketTarget(Message):
    """A prefix of an S3-compatible bucket. Secret keys as those of a ``BucketSource``."""

    kind: Literal["bucket"] = "bucket"
    endpoint: str = Field(max_length=512)
    bucket: str = Field(min_length=3, max_length=63)
    prefix: str = Field(default="", max_length=512)
    region: str = Field(default="", max_length=64)


class VolumeTarget(Message):
    """A folder of the volume that is mounted in the courier's own pod."""

    kind: Literal["volume"] = "volume"
    path: str = Field(default="", max_length=512)


PublishTarget = Annotated[GitTarget | OciTarget | BucketTarget | VolumeTarget, Field(discriminator="kind")]


class InspectRequest(Message):
    """What is at the target now? ``job`` (namespace/name) marks what is its own. ``others``: also files that it did not write."""

    target: PublishTarget
    job: JobName
    run_key: RunKey
    others: bool = False
    credentials: SecretData
    certificates: SecretData
    allow: Allow = Allow()
    limits: CourierLimits = CourierLimits()


class InspectResponse(Message):
    """What is there. ``version``: what a publish has to name; empty when there is nothing to replace.

    ``run_key``: that of the request when its run wrote here already, else of whichever run is known to have written last.
    ``manifest``: as it lies there. ``files``: those that it lists and that are there; ``others``: the rest.
    """

    version: str = Field(default="", max_length=512)
    run_key: str = Field(default="", max_length=64)
    manifest: Base64 = Field(default="", max_length=MAX_OWN_BYTES * 4 // 3 + 4)
    statement: Base64 = Field(default="", max_length=MAX_OWN_BYTES * 4 // 3 + 4)
    files: list[SourceFile] = Field(default_factory=list, max_length=MAX_FILES)
    others: list[SourceFile] = Field(default_factory=list, max_length=MAX_FILES)
    others_truncated: bool = False
    facts: dict[str, Any] = Field(default_factory=dict)


class PublishRequest(Message):
    """Write ``files``, take away ``removed``, and put manifest and statement beside them, if the target still has ``version``.

    Each path and digest is checked again by the courier: the manifest has to list exactly these files.
    ``unchanged`` asks only for what comes after the write (the pull request): an earlier attempt wrote the files.
    """

    target: PublishTarget
    job: JobName
    run_key: RunKey
    version: str = Field(default="", max_length=512)
    files: list[SourceFile] = Field(default_factory=list, max_length=MAX_FILES)
    removed: list[str] = Field(default_factory=list, max_length=MAX_FILES)
    manifest: Base64 = ""
    statement: Base64 = ""
    unchanged: bool = False
    seen: list[str] | None = Field(
        default=None,
        max_length=20000,
        description="set when the caller saw only a part of the place: no other existing file may be overwritten",
    )
    credentials: SecretData
    certificates: SecretData
    allow: Allow = Allow()
    limits: CourierLimits = CourierLimits()


class PublishResponse(Message):
    """What came of it. ``facts`` are for ``status.output``: revision, url, pullRequest."""

    version: str = Field(default="", max_length=512)
    written: bool
    facts: dict[str, Any] = Field(default_factory=dict)
