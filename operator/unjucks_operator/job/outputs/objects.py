"""A job's output as a ConfigMap or a Secret: a key for each file, and ``manifest.json`` with paths, sizes and digests.

Keys of both have no ``/``: it is written ``__``. Paths that cannot be a key that way get a key made of a digest; the
manifest maps every path to its key, so nothing has to be guessed. The object is observed after the run was claimed and written
under the version seen then, so of two attempts that overlap only one can write. Made by ``job.outputs.opening``.
"""

import base64
import hashlib
import re
from collections.abc import Callable, Mapping, Sequence

from unjucks_api import names
from unjucks_api.reasons import Reason
from unjucks_api.v1alpha1.generation_job import GenerationJob
from unjucks_operator.errors import Conflict, InvalidSpec, Terminal
from unjucks_operator.job.outputs.base import Found, Prepared, Published, Result
from unjucks_operator.job.outputs.files import (
    MANIFEST_NAME,
    File,
    Listed,
    build_manifest,
    manifest_digest,
    read_manifest,
    written_files,
)
from unjucks_operator.job.outputs.target import Target, owner_name
from unjucks_operator.job.provenance import STATEMENT_NAME, Attested, facts_of, is_same_statement
from unjucks_operator.kube.api import KubeApi, Manifest, PatchType
from unjucks_operator.kube.resources import BY_KIND

MAX_BYTES = 1024 * 1024 - 64 * 1024
"""A ConfigMap and a Secret end at 1 MiB of data; the manifest and metadata need some of it."""

Attest = Callable[[Sequence[File], bytes, str], Attested | None]
"""(files, manifest, engine) → the statement beside the manifest; None when the job wants none."""

_KEY = re.compile(r"[-._a-zA-Z0-9]{1,253}", re.ASCII)
_CONTENT = ("data", "binaryData")


class ObjectOutput:
    """The ConfigMap or Secret of one job. ``labels`` mark it as this job's."""

    def __init__(
        self,
        api: KubeApi,
        job: GenerationJob,
        target: Target,
        tenant_uid: str,
        labels: dict[str, str],
        attest: Attest,
    ) -> None:
        self._api = api
        self._job = job
        self._tenant_uid = tenant_uid
        self._labels = labels
        self._attest = attest
        self.target = target

    async def observe(self) -> Found | None:
        """The object as it is. One that a job of this name made belongs to the job that has the name now: GitOps tools do that."""
        target, job = self.target, self._job
        found = await self._api.get(BY_KIND[target.kind], target.name, job.namespace)
        if found is None:
            return None
        labels = found["metadata"].get("labels") or {}
        ours = (
            labels.get(names.LABEL_MANAGED_BY) == names.MANAGED_BY
            and labels.get(names.LABEL_TENANT_UID) == self._tenant_uid
        )
        if not ours or labels.get(names.LABEL_JOB) != owner_name(job):
            owner = f"job {labels[names.LABEL_JOB]}" if ours and names.LABEL_JOB in labels else "somebody else"
            raise Terminal(
                f"{target.kind} {target.name} belongs to {owner} and is left as it is; delete it, or choose another name in "
                "spec.output",
                reason=Reason.NOT_OWNED,
            )
        return _read(found)

    def prepare(self, result: Result) -> Prepared:
        """The object, with the manifest in it."""
        files = written_files(result.files)
        manifest = build_manifest(
            files,
            generator=result.generator,
            action=result.action,
            tree=result.tree,
            engine=result.engine,
            keys=path_keys([file.path for file in files]),
            last=result.last,
        )
        attested = self._attest(files, manifest, result.engine)
        wanted = build_output(
            self.target,
            namespace=self._job.namespace,
            labels=self._labels,
            run_key=result.run_key,
            files=files,
            manifest=manifest,
            statement=attested.content if attested else b"",
        )
        return Prepared(manifest_digest(manifest), wanted, attested.facts if attested else {})

    async def publish(self, prepared: Prepared, found: Found | None) -> Published:
        """Create it, or change what was seen of it."""
        wanted: Manifest = prepared.raw
        before: Manifest | None = None if found is None else found.raw
        if before is not None and is_same_output(before, wanted):
            return Published(before["metadata"]["uid"], written=False)
        kind, name = wanted["kind"], wanted["metadata"]["name"]
        if before is None:
            written = await self._api.create(wanted, manager=names.MANAGER_JOB, metadata_only=True)
            if written is None:
                raise Conflict(f"{kind} {name} was made by somebody else meanwhile")
            return Published(written["metadata"]["uid"], written=True)
        try:
            written = await self._api.patch(
                BY_KIND[kind],
                name,
                wanted["metadata"]["namespace"],
                _changes(wanted, before),
                patch_type=PatchType.MERGE,
                manager=names.MANAGER_JOB,
                metadata_only=True,
            )
        except InvalidSpec as error:
            if before.get("immutable"):
                raise Terminal(
                    f"{kind} {name} is immutable and holds other files; choose another name",
                    reason=Reason.PUBLISH_FAILED,
                ) from None
            raise Terminal(error.message, reason=Reason.PUBLISH_FAILED) from None
        return Published(written["metadata"]["uid"], written=True)

    async def complete(self, found: Found) -> Published:
        """Nothing comes after the write of an object."""
        return Published(found.uid, written=True)


