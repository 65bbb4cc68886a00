"""The HTTPS server: who calls, how much, how many at once; then one task in a child; then a checked answer.

It parses requests and answers with the protocol's models and never touches template text itself. Health is plain HTTP on another
port. Started by ``__main__``; tests start it through that too.
"""

import asyncio
import base64
import hashlib
import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

from aiohttp import web
from pydantic import BaseModel, ValidationError

from unjucks_api.reasons import Reason
from unjucks_api.render_protocol import (
    ANALYZE_PATH,
    MAX_RESPONSE_BYTES,
    RENDER_PATH,
    AnalyzeRequest,
    AnalyzeResponse,
    ErrorResponse,
    Limits,
    RenderRequest,
    RenderResponse,
)
from unjucks_api.tree import PathRejectedError, check_path
from unjucks_runtime.renderer.forker import Forker
from unjucks_runtime.renderer.serving import (
    Refused,
    TaskFailed,
    TaskServer,
    describe,
    dump,
    json_answer,
    parse,
    problem,
)
from unjucks_runtime.renderer.setting import setting_of
from unjucks_runtime.renderer.settings import Settings
from unjucks_runtime.renderer.trees import TreeCache
from unjucks_runtime.renderer.warm import WarmSets
from unjucks_runtime.renderer.wire import Kind, TaskHeader
from unjucks_runtime.renderer.workers import Outcome, WorkerPool, over

log = logging.getLogger(__name__)

_BODY_SECONDS = 30.0
_LOAD_SECONDS = 30.0
_RETRY_AFTER = "1"
_MAX_ERRORS_SHOWN = 3

_M = TypeVar("_M", bound=BaseModel)
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class RendererServer(TaskServer):
    """The application; ``identity`` is what new connections are served with."""

    settings: Settings

    def __init__(self, settings: Settings, pool: WorkerPool, on_last_task: Callable[[], None]) -> None:
        super().__init__(settings)
        self.pool = pool
        self._last_task = asyncio.Event()
        self._on_last_task = on_last_task
        self._trees = TreeCache(settings.tree_cache)
        self.warm = WarmSets(0 if settings.once else settings.warm_trees)

    def add_routes(self, app: web.Application) -> None:
        """Both tasks."""
        app.router.add_post(ANALYZE_PATH, self._analyze)
        app.router.add_post(RENDER_PATH, self._render)

    @property
    def workers_ready(self) -> bool:
        """Whether a task would find a worker process."""
        return self.pool.ready

    def look_after(self) -> None:
        """Children whose parents ended are nobody's else."""
        self.pool.reap_orphans()

    # --- the two tasks --------------------------------------------------------------------------------------------------

    async def _analyze(self, request: web.Request) -> web.Response:
        body = await self._admit(request)
        try:
            task = parse(AnalyzeRequest, body)
            limits = self._bounded(task.limits)
            outcome = await self._perform(Kind.ANALYZE, limits, b"", body)
            answer = _validated(AnalyzeResponse, outcome)
            costs = {"cpu_seconds": outcome.cpu_seconds, "engine_version": self.pool.engine_version}
            answer = answer.model_copy(update=costs)
            _log_task("analyzed", outcome, files=len(answer.files), actions=len(answer.actions))
            return json_answer(answer)
        finally:
            self._leave()

    async def _render(self, request: web.Request) -> web.Response:
        body = await self._admit(request)
        try:
            task = parse(RenderRequest, body)
            limits = self._bounded(task.limits)
            tree = self._tree(task)
            rest = task.model_copy(update={"files": [], "limits": limits})
            if self.settings.once:
                self.accepting = False
            try:
                outcome = await self._perform_warm(rest, tree)
                answer = _validated(RenderResponse, outcome)
                _check_bounds(answer, limits)
            except TaskFailed as failed:
                log.info(
                    "task failed",
                    extra={
                        "fields": {"task": task.task, "reason": failed.response.reason, "limit": failed.response.limit}
                    },
                )
                raise
            finally:
                if self.settings.once:
                    self._last_task.set()
            _log_task("rendered", outcome, task=task.task, digest=task.digest, files=len(answer.files))
            costs = {
                "cpu_seconds": outcome.cpu_seconds,
                "wall_seconds": outcome.wall_seconds,
                "max_rss_bytes": outcome.max_rss_bytes,
                "engine_version": self.pool.engine_version,
            }
            return json_answer(answer.model_copy(update=costs))
        finally:
            self._leave()
            if self._last_task.is_set():
                self._on_last_task()

    async def _perform_warm(self, task: RenderRequest, tree: bytes) -> Outcome:
        """Render in a child of the zygote that has the action compiled, if there is one; else see to it that there will be."""
        setting = dump(setting_of(task))
        key = hashlib.sha256(task.digest.encode() + b"\0" + setting).digest()
        forker = self.warm.get(key)
        if forker is not None:
            try:
                return await self._perform(Kind.RENDER, task.limits, b"", dump(task), forker)
            except TaskFailed as failed:
                if not failed.response.retryable:
                    raise
                # The fault may be in the kept set: this one does without, and a task has no effect that would be there twice.
                self.warm.discard(key)
        outcome = await self._perform(Kind.RENDER, task.limits, tree, dump(task))
        limits = task.limits.model_copy(update={"wall_seconds": min(task.limits.wall_seconds, _LOAD_SECONDS)})
        header = TaskHeader(Kind.LOAD, limits.cpu_seconds, limits.memory_bytes, len(tree), len(setting))
        self.warm.used(key, lambda: self.pool.nest(header, tree, setting, limits=limits))
        return outcome

    async def _perform(
        self, kind: Kind, limits: Limits, tree: bytes, request: bytes, forker: Forker | None = None
    ) -> Outcome:
        header = TaskHeader(
            kind=kind,
            cpu_seconds=limits.cpu_seconds,
            memory_bytes=limits.memory_bytes,
            tree_bytes=len(tree),
            request_bytes=len(request),
        )
        job = asyncio.create_task(
            self.pool.run(header, tree, request, limits=limits, reply_bound=_reply_bound(kind, limits), forker=forker)
        )
        self._tasks.add(job)
        job.add_done_callback(self._tasks.discard)
        try:
            outcome = await job
        except asyncio.CancelledError:
            job.cancel()
            current = asyncio.current_task()
            if current is not None and current.cancelling():
                raise  # the caller went away
            raise Refused(
                503,
                problem(Reason.RENDERER_LOST, "the renderer ended before the task did; run it again", retryable=True),
            ) from None
        if outcome.kind is Kind.FAILURE:
            raise TaskFailed(_failure(outcome))
        return outcome

    def _bounded(self, limits: Limits) -> Limits:
        return limits.model_copy(update={"memory_bytes": min(limits.memory_bytes, self.settings.task_memory)})

    def _tree(self, task: RenderRequest) -> bytes:
        """The packed tree of the request's digest: from the request, else from the cache."""
        if not task.files:
            packed = self._trees.get(task.digest)
            if packed is None:
                message = f"the renderer does not have the tree {task.digest[:80]}; send its files along"
                raise Refused(404, problem(Reason.SOURCE_NOT_FOUND, message, retryable=True))
            return packed
        try:
            files = {check_path(file.path): (base64.b64decode(file.content), file.mode) for file in task.files}
            if len(files) != len(task.files):
                raise ValueError("a path stands there twice")
            return self._trees.get(task.digest) or self._trees.add(task.digest, files)
        except PathRejectedError as error:
            raise Refused(422, problem(Reason.PATH_REJECTED, str(error))) from error
        except ValueError as error:
            raise Refused(422, problem(Reason.MANIFEST_MISMATCH, f"the request's files: {error}")) from error


