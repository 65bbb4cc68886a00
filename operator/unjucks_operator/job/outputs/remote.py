"""Outputs outside of the cluster, written by the tenant's courier: Git branches, OCI artifacts, buckets.

The Secret is read here and goes into one request; nothing of it is kept. The courier looks before it writes and writes with one
compare-and-set; here is decided what is written, and that nothing is when it is there already. Made by ``outputs.opening``.
"""

import base64
import hashlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any
from urllib.parse import urlsplit

from unjucks_api import names
from unjucks_api.courier_protocol import (
    BucketTarget,
    CourierLimits,
    GitProvider,
    GitTarget,
    InspectRequest,
    InspectResponse,
    OciTarget,
    PublishRequest,
    PublishTarget,
    PullRequest,
)
from unjucks_api.reasons import Reason
from unjucks_api.render_protocol import SourceFile
from unjucks_api.v1alpha1.generation_job import GenerationJob
from unjucks_api.v1alpha1.generation_job_output import GitOutput, GitPullRequest
from unjucks_api.v1alpha1.tenant import Tenant
from unjucks_operator.config import Config
from unjucks_operator.errors import Conflict, NotPermitted, Retryable, Terminal, Waiting
from unjucks_operator.job.outputs.base import Found, Prepared, Published, Result
from unjucks_operator.job.outputs.files import (
    MANIFEST_NAME,
    File,
    build_manifest,
    manifest_digest,
    read_manifest,
    written_files,
)
from unjucks_operator.job.outputs.objects import Attest
from unjucks_operator.job.outputs.target import Target, git_branch, owner_name
from unjucks_operator.job.outputs.text import fill
from unjucks_operator.job.plan import Run
from unjucks_operator.job.provenance import facts_of, is_same_statement
from unjucks_operator.kube.api import KubeApi
from unjucks_operator.kube.resources import SECRET
from unjucks_operator.renderers.courier import CourierClient

LeaseCourier = Callable[[Tenant, GenerationJob], AbstractAsyncContextManager[CourierClient]]
"""(tenant, job) → the tenant's courier. Raises Waiting while there is none."""
MAX_BYTES = 24 * 1024 * 1024
"""Of all files together: a request to a courier holds twice as much."""
DEFAULT_AUTHOR = ("unjucks", f"noreply@{names.GROUP}")
NO_RUN = "0" * 40
"""Run key of those who only look."""
_LOOK_AGAIN = 15.0
_FORBIDDEN_TYPES = ("kubernetes.io/service-account-token", "bootstrap.kubernetes.io/", "helm.sh/")
_KEYS = frozenset(
    {
        *(
            "username",
            "password",
            "bearerToken",
            "token",
            "identity",
            "ssh-privatekey",
            "known_hosts",
            "caFile",
            "ca.crt",
        ),
        *(".dockerconfigjson", "accesskey", "secretkey", "sessiontoken"),
    }
)


