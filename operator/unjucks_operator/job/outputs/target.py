"""Which place a job asks for, and what may not go there. Pure; called by ``job.execute``, ``job.status`` and the outputs."""

from collections.abc import Sequence
from dataclasses import dataclass

from unjucks_api.reasons import Reason
from unjucks_api.v1alpha1.generation_job import GenerationJob
from unjucks_api.v1alpha1.generation_job_output import SensitiveFiles
from unjucks_operator.errors import Terminal
from unjucks_operator.job.outputs.files import File


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


def refuse_misplaced(target: Target, files: Sequence[File]) -> None:
    """Raise Terminal (SensitiveDataBlocked) when files with values from Secrets would go where others can read them."""
    misplaced = [file.path for file in files if file.sensitive]
    if misplaced and not target.takes_secrets:
        more = f" and {len(misplaced) - 1} more" if len(misplaced) > 1 else ""
        raise Terminal(
            f"file {misplaced[0]}{more} may hold values of a Secret, and whoever may read ConfigMaps would see them: set "
            "spec.output.secret, or spec.output.configMap.sensitiveFiles: Allow",
            reason=Reason.SENSITIVE_DATA_BLOCKED,
        )
