"""Where a GenerationJob puts its files, and what ``status`` tells of it. Pure. Called by ``generation_job``."""

from enum import StrEnum
from typing import Annotated, ClassVar

from pydantic import Field

from unjucks_api import names
from unjucks_api.markers import Cel, ListSet, Switch
from unjucks_api.v1alpha1.common import Count, Digest, DnsSubdomain, Line, Model, Ruled, Word

OWN_PREFIX = f"{names.PART_OF}-"
NotOurs = Cel(
    f"!self.startsWith('{OWN_PREFIX}')",
    f"names that start with {OWN_PREFIX} belong to the platform; choose another",
    reason="FieldValueForbidden",
    check=lambda name: not name.startswith(OWN_PREFIX),
)

_SEGMENT = r"\.?[A-Za-z0-9_@+=-][A-Za-z0-9_.@+=-]{0,127}"
Folder = Annotated[
    str,
    Field(max_length=512, pattern=rf"^{_SEGMENT}(/{_SEGMENT})*$"),
    Cel(
        "!self.split('/').exists(part, part == '.git' || part == '.unjucks')",
        ".git and .unjucks are no folders for generated files",
        reason="FieldValueForbidden",
        check=lambda text: not {".git", ".unjucks"} & set(text.split("/")),
    ),
]
Branch = Annotated[
    str,
    Field(min_length=1, max_length=200, pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.+-]*(/[A-Za-z0-9_][A-Za-z0-9_.+-]*)*$"),
    Cel(
        "!self.contains('..') && !self.endsWith('.') && !self.endsWith('.lock')",
        "a branch has no two dots in a row, and ends neither with a dot nor with .lock",
        check=lambda text: ".." not in text and not text.endswith((".", ".lock")),
    ),
]
PlainText = Annotated[str, Field(min_length=1, max_length=256, pattern=r"^[^\x00-\x1f\x7f<>]+$")]


class SensitiveFiles(StrEnum):
    """What becomes of files that values from a Secret went into, where others can read them."""

    REFUSE = "Refuse"
    ALLOW = "Allow"


def _sensitive_files(who: str) -> SensitiveFiles | None:
    field: SensitiveFiles | None = Field(
        default=None,
        description="What becomes of files that values from a Secret went into: Refuse (the job fails) or Allow "
        f"({who}). Absent: Refuse.",
    )
    return field


class SecretReference(Model):
    """A Secret with credentials in the same namespace."""

    name: Annotated[DnsSubdomain, NotOurs] = Field(description="Name of the Secret, in the same namespace.")


class ConfigMapOutput(Model):
    """A ConfigMap that gets the files."""

    name: Annotated[
        DnsSubdomain,
        NotOurs,
        Cel(
            "self != 'kube-root-ca.crt'",
            "kube-root-ca.crt belongs to Kubernetes; choose another name",
            reason="FieldValueForbidden",
            check=lambda name: name != "kube-root-ca.crt",
        ),
    ] = Field(
        description="Name of the ConfigMap. It is created in the job's namespace; one that another owner made is never overwritten."
    )
    immutable: Annotated[bool, Switch("the word and type of the ConfigMap's own field")] = Field(
        default=False,
        description="Whether the ConfigMap is made immutable. A later run with other files then fails. Absent: false.",
    )
    sensitive_files: SensitiveFiles | None = _sensitive_files(
        "whoever may read ConfigMaps of the namespace can read them"
    )


class SecretOutput(Model):
    """A Secret that gets the files."""

    name: Annotated[DnsSubdomain, NotOurs] = Field(
        description="Name of the Secret. It is created in the job's namespace, with type Opaque; one that another owner made is "
        "never overwritten."
    )


class GitAuthor(Model):
    """Who the commits are by."""

    name: PlainText = Field(description="Name of the author and committer.")
    email: PlainText = Field(description="Address of the author and committer.")


class GitPullRequest(Model):
    """The pull request (GitLab: merge request) for the branch. The API's endpoint comes from the operator's configuration."""

    title: Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]+$")] | None = Field(
        default=None,
        description="Title of a new request. {{ name }} is replaced by that variable's value when it is no value of a Secret. "
        "Absent: the first line of the commit message.",
    )
    labels: Annotated[
        tuple[Annotated[str, Field(min_length=1, max_length=50)], ...], Field(max_length=10), ListSet()
    ] = Field(default=(), description="Labels of a new request.")
    draft: Annotated[bool, Switch("the word and type of the hosts' own field")] = Field(
        default=False, description="Whether a new request is a draft. Absent: false."
    )


class GitOutput(Model):
    """A branch that gets one commit for each run that changes something."""

    url: Annotated[
        str,
        Field(
            max_length=512, pattern=r"^(https://[A-Za-z0-9\[][^ @?#]+|ssh://([A-Za-z0-9._-]+@)?[A-Za-z0-9\[][^ @?#]+)$"
        ),
    ] = Field(description="URL of the repository: https://… or ssh://…, without credentials.")
    base: Branch | None = Field(
        default=None, description="Branch that a new branch starts from. It is never written to. Absent: main."
    )
    branch: Branch | None = Field(
        default=None,
        description="Branch that is written to. A later run goes on with it, and with its pull request. One that this job did not "
        "make is never written to. Absent: unjucks/<name of the job>.",
    )
    path: Folder | None = Field(default=None, description="Folder of the files in the repository. Absent: its root.")
    secret_ref: SecretReference = Field(
        description="Credentials. For https the keys username and password (or bearerToken), and ca.crt for a CA of one's own; for "
        "ssh identity and known_hosts. For pull requests token, else password."
    )
    author: GitAuthor | None = Field(
        default=None, description="Who the commits are by. Absent: unjucks, with an address that gets no mail."
    )
    commit_message: (
        Annotated[str, Field(min_length=1, max_length=2000, pattern=r"^[^\x00-\x08\x0b-\x1f\x7f]+$")] | None
    ) = Field(
        default=None,
        description="Text of the commit, without the trailers that are added. {{ name }} is replaced by that variable's value "
        "when it is no value of a Secret; nothing else is rendered. Absent: Generate <generator>/<action>.",
    )
    pull_request: GitPullRequest | None = Field(
        default=None,
        description="Opens a pull request for the branch unless one is open. Absent: none is opened.",
    )
    sensitive_files: SensitiveFiles | None = _sensitive_files("whoever may read the repository can read them")


