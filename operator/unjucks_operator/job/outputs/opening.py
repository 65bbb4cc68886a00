"""Opens the output that a job asks for. The only place that knows all kinds of outputs. Called by ``job.execute``."""

from collections.abc import Callable, Sequence

from unjucks_api import names
from unjucks_api.courier_protocol import Allow
from unjucks_api.v1alpha1.generation_job import GenerationJob
from unjucks_api.v1alpha1.tenant import Tenant
from unjucks_operator.config import Config
from unjucks_operator.errors import Terminal
from unjucks_operator.job.outputs.base import Output
from unjucks_operator.job.outputs.files import File
from unjucks_operator.job.outputs.objects import Attest, ObjectOutput
from unjucks_operator.job.outputs.remote import LeaseCourier, RemoteOutput
from unjucks_operator.job.outputs.target import target_of
from unjucks_operator.job.plan import Run
from unjucks_operator.job.provenance import Attested, attest
from unjucks_operator.kube.api import KubeApi
from unjucks_operator.signing import Signer


class Outputs:
    """What outputs are reached with. ``allow``: where a tenant's courier may connect to now. ``signer``: the platform's key."""

    def __init__(
        self,
        api: KubeApi,
        *,
        lease: LeaseCourier,
        allow: Callable[[Tenant], Allow],
        config: Config,
        signer: Callable[[], Signer | None],
    ) -> None:
        self._api = api
        self._lease = lease
        self._allow = allow
        self._config = config
        self._signer = signer

    def open(self, job: GenerationJob, tenant: Tenant, run: Run | None = None) -> Output:
        """The job's output. Nothing is called yet. Raises Terminal when the job names none. No ``run``: only to look at it."""
        target = target_of(job)
        if target is None:
            raise Terminal("spec.output says no place for the files")
        if target.kind in ("ConfigMap", "Secret"):
            return ObjectOutput(self._api, job, target, tenant.uid, _labels(job, tenant), self._attest(job, run))
        return RemoteOutput(
            api=self._api,
            lease=self._lease,
            allow=self._allow,
            config=self._config,
            job=job,
            tenant=tenant,
            run=run,
            target=target,
            attest=self._attest(job, run),
        )

    def _attest(self, job: GenerationJob, run: Run | None) -> Attest:
        def made(files: Sequence[File], manifest: bytes, engine: str) -> Attested | None:
            if run is None or not job.spec.provenance.enabled:
                return None
            image = self._config.renderer.image
            return attest(job, run, files, manifest, engine=engine, image=image, signer=self._signer())

        return made


def _labels(job: GenerationJob, tenant: Tenant) -> dict[str, str]:
    return names.tenant_labels(tenant.name, tenant.uid, names.COMPONENT_OUTPUT) | {
        names.LABEL_JOB: job.name,
        names.LABEL_JOB_UID: job.uid,
    }