class RemoteOutput:
    """One place of one job, for one run. ``allow`` is asked for each request: what is known of the cluster changes."""

    def __init__(
        self,
        *,
        api: KubeApi,
        lease: LeaseCourier,
        allow: Callable[[Tenant], Any],
        config: Config,
        job: GenerationJob,
        tenant: Tenant,
        run: Run | None,
        target: Target,
        attest: Attest,
    ) -> None:
        self._api = api
        self._lease = lease
        self._allow = allow
        self._config = config
        self._job = job
        self._tenant = tenant
        self._run = run
        self._attest = attest
        self.target = target

    async def observe(self) -> Found | None:
        """What is there, with the files that others wrote: templates may inject into them."""
        request = InspectRequest(
            target=self._wire(0), run_key=self._run.key if self._run else NO_RUN, others=True, **await self._common()
        )
        async with self._lease(self._tenant, self._job) as courier:
            seen = await courier.inspect(request)
        return self._found(seen)

    def prepare(self, result: Result) -> Prepared:
        """Manifest, statement and files. Raises Terminal (OutputTooLarge), and what filling in texts raises."""
        self._wire(result.time)  # texts are checked before the intent is recorded
        files = written_files(result.files)
        manifest = build_manifest(
            files,
            generator=result.generator,
            action=result.action,
            tree=result.tree,
            engine=result.engine,
            last=result.last,
        )
        total = sum(len(file.content) for file in files) + len(manifest)
        if total > MAX_BYTES:
            raise Terminal(
                f"the output has {total} bytes and {MAX_BYTES} can be published at once; generate less",
                reason=Reason.OUTPUT_TOO_LARGE,
            )
        attested = self._attest(files, manifest, result.engine)
        return Prepared(
            manifest_digest(manifest), (result, files, manifest, attested), attested.facts if attested else {}
        )

    async def publish(self, prepared: Prepared, found: Found | None) -> Published:
        """Write what is not there, as one commit, artifact or manifest."""
        result, files, manifest, attested = prepared.raw
        seen: InspectResponse = found.raw if found is not None else InspectResponse()
        removed = [file.path for file in result.files if file.action == "removed"]
        statement = attested.content if attested else b""
        if found is not None and self._is_there(found, seen, files, removed, manifest, statement):
            return await self._publish(seen, at=result.time, unchanged=True)
        return await self._publish(
            seen,
            at=result.time,
            version=seen.version,
            files=[_source(file) for file in files],
            removed=removed,
            manifest=base64.b64encode(manifest).decode(),
            statement=base64.b64encode(statement).decode(),
            seen=sorted({it.path for it in (*seen.files, *seen.others)}) if seen.others_truncated else None,
        )

    async def complete(self, found: Found) -> Published:
        """An earlier attempt wrote it and died: what comes after the write."""
        published = await self._publish(found.raw, at=0, unchanged=True)
        return Published(found.uid or published.uid, written=True, facts={**found.facts, **published.facts})

    # --- pieces ---------------------------------------------------------------------------------------------------------
    async def _publish(self, before: InspectResponse, *, at: int, **told: Any) -> Published:
        key = self._run.key if self._run else NO_RUN
        request = PublishRequest(target=self._wire(at), run_key=key, **told, **await self._common())
        try:
            async with self._lease(self._tenant, self._job) as courier:
                done = await courier.publish(request)
        except Retryable as error:
            if error.reason is Reason.CONFLICT:
                raise Conflict(error.message) from None
            raise
        return Published(done.version or before.version, written=done.written, facts=done.facts)

    @staticmethod
    def _is_there(
        found: Found,
        seen: InspectResponse,
        files: Sequence[File],
        removed: Sequence[str],
        manifest: bytes,
        statement: bytes,
    ) -> bool:
        """Whether the place holds exactly this already, whichever run wrote it."""
        if base64.b64decode(seen.manifest) != manifest or set(removed) & {file.path for file in found.files}:
            return False
        there = {file.path: (file.sha256, bool(file.mode & 0o100)) for file in found.files}
        if any(there.get(file.path) != (file.sha256, bool(file.mode & 0o100)) for file in files):
            return False
        before = base64.b64decode(seen.statement)
        return is_same_statement(before, statement) if statement else not before

    def _found(self, seen: InspectResponse) -> Found | None:
        files = {file.path: base64.b64decode(file.content) for file in seen.files}
        manifest = base64.b64decode(seen.manifest)
        listed = read_manifest(manifest, files)
        return Found(
            version=seen.version,
            uid=hashlib.sha256(self._url().encode()).hexdigest()[:32],
            run_key=seen.run_key,
            manifest_digest=manifest_digest(manifest) if manifest else "",
            engine=listed.engine,
            last=listed.last,
            files=listed.files,
            manifest=listed.digests,
            others=tuple(_file(file) for file in seen.others if file.path != MANIFEST_NAME),
            facts=seen.facts,
            provenance=facts_of(base64.b64decode(seen.statement)),
            # Only paths are asked for later: the contents are in ``files`` and ``others``, and not held twice.
            raw=seen.model_copy(update={"files": _paths_only(seen.files), "others": _paths_only(seen.others)}),
        )

    async def _common(self) -> dict[str, Any]:
        settings = self._config.courier
        return {
            "job": f"{self._job.namespace}/{owner_name(self._job)}",
            "credentials": await self._secret(),
            "certificates": {},
            "allow": self._allow(self._tenant),
            "limits": CourierLimits(
                wall_seconds=min(float(self._job.timeout_seconds), settings.max_timeout),
                cpu_seconds=settings.cpu_seconds,
                memory_bytes=settings.memory_bytes,
                download_bytes=settings.download_bytes,
                source_bytes=self._config.jobs.source_bytes,
                files=self._config.jobs.files,
            ),
        }

    async def _secret(self) -> Mapping[str, str]:
        output = self._job.spec.output
        assert output is not None
        place: Any = output.git or output.oci or output.bucket
        reference = place.secret_ref
        if reference is None:
            return {}
        secret = await self._api.get(SECRET, reference.name, self._job.namespace)
        if secret is None:
            raise Waiting(
                f"Secret {reference.name} does not exist in namespace {self._job.namespace}",
                reason=Reason.DEPENDENCY_NOT_READY,
                after=_LOOK_AGAIN,
            )
        labels = secret["metadata"].get("labels") or {}
        if labels.get(names.LABEL_MANAGED_BY) == names.MANAGED_BY or str(secret.get("type", "")).startswith(
            _FORBIDDEN_TYPES
        ):
            raise NotPermitted(
                f"Secret {reference.name} is not for outputs: it is the operator's own or a token of the cluster; make one of "
                "your own"
            )
        return {key: value for key, value in (secret.get("data") or {}).items() if key in _KEYS}

    def _url(self) -> str:
        output = self._job.spec.output
        assert output is not None
        if output.git is not None:
            return f"{output.git.url}#{git_branch(self._job)}"
        return f"{output.oci.url}:{output.oci.tag}" if output.oci is not None else f"s3://{self.target.name}"

    def _wire(self, time: int) -> PublishTarget:
        output = self._job.spec.output
        assert output is not None
        if output.git is not None:
            return self._git(output.git, time)
        if output.oci is not None:
            return OciTarget(url=output.oci.url, tag=output.oci.tag, overwrite=output.oci.overwrite)
        assert output.bucket is not None
        bucket = output.bucket
        return BucketTarget(
            endpoint=bucket.endpoint,
            bucket=bucket.bucket_name,
            prefix=bucket.prefix or "",
            region=bucket.region or "",
        )

    def _git(self, git: GitOutput, time: int) -> GitTarget:
        author = (git.author.name, git.author.email) if git.author else DEFAULT_AUTHOR
        template = self._job.spec.template
        message = git.commit_message or f"Generate {template.generator}/{template.action}"
        message = self._fill(message, "spec.output.git.commitMessage")
        return GitTarget(
            url=git.url,
            base=git.base or "main",
            branch=git_branch(self._job),
            path=git.path or "",
            author_name=author[0],
            author_email=author[1],
            message=message,
            time=time,
            pull_request=None if git.pull_request is None else self._request(git, git.pull_request, message),
        )

    def _request(self, git: GitOutput, asked: GitPullRequest, message: str) -> PullRequest:
        host = urlsplit(git.url).hostname or ""
        known = next((it for it in self._config.courier.git_hosts if it.host == host), None)
        if known is None:
            raise Terminal(
                f"the platform knows no API for pull requests on {host}: leave spec.output.git.pullRequest out, or have an "
                "administrator add the host to courier.gitHosts",
                reason=Reason.NOT_PERMITTED,
            )
        title = self._fill(asked.title, "spec.output.git.pullRequest.title") if asked.title else message.splitlines()[0]
        job = f"{self._job.namespace}/{self._job.name}"
        return PullRequest(
            provider=GitProvider(known.provider),
            api=known.api,
            repository=urlsplit(git.url).path.strip("/").removesuffix(".git"),
            title=title[:256],
            body=f"Made by the GenerationJob {job}. A later run adds a commit to this branch.",
            labels=sorted(asked.labels),
            draft=asked.draft,
        )

    def _fill(self, text: str, field: str) -> str:
        return fill(text, self._run.variables, self._run.sensitive, field) if self._run else text


def _paths_only(files: Sequence[SourceFile]) -> list[SourceFile]:
    return [SourceFile(path=file.path, content="", mode=file.mode) for file in files]


def _source(file: File) -> SourceFile:
    mode = 0o755 if file.mode & 0o100 else 0o644
    return SourceFile(path=file.path, content=base64.b64encode(file.content).decode(), mode=mode)


def _file(file: SourceFile) -> File:
    content = base64.b64decode(file.content)
    return File(file.path, content, file.mode, hashlib.sha256(content).hexdigest(), "unchanged")
