"""Keeps the diff of a dry run or a check: a ConfigMap ``<job>-diff`` that goes with the job. Called by ``job.execute``.

An object of that name that is not this job's diff is left alone. Secrets never come here: the renderer leaves their lines out.
"""

from unjucks_api import names
from unjucks_api.v1alpha1.generation_job import GenerationJob
from unjucks_api.v1alpha1.tenant import Tenant
from unjucks_operator.errors import Conflict
from unjucks_operator.kube.api import KubeApi, Manifest, PatchType
from unjucks_operator.kube.resources import CONFIG_MAP

KEY = "diff"
SUFFIX = "-diff"


def build_diff(job: GenerationJob, tenant: Tenant, text: str) -> Manifest:
    """The ConfigMap."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": job.name + SUFFIX,
            "namespace": job.namespace,
            "labels": names.tenant_labels(tenant.name, tenant.uid, names.COMPONENT_DIFF) | {names.LABEL_JOB: job.name},
            "ownerReferences": [
                {"apiVersion": names.API_VERSION, "kind": "GenerationJob", "name": job.name, "uid": job.uid}
            ],
        },
        "data": {KEY: text},
    }


class Diffs:
    """One for the process."""

    def __init__(self, api: KubeApi) -> None:
        self._api = api

    async def store(self, job: GenerationJob, tenant: Tenant, text: str) -> str:
        """Keep ``text``; the ConfigMap's name, or nothing when there is no diff or the name is taken by somebody else."""
        wanted = build_diff(job, tenant, text)
        name = wanted["metadata"]["name"]
        found = await self._api.get(CONFIG_MAP, name, job.namespace)
        if found is None:
            if not text:
                return ""
            if await self._api.create(wanted, manager=names.MANAGER_JOB, metadata_only=True) is None:
                raise Conflict(f"ConfigMap {name} was made by somebody else meanwhile")
            return str(name)
        metadata = found["metadata"]
        labels = metadata.get("labels") or {}
        ours = {key: labels.get(key) for key in wanted["metadata"]["labels"]} == wanted["metadata"]["labels"]
        if not ours:
            return ""
        if (found.get("data") or {}) != wanted["data"] or metadata.get("ownerReferences") != wanted["metadata"][
            "ownerReferences"
        ]:
            body: Manifest = {
                "metadata": {
                    "uid": metadata["uid"],
                    "resourceVersion": metadata["resourceVersion"],
                    "ownerReferences": wanted["metadata"]["ownerReferences"],
                },
                "data": dict.fromkeys(found.get("data") or {}) | wanted["data"],
            }
            await self._api.patch(
                CONFIG_MAP, name, job.namespace, body,
                patch_type=PatchType.MERGE, manager=names.MANAGER_JOB, metadata_only=True,
            )  # fmt: skip
        return str(name)
