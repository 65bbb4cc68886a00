"""Which place a job asks for, and what may not go there. Pure; called by ``job.execute``, ``job.status`` and the outputs."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from unjucks_api import names
from unjucks_api.reasons import Reason
from unjucks_api.v1alpha1.generation_job import GenerationJob
from unjucks_api.v1alpha1.generation_job_output import SensitiveFiles
from unjucks_operator.errors import Terminal
from unjucks_operator.job.outputs.files import File

_READERS = {
    "ConfigMap": "read ConfigMaps",
    "Git": "read the repository",
    "OCI": "pull the artifact",
    "Bucket": "read the bucket",
}
_NAME = re.compile(r"[a-z0-9]([-.a-z0-9]{0,251}[a-z0-9])?", re.ASCII)
_FIELDS = {"ConfigMap": "configMap", "Git": "git", "OCI": "oci", "Bucket": "bucket"}


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
    if output is None:
        return None
    if output.secret is not None:
        return Target("Secret", output.secret.name, takes_secrets=True)
    if output.config_map is not None:
        asked = output.config_map
        return Target("ConfigMap", asked.name, asked.immutable, _allowed(asked.sensitive_files))
    if output.git is not None:
        return Target("Git", git_branch(job), takes_secrets=_allowed(output.git.sensitive_files))
    if output.oci is not None:
        name = f"{output.oci.url.removeprefix('oci://')}:{output.oci.tag}"
        return Target("OCI", name[:250], takes_secrets=_allowed(output.oci.sensitive_files))
    if output.bucket is not None:
        name = "/".join(filter(None, (output.bucket.bucket_name, output.bucket.prefix)))
        return Target("Bucket", name[:250], takes_secrets=_allowed(output.bucket.sensitive_files))
    return None


def owner_name(job: GenerationJob) -> str:
    """The job that the output belongs to: this one. A dry run, which writes nothing, may say that it looks at another one's."""
    other = job.metadata.annotations.get(names.ANNOTATION_DIFF_OF, "") if job.spec.dry_run else ""
    return other if _NAME.fullmatch(other) else job.name


def git_branch(job: GenerationJob) -> str:
    """The branch of a Git output: what spec says, else one of the job's own name."""
    git = job.spec.output.git if job.spec.output else None
    return (git.branch if git else None) or f"{names.PART_OF}/{owner_name(job)}"


def refuse_misplaced(target: Target, files: Sequence[File]) -> None:
    """Raise Terminal (SensitiveDataBlocked) when files with values from Secrets would go where others can read them."""
    misplaced = [file.path for file in files if file.sensitive]
    if misplaced and not target.takes_secrets:
        more = f" and {len(misplaced) - 1} more" if len(misplaced) > 1 else ""
        raise Terminal(
            f"file {misplaced[0]}{more} may hold values of a Secret, and whoever may {_READERS[target.kind]} would see them: set "
            f"spec.output.secret, or spec.output.{_FIELDS[target.kind]}.sensitiveFiles: Allow",
            reason=Reason.SENSITIVE_DATA_BLOCKED,
        )


def _allowed(asked: SensitiveFiles | None) -> bool:
    return asked is SensitiveFiles.ALLOW
