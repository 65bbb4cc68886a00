"""Publishes the files of a run as a ConfigMap or Secret: one compare-and-set, over nobody else's. Called by ``job.execute``.

The object is observed after the run was claimed (``observe_output``), and written under the version seen then (``publish_output``),
so of two attempts that overlap only one can write (``database.ledger`` has the whole argument).
"""

from dataclasses import dataclass

from unjucks_api import names
from unjucks_api.reasons import Reason
from unjucks_api.v1alpha1.generation_job import GenerationJob
from unjucks_operator.errors import Conflict, InvalidSpec, Terminal
from unjucks_operator.job.desired.output import Target
from unjucks_operator.kube.api import KubeApi, Manifest, PatchType
from unjucks_operator.kube.resources import BY_KIND

_CONTENT = ("data", "binaryData")


@dataclass(frozen=True, slots=True)
class Published:
    """What came of it: the object's identity and version, and whether a request wrote it now."""

    uid: str
    resource_version: str
    written: bool


async def observe_output(api: KubeApi, job: GenerationJob, target: Target, tenant_uid: str) -> Manifest | None:
    """The output as it is; None when there is none. Raises Terminal (NotOwned) when it is not this job's.

    A job that was deleted and made again under its name goes on with its old output: GitOps tools do that.
    """
    found = await api.get(BY_KIND[target.kind], target.name, job.namespace)
    if found is None:
        return None
    labels = found["metadata"].get("labels") or {}
    ours = labels.get(names.LABEL_MANAGED_BY) == names.MANAGED_BY and labels.get(names.LABEL_TENANT_UID) == tenant_uid
    if not ours or labels.get(names.LABEL_JOB) != job.name:
        owner = f"job {labels[names.LABEL_JOB]}" if ours and names.LABEL_JOB in labels else "somebody else"
        raise Terminal(
            f"{target.kind} {target.name} belongs to {owner} and is left as it is; delete it, or choose another name in "
            "spec.output",
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
        and all((found.get(field) or {}) == wanted.get(field, {}) for field in _CONTENT)
        and bool(found.get("immutable")) == bool(wanted.get("immutable"))
    )


async def publish_output(api: KubeApi, wanted: Manifest, found: Manifest | None) -> Published:
    """Write the output unless it is there. ``found`` is what ``observe_output`` saw. Raises Conflict when it changed since."""
    if found is not None and is_same_output(found, wanted):
        return Published(found["metadata"]["uid"], found["metadata"]["resourceVersion"], written=False)
    kind, name = wanted["kind"], wanted["metadata"]["name"]
    if found is None:
        written = await api.create(wanted, manager=names.MANAGER_JOB, metadata_only=True)
        if written is None:
            raise Conflict(f"{kind} {name} was made by somebody else meanwhile")
    else:
        try:
            written = await api.patch(
                BY_KIND[kind],
                name,
                wanted["metadata"]["namespace"],
                _changes(wanted, found),
                patch_type=PatchType.MERGE,
                manager=names.MANAGER_JOB,
                metadata_only=True,
            )
        except InvalidSpec as error:
            if found.get("immutable"):
                raise Terminal(
                    f"{kind} {name} is immutable and holds other files; choose another name",
                    reason=Reason.PUBLISH_FAILED,
                ) from None
            raise Terminal(error.message, reason=Reason.PUBLISH_FAILED) from None
    return Published(written["metadata"]["uid"], written["metadata"]["resourceVersion"], written=True)


def _changes(wanted: Manifest, found: Manifest) -> Manifest:
    """A merge patch that makes ``found`` hold exactly the wanted files, and only if nobody wrote it since (409 otherwise)."""
    body: Manifest = {
        "metadata": {key: wanted["metadata"][key] for key in ("labels", "annotations")}
        | {key: found["metadata"][key] for key in ("uid", "resourceVersion")}
    }
    for field in _CONTENT:
        gone = dict.fromkeys((found.get(field) or {}).keys() - wanted.get(field, {}).keys())
        if gone or field in wanted:
            body[field] = gone | wanted.get(field, {})
    if wanted.get("immutable"):
        body["immutable"] = True
    return body