class OciOutput(Model):
    """An artifact in an OCI registry, as Flux reads and writes them."""

    url: Annotated[
        str, Field(max_length=512, pattern=r"^oci://[a-z0-9.-]+(:[0-9]+)?(/[a-z0-9]+([._-]+[a-z0-9]+)*)+$")
    ] = Field(description="Repository of the artifact: oci://host/name, without a tag.")
    tag: Annotated[str, Field(max_length=128, pattern=r"^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$")] = Field(
        description="Tag that the artifact gets."
    )
    overwrite: Annotated[bool, Switch("a tag may be moved or it may not")] = Field(
        default=False,
        description="Whether a tag that points to other content is moved; the job fails with Conflict otherwise. Absent: false.",
    )
    secret_ref: SecretReference | None = Field(
        default=None,
        description="Credentials: .dockerconfigjson, or username and password; ca.crt for an own CA. Absent: none are sent.",
    )
    sensitive_files: SensitiveFiles | None = _sensitive_files("whoever may pull the artifact can read them")


class BucketOutput(Model):
    """A prefix of an S3-compatible bucket."""

    endpoint: Annotated[str, Field(max_length=253, pattern=r"^https://[A-Za-z0-9.-]+(:[0-9]+)?$")] = Field(
        description="URL of the object store without a path: https://s3.example."
    )
    bucket_name: Annotated[str, Field(min_length=3, max_length=63, pattern=r"^[a-z0-9][a-z0-9.-]+[a-z0-9]$")] = Field(
        description="Name of the bucket. It has to exist."
    )
    prefix: Folder | None = Field(
        default=None, description="What the objects' names start with, without a slash at its ends. Absent: nothing."
    )
    region: Annotated[str, Field(max_length=64, pattern=r"^[a-z0-9-]+$")] | None = Field(
        default=None, description="Region of the bucket. Absent: us-east-1."
    )
    secret_ref: SecretReference = Field(
        description="Credentials: accesskey and secretkey, sessiontoken if there is one; ca.crt for a CA of one's own."
    )
    sensitive_files: SensitiveFiles | None = _sensitive_files("whoever may read the bucket can read them")


class Output(Ruled):
    """Where the files go."""

    rules: ClassVar[tuple[Cel, ...]] = (
        Cel(
            "[has(self.configMap), has(self.secret), has(self.git), has(self.oci), has(self.bucket)].filter(x, x).size() == 1",
            "set exactly one output: configMap, secret, git, oci or bucket",
            reason="FieldValueRequired",
            check=lambda it: sum(one is not None for one in (it.config_map, it.secret, it.git, it.oci, it.bucket)) == 1,
        ),
    )

    config_map: ConfigMapOutput | None = Field(
        default=None,
        description="Output: a ConfigMap with one key for each file; the key is the path with __ for /. At most 1 MiB. "
        "Exactly one output is set.",
    )
    secret: SecretOutput | None = Field(
        default=None,
        description="Output: a Secret, laid out as the ConfigMap is; for files that hold secrets. At most 1 MiB. "
        "Exactly one output is set.",
    )
    git: GitOutput | None = Field(
        default=None, description="Output: a branch of a Git repository, and a pull request. Exactly one output is set."
    )
    oci: OciOutput | None = Field(
        default=None, description="Output: an artifact in an OCI registry. Exactly one output is set."
    )
    bucket: BucketOutput | None = Field(
        default=None, description="Output: objects in an S3-compatible bucket. Exactly one output is set."
    )


class Provenance(Model):
    """The statement of where the files come from, beside the manifest."""

    enabled: Annotated[bool, Switch("a statement is made or it is not")] = Field(
        default=True, description="Whether the statement is made. Absent: true."
    )


# --- status --------------------------------------------------------------------------------------------------------------
class PullRequestStatus(Model):
    """The request for the branch."""

    number: Count | None = Field(default=None, description="Number of the request.")
    state: Word = Field(default="", description="Open, when the run ended.")
    url: Annotated[str, Field(max_length=512)] = Field(default="", description="Page of the request.")


class OutputStatus(Model):
    """Where the files are."""

    kind: Word = Field(default="", description="Kind of the output: ConfigMap, Secret, Git, OCI or Bucket.")
    name: Line = Field(default="", description="Name of the output.")
    digest: Digest | None = Field(default=None, description="Digest over paths, modes and bytes of all files.")
    last: Digest | None = Field(
        default=None, description="Digest of what the templates gave in the last run: what the next Update merges with."
    )
    revision: Annotated[str, Field(max_length=512)] = Field(
        default="", description="What was written, as Flux names it: branch@sha1:…, tag@sha256:…."
    )
    url: Annotated[str, Field(max_length=512)] = Field(default="", description="Where it was written.")
    pull_request: PullRequestStatus | None = Field(default=None, description="The pull request for the branch.")


class ProvenanceStatus(Model):
    """The statement beside the manifest."""

    digest: Digest | None = Field(default=None, description="Digest of the statement, as it was before it was signed.")
    key_id: Annotated[str, Field(max_length=128)] = Field(
        default="", description="Which of the platform's keys signed it; empty when none did."
    )
