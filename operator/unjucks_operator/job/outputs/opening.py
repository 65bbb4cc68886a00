"""Opens the output that a job asks for. The only place that knows all kinds of outputs. Called by ``job.execute``."""

from unjucks_api import names
from unjucks_api.v1alpha1.generation_job import GenerationJob
from unjucks_api.v1alpha1.tenant import Tenant
from unjucks_operator.errors import Terminal
from unjucks_operator.job.outputs.base import Output
from unjucks_operator.job.outputs.objects import ObjectOutput
from unjucks_operator.job.outputs.target import target_of
from unjucks_operator.kube.api import KubeApi


class Outputs:
    """What outputs are reached with."""

    def __init__(self, api: KubeApi) -> None:
        self._api = api

    def open(self, job: GenerationJob, tenant: Tenant) -> Output:
        """The job's output. Nothing is called yet. Raises Terminal when the job names none."""
        target = target_of(job)
        if target is None:
            raise Terminal("spec.output says no place for the files")
        return ObjectOutput(self._api, job, target, tenant.uid, _labels(job, tenant))


def _labels(job: GenerationJob, tenant: Tenant) -> dict[str, str]:
    return names.tenant_labels(tenant.name, tenant.uid, names.COMPONENT_OUTPUT) | {
        names.LABEL_JOB: job.name,
        names.LABEL_JOB_UID: job.uid,
    }