def build_output(
    target: Target,
    *,
    namespace: str,
    labels: dict[str, str],
    run_key: str,
    files: Sequence[File],
    manifest: bytes,
    statement: bytes = b"",
) -> Manifest:
    """The object. Raises Terminal (OutputTooLarge) with both sizes when the files do not fit into one."""
    total = sum(len(file.content) for file in files) + len(manifest) + len(statement)
    if total > MAX_BYTES:
        raise Terminal(
            f"the output has {total} bytes and a {target.kind} takes {MAX_BYTES}; generate less, or choose another output",
            reason=Reason.OUTPUT_TOO_LARGE,
        )
    keys = path_keys([file.path for file in files])
    contents = {MANIFEST_NAME: manifest} | {keys[file.path]: file.content for file in files}
    if statement:
        contents[STATEMENT_NAME] = statement
    return {
        "apiVersion": "v1",
        "kind": target.kind,
        "metadata": {
            "name": target.name,
            "namespace": namespace,
            "labels": labels,
            "annotations": {
                names.ANNOTATION_MANIFEST_DIGEST: manifest_digest(manifest),
                names.ANNOTATION_RUN_KEY: run_key,
            },
        },
        **(_secret_data(contents) if target.kind == "Secret" else _config_map_data(contents)),
        **({"immutable": True} if target.immutable else {}),
    }


def is_same_output(found: Manifest, wanted: Manifest) -> bool:
    """Whether the output holds exactly these files already, whoever edited it in between."""
    digest = names.ANNOTATION_MANIFEST_DIGEST
    return (
        (found["metadata"].get("annotations") or {}).get(digest) == wanted["metadata"]["annotations"][digest]
        and _same_contents(found, wanted)
        and bool(found.get("immutable")) == bool(wanted.get("immutable"))
    )


def _same_contents(found: Manifest, wanted: Manifest) -> bool:
    """Equal but for what the statements say about their runs."""
    try:
        there, asked = read_contents(found), read_contents(wanted)
    except ValueError:
        return False
    before, after = there.pop(STATEMENT_NAME, b""), asked.pop(STATEMENT_NAME, b"")
    return there == asked and (before == after or is_same_statement(before, after))


def read_contents(found: Manifest) -> dict[str, bytes]:
    """What is in a ConfigMap or Secret, by key. Raises ValueError for what is not base64."""
    data: Mapping[str, str] = found.get("data") or {}
    if found.get("kind") == "Secret":
        return {key: base64.b64decode(text) for key, text in data.items()}
    binary: Mapping[str, str] = found.get("binaryData") or {}
    return {key: text.encode() for key, text in data.items()} | {
        key: base64.b64decode(text) for key, text in binary.items()
    }


def read_output(found: Manifest) -> Listed:
    """The files of an output, from its own manifest; nothing when somebody damaged it."""
    try:
        contents = read_contents(found)
    except ValueError:
        return Listed()
    return read_manifest(contents.get(MANIFEST_NAME, b""), contents)


def path_keys(paths: Sequence[str]) -> dict[str, str]:
    """A distinct legal key for each path."""
    keys: dict[str, str] = {}
    taken = {MANIFEST_NAME, STATEMENT_NAME}
    for path in sorted(paths):
        key = path.replace("/", "__")
        if not _KEY.fullmatch(key) or key in taken or key in (".", ".."):
            key = "file-" + hashlib.sha256(path.encode()).hexdigest()[:32]
        taken.add(key)
        keys[path] = key
    return keys


def _read(found: Manifest) -> Found:
    annotations = found["metadata"].get("annotations") or {}
    listed = read_output(found)
    return Found(
        version=found["metadata"]["resourceVersion"],
        uid=found["metadata"]["uid"],
        run_key=annotations.get(names.ANNOTATION_RUN_KEY, ""),
        manifest_digest=annotations.get(names.ANNOTATION_MANIFEST_DIGEST, ""),
        engine=listed.engine,
        last=listed.last,
        files=listed.files,
        manifest=listed.digests,
        provenance=_provenance(found),
        raw=found,
    )


def _provenance(found: Manifest) -> dict[str, str]:
    try:
        return facts_of(read_contents(found).get(STATEMENT_NAME, b""))
    except ValueError:
        return {}


def _secret_data(contents: Mapping[str, bytes]) -> Manifest:
    # The type is fixed: Kubernetes fills in some others by itself, with tokens for example.
    return {"type": "Opaque", "data": {key: base64.b64encode(content).decode() for key, content in contents.items()}}


def _config_map_data(contents: Mapping[str, bytes]) -> Manifest:
    data: dict[str, str] = {}
    binary: dict[str, str] = {}
    for key, content in contents.items():
        try:
            data[key] = content.decode("utf-8")
        except UnicodeDecodeError:
            binary[key] = base64.b64encode(content).decode()
    return {"data": data} | ({"binaryData": binary} if binary else {})


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
