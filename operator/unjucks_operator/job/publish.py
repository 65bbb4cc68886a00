"""Publishes the files of a run as a ConfigMap: one compare-and-set, never over somebody else's object. Called by ``job.execute``.

The object is observed after the run was claimed (``observe_output``), and written under the version seen then (``publish_output``),
so of two attempts that overlap only one can write (``database.ledger`` has the whole argument).
"""

from dataclasses import dataclass

from unjucks_api import names
from unjucks_api.reasons import Reason
from unjucks_api.v1alpha1.generation_job import GenerationJob
from unjucks_operator.errors import Conflict, InvalidSpec, Terminal
from unjucks_operator.kube.api import KubeApi, Manifest
from unjucks_operator.kube.resources import CONFIG_MAP


@dataclass(frozen=True, slots=True)
class Published:
    """What came of it: the object's identity and version, and whether a request wrote it now."""

    uid: str
    resource_version: str
    written: bool


async def observe_output(api: KubeApi, job: GenerationJob, name: str, tenant_uid: str) -> Manifest | None:
    """The output as it is; None when there is none. Raises Terminal (NotOwned) when it is not this job's.

    A job that was deleted and made again under its name goes on with its old output: GitOps tools do that.
    """
    found = await api.get(CONFIG_MAP, name, job.namespace)
    if found is None:
        return None
    labels = found["metadata"].get("labels") or {}
    ours = labels.get(names.LABEL_MANAGED_BY) == names.MANAGED_BY and labels.get(names.LABEL_TENANT_UID) == tenant_uid
    if not ours or labels.get(names.LABEL_JOB) != job.name:
        owner = f"job {labels[names.LABEL_JOB]}" if ours and names.LABEL_JOB in labels else "somebody else"
        raise Terminal(
            f"ConfigMap {name} belongs to {owner} and is left as it is; delete it, or choose another name in spec.output",
            reason=Reason.NOT_OWNED,
        )
    return found


def is_same_output(found: Manifest | None, wanted: Manifest) -> bool:
    """Whether the output holds exactly these files already, whoever edited it in between."""
    if found is None:
        return False
    digest = names.ANNOTATION_MANIFEST_DIGEST
    return (
        (found["metadata"].get("annotations") or {}).get(digest) == wanted["metadata"]["annotations"][digest]
        and (found.get("data") or {}) == wanted["data"]
        and (found.get("binaryData") or {}) == wanted.get("binaryData", {})
        and bool(found.get("immutable")) == bool(wanted.get("immutable"))
    )


async def publish_output(api: KubeApi, wanted: Manifest, found: Manifest | None) -> Published:
    """Write the output unless it is there. ``found`` is what ``observe_output`` saw. Raises Conflict when it changed since."""
    if found is not None and is_same_output(found, wanted):
        return Published(found["metadata"]["uid"], found["metadata"]["resourceVersion"], written=False)
    if found is None:
        written = await api.create(wanted, manager=names.MANAGER_JOB, metadata_only=True)
        if written is None:
            raise Conflict(f"ConfigMap {wanted['metadata']['name']} was made by somebody else meanwhile")
    else:
        version = {"uid": found["metadata"]["uid"], "resourceVersion": found["metadata"]["resourceVersion"]}
        manifest = wanted | {"metadata": wanted["metadata"] | version}
        try:
            written = await api.replace(manifest, manager=names.MANAGER_JOB, metadata_only=True)
        except InvalidSpec as error:
            if found.get("immutable"):
                raise Terminal(
                    f"ConfigMap {wanted['metadata']['name']} is immutable and holds other files; choose another name",
                    reason=Reason.PUBLISH_FAILED,
                ) from None
            raise Terminal(error.message, reason=Reason.PUBLISH_FAILED) from None
    return Published(written["metadata"]["uid"], written["metadata"]["resourceVersion"], written=True)