def _reply_bound(kind: Kind, limits: Limits) -> int:
    """Bytes of a child's answer: base64 and JSON around what it may put out; the files' names and warnings on top."""
    content = limits.output_bytes if kind is Kind.RENDER else limits.source_bytes
    return min(MAX_RESPONSE_BYTES, content * 4 // 3 + limits.files * 2048 + 4 * 1024 * 1024)


def _check_bounds(answer: RenderResponse, limits: Limits) -> None:
    if len(answer.files) > limits.files:
        raise over("files", f"the task made {len(answer.files)} files; {limits.files} are allowed")
    size = sum(len(file.content) for file in answer.files) * 3 // 4
    if size > limits.output_bytes + 3 * len(answer.files):
        raise over("output", f"the task made about {size} bytes; {limits.output_bytes} are allowed")


def _validated(model: type[_M], outcome: Outcome) -> _M:
    try:
        return model.model_validate_json(outcome.payload)
    except ValidationError as error:
        log.error("a worker process answered wrongly", extra={"fields": {"errors": describe(error)}})
        raise TaskFailed(
            problem(Reason.MANIFEST_MISMATCH, "the worker process' answer does not hold the protocol")
        ) from None


def _failure(outcome: Outcome) -> ErrorResponse:
    answer = _validated(ErrorResponse, outcome)
    # Whether a task can be run again is not for the process to say that ran template code.
    return answer.model_copy(update={"retryable": False})


def _log_task(event: str, outcome: Outcome, **fields: object) -> None:
    costs = {
        "cpuSeconds": round(outcome.cpu_seconds, 4),
        "wallSeconds": round(outcome.wall_seconds, 4),
        "maxRssBytes": outcome.max_rss_bytes,
    }
    log.info(event, extra={"fields": {**fields, **costs}})
