"""The courier's two tasks of outputs, JSON to JSON: what is at a target, and one compare-and-set of it.

Run by ``courier.child`` in a process of their own. Each kind of target has a module with the same two functions.
"""

import hashlib

from pydantic import ValidationError

from unjucks_api.courier_protocol import (
    MAX_FILES,
    MAX_OWN_BYTES,
    BucketTarget,
    GitTarget,
    InspectRequest,
    InspectResponse,
    OciTarget,
    PublishRequest,
    PublishResponse,
)
from unjucks_api.reasons import Reason
from unjucks_api.render_protocol import SourceFile
from unjucks_runtime.courier.errors import CourierError
from unjucks_runtime.courier.git_transport import open_git
from unjucks_runtime.courier.net import Network, Timeouts
from unjucks_runtime.outputs.bucket import BucketOutput
from unjucks_runtime.outputs.checks import check_content, encode, listed
from unjucks_runtime.outputs.git import Files, GitOutput
from unjucks_runtime.outputs.oci import OciOutput
from unjucks_runtime.outputs.pull_requests import ensure_request
from unjucks_runtime.sources.model import Job, decode_secret
from unjucks_runtime.sources.select import Selection


def inspect(body: bytes) -> bytes:
    """InspectRequest to InspectResponse. Raises CourierError."""
    request = InspectRequest.model_validate_json(body)
    return inspect_with(request, network_of(request)).model_dump_json().encode()


def publish(body: bytes) -> bytes:
    """PublishRequest to PublishResponse. Raises CourierError."""
    request = PublishRequest.model_validate_json(body)
    return publish_with(request, network_of(request)).model_dump_json().encode()


def network_of(request: InspectRequest | PublishRequest) -> Network:
    """The guarded way out under the request's own bounds."""
    limits = request.limits
    timeouts = Timeouts(limits.connect_seconds, limits.read_seconds, limits.wall_seconds)
    return Network(request.allow, timeouts)


def inspect_with(request: InspectRequest, network: Network) -> InspectResponse:
    """As ``inspect``, over a network of the caller's choice."""
    # Whoever may write to the place may make a manifest of any size there, and many files beside it.
    try:
        return _inspect(request, network)
    except ValidationError:
        raise CourierError(
            Reason.LIMIT_EXCEEDED,
            f"the output holds more than can be read: {MAX_FILES} files, or {MAX_OWN_BYTES} bytes of manifest or statement",
            limit="files",
        ) from None


def _inspect(request: InspectRequest, network: Network) -> InspectResponse:
    match request.target:
        case GitTarget() as target:
            output = _git(request, target, network)
            seen = output.look(request.run_key)
            files, others, truncated = output.read(seen, others=request.others)
            facts = output.facts(seen.commit or seen.parent) if seen.run_key else {}
            return InspectResponse(
                version=_git_version(seen.branch, seen.parent),
                run_key=seen.run_key,
                manifest=encode(seen.manifest),
                statement=encode(seen.statement),
                files=to_wire(files),
                others=to_wire(others),
                others_truncated=truncated,
                facts=facts,
            )
        case OciTarget() as target:
            artifact = OciOutput(target, request.job, job_of(request, network))
            digest, found = artifact.look()
            files, manifest, statement = artifact.read(found) if digest else ({}, b"", b"")
            return InspectResponse(
                version=digest,
                run_key=artifact.run_of(found),
                manifest=encode(manifest),
                statement=encode(statement),
                files=to_wire({path: files[path] for path in listed(manifest) if path in files}),
                facts=artifact.facts(digest) if manifest else {},
            )
        case BucketTarget() as target:
            bucket = BucketOutput(target, request.job, job_of(request, network))
            tag, run, manifest, statement = bucket.look()
            files, others, truncated = bucket.read(manifest, others=request.others)
            return InspectResponse(
                version=tag,
                run_key=run,
                manifest=encode(manifest),
                statement=encode(statement),
                files=to_wire(files),
                others=to_wire(others),
                others_truncated=truncated,
                facts=bucket.facts(manifest) if manifest else {},
            )
        case _:
            raise _unknown(request.target.kind)


