"""The courier's HTTPS server: the operator asks, a fresh process does the task, the answer goes back checked.

What is common with the renderer (who calls, how much, health, an orderly end) is in ``renderer.serving``. It keeps nothing: no
credential, no tree. A request is never logged; a task's kind, size and cost are. Started by ``__main__``.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web
from pydantic import BaseModel

from unjucks_api.courier_protocol import (
    FETCH_PATH,
    INSPECT_PATH,
    MAX_COURIER_REQUEST_BYTES,
    PUBLISH_PATH,
    CourierLimits,
    FetchRequest,
    FetchResponse,
    InspectRequest,
    InspectResponse,
    PublishRequest,
    PublishResponse,
)
from unjucks_api.reasons import Reason
from unjucks_runtime.courier import workers
from unjucks_runtime.courier.settings import Settings
from unjucks_runtime.renderer.serving import Refused, TaskFailed, TaskServer, json_answer, parse, problem

log = logging.getLogger(__name__)

ROUTES: tuple[tuple[str, str, type[BaseModel], type[BaseModel]], ...] = (
    (FETCH_PATH, "fetch", FetchRequest, FetchResponse),
    (INSPECT_PATH, "inspect", InspectRequest, InspectResponse),
    (PUBLISH_PATH, "publish", PublishRequest, PublishResponse),
)
"""Path, kind of task (see ``child.TASKS``), request and response. Each request has ``limits`` (CourierLimits)."""


class CourierServer(TaskServer):
    """The application."""

    what = "courier"
    unavailable = Reason.COURIER_UNAVAILABLE
    lost = Reason.COURIER_UNAVAILABLE
    max_request_bytes = MAX_COURIER_REQUEST_BYTES

    settings: Settings

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)

    def add_routes(self, app: web.Application) -> None:
        """All kinds of tasks."""
        for path, kind, request, response in ROUTES:
            app.router.add_post(path, self._handler(kind, request, response))

    def _handler(
        self, kind: str, model: type[BaseModel], answer: type[BaseModel]
    ) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        async def handle(request: web.Request) -> web.StreamResponse:
            body = await self._admit(request)
            try:
                task: Any = parse(model, body)
                outcome = await self._perform(kind, body, self._bounded(task.limits))
                log.info(
                    "done",
                    extra={
                        "fields": {
                            "task": kind,
                            "wallSeconds": round(outcome.wall_seconds, 3),
                            "answerBytes": len(outcome.payload),
                        }
                    },
                )
                return json_answer(answer.model_validate_json(outcome.payload))
            except TaskFailed as failed:
                response = failed.response
                log.info("failed", extra={"fields": {"task": kind, "reason": response.reason, "limit": response.limit}})
                # 422 also for what may succeed later: the task was done, and it is the source that did not answer.
                raise Refused(422, response) from None
            finally:
                self._leave()

        return handle

    async def _perform(self, kind: str, body: bytes, limits: CourierLimits) -> workers.Outcome:
        job = asyncio.create_task(workers.run(kind, body, limits))
        self._tasks.add(job)
        job.add_done_callback(self._tasks.discard)
        try:
            return await job
        except asyncio.CancelledError:
            job.cancel()
            await asyncio.gather(job, return_exceptions=True)
            current = asyncio.current_task()
            if current is not None and current.cancelling():
                raise  # the caller went away
            message = "the courier ended before the task did; run it again"
            raise Refused(503, problem(Reason.COURIER_UNAVAILABLE, message, retryable=True)) from None

    def _bounded(self, limits: CourierLimits) -> CourierLimits:
        return limits.model_copy(update={"memory_bytes": min(limits.memory_bytes, self.settings.task_memory)})