def publish_with(request: PublishRequest, network: Network) -> PublishResponse:
    """As ``publish``, over a network of the caller's choice."""
    match request.target:
        case GitTarget() as target:
            return _publish_git(request, target, network)
        case OciTarget() as target:
            return _publish_oci(request, target, network)
        case BucketTarget() as target:
            return _publish_bucket(request, target, network)
        case _:
            raise _unknown(request.target.kind)


def _publish_git(request: PublishRequest, target: GitTarget, network: Network) -> PublishResponse:
    output = _git(request, target, network)
    content = None if request.unchanged else check_content(request)
    seen = output.look(request.run_key)
    commit, written = seen.commit or seen.branch, False
    if content is not None:
        done = bool(seen.commit) and seen.manifest == content.manifest
        # A run that is there, but not on top any more, is compared too: a late attempt must not undo what came after it.
        if not done and _git_version(seen.branch, seen.parent) != request.version:
            raise CourierError(
                Reason.CONFLICT,
                f"branch {target.branch!r} or {target.base!r} changed since it was looked at",
                retryable=True,
            )
        digest = "sha256:" + hashlib.sha256(content.manifest).hexdigest()
        commit, written = output.write(seen, content, request.run_key, digest)
    facts = output.facts(commit or seen.parent)
    # A branch that was not made, because the base has it all, or that is merged has nothing to ask for.
    open_branch = written or (bool(seen.branch) and seen.branch == seen.parent)
    if target.pull_request is not None and open_branch:
        opened = ensure_request(target.pull_request, target.base, target.branch, request.credentials, network)
        facts["pullRequest"] = opened.facts
    return PublishResponse(version=commit, written=written, facts=facts)


def _publish_oci(request: PublishRequest, target: OciTarget, network: Network) -> PublishResponse:
    output = OciOutput(target, request.job, job_of(request, network))
    digest, found = output.look()
    written = False
    if not request.unchanged:
        content = check_content(request)
        if digest != request.version and output.run_of(found) != request.run_key:
            raise _moved(f"tag {target.tag!r}")
        digest, written = output.write(digest, found, content, request.run_key)
    return PublishResponse(version=digest, written=written, facts=output.facts(digest))


def _publish_bucket(request: PublishRequest, target: BucketTarget, network: Network) -> PublishResponse:
    output = BucketOutput(target, request.job, job_of(request, network))
    tag, _, manifest, _ = output.look()
    if request.unchanged:
        return PublishResponse(version=tag, written=False, facts=output.facts(manifest))
    content = check_content(request)
    if tag != request.version:
        raise _moved("the manifest in the bucket")
    output.write(tag, manifest, content, request.run_key)
    return PublishResponse(version="", written=True, facts=output.facts(content.manifest))


def _moved(what: str) -> CourierError:
    return CourierError(Reason.CONFLICT, f"{what} changed since it was looked at", retryable=True)


def job_of(request: InspectRequest | PublishRequest, network: Network) -> Job:
    """The request in the words that sources and outputs share."""
    secrets = decode_secret({**request.credentials, **request.certificates})
    return Job(network, request.limits, Selection(".", "", request.limits), credentials=secrets)


def _git(request: InspectRequest | PublishRequest, target: GitTarget, network: Network) -> GitOutput:
    client, path = open_git(target.url, request.credentials, network)
    return GitOutput(client, path, target, request.job, request.limits)


def _git_version(branch: str, parent: str) -> str:
    """Both: a commit goes on top of what was looked at, also when that is the base."""
    return f"{branch or 'none'}+{parent}"


def to_wire(files: Files) -> list[SourceFile]:
    """Sorted by path."""
    return [SourceFile(path=path, content=encode(data), mode=mode) for path, (data, mode) in sorted(files.items())]


def _unknown(kind: str) -> CourierError:
    return CourierError(Reason.INTERNAL_ERROR, f"this courier knows no output {kind!r}; it is older than the operator")
