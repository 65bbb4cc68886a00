"""Parsing of inline templates before they are stored: the same check as at ingest, in a confined child that can open nothing.

Templates are parsed and compared with their declarations, never rendered. A child has limits on time, CPU and memory. Whatever
keeps the check from being made (no confinement here, too busy, a limit) is no reason to refuse an object: the registry's own
ingest repeats the check. Called by ``validate``.
"""

import asyncio
import base64
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from unjucks_api.render_protocol import (
    AnalyzeRequest,
    AnalyzeResponse,
    EngineOptions,
    ErrorResponse,
    Limits,
    Problem,
    SourceFile,
)
from unjucks_runtime.renderer.serving import TaskFailed
from unjucks_runtime.renderer.wire import Kind, TaskHeader
from unjucks_runtime.renderer.workers import WorkerPool, ZygoteError

LIMITS: Final = Limits(wall_seconds=2.5, cpu_seconds=2, memory_bytes=96 * 1024 * 1024, source_bytes=1024 * 1024)
SIDE_BY_SIDE: Final = 2
_PATIENCE: Final = 0.5
_REPLY_BOUND: Final = 8 * 1024 * 1024
_PROBE_LIMITS: Final = Limits(wall_seconds=10, cpu_seconds=10)

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Checked:
    """What the check found. ``skipped`` says why it was not made; empty when it was."""

    problems: tuple[Problem, ...] = ()
    skipped: str = ""


class TemplateChecker:
    """See the module's text. ``bait`` is a file that a child must not be able to open."""

    def __init__(self, bait: Path, pool: WorkerPool | None = None) -> None:
        self._bait = bait
        self._pool = pool or WorkerPool()
        self._places = asyncio.Semaphore(SIDE_BY_SIDE)
        self._why = "not started"

    @property
    def works(self) -> bool:
        """Whether checks are made."""
        return not self._why

    async def start(self) -> None:
        """Start the zygote, and let a child try what must not work. When it can, or nothing starts, checks are left out."""
        try:
            await self._pool.start()
            await self._probe()
        except (ZygoteError, TaskFailed) as error:
            self._why = f"child processes cannot be confined here: {error}"
        if self._why:
            log.warning("inline templates are not checked before they are stored: %s", self._why)

    async def stop(self) -> None:
        """End the zygote."""
        await self._pool.stop()

    async def _probe(self) -> None:
        request = str(self._bait).encode()
        header = TaskHeader(Kind.PROBE, cpu_seconds=10, memory_bytes=0, tree_bytes=0, request_bytes=len(request))
        outcome = await self._pool.run(header, b"", request, limits=_PROBE_LIMITS, reply_bound=4096)
        if outcome.kind is Kind.RESULT and not outcome.payload:
            self._why = ""
        else:
            could = ", ".join(outcome.payload.decode(errors="replace").splitlines())
            self._why = f"one could {could or 'answer wrongly'}"

    async def check(self, files: Mapping[str, str], spec: Mapping[str, Any]) -> Checked:
        """Parse ``files`` with the settings of ``spec`` (a TemplateRegistry's)."""
        if self._why:
            return Checked(skipped="templates are checked after the object is stored")
        try:
            body = _request(files, spec).model_dump_json().encode()
        except ValidationError:
            return Checked(skipped="templates are checked once the other problems are solved")
        try:
            async with asyncio.timeout(_PATIENCE):
                await self._places.acquire()
        except TimeoutError:
            return Checked(skipped="too many checks at once; templates are checked after the object is stored")
        try:
            header = TaskHeader(Kind.ANALYZE, LIMITS.cpu_seconds, LIMITS.memory_bytes, 0, len(body))
            outcome = await self._pool.run(header, b"", body, limits=LIMITS, reply_bound=_REPLY_BOUND)
            return _read(outcome.kind, outcome.payload)
        except TaskFailed as failed:
            log.info("templates not checked", extra={"fields": {"reason": failed.response.reason}})
            return Checked(skipped=f"templates are checked after the object is stored ({failed.response.reason} here)")
        finally:
            self._places.release()


def _request(files: Mapping[str, str], spec: Mapping[str, Any]) -> AnalyzeRequest:
    engine, variables = spec.get("engine") or {}, spec.get("variables") or {}
    return AnalyzeRequest(
        files=[
            SourceFile(path=path, content=base64.b64encode(text.encode(errors="replace")).decode())
            for path, text in files.items()
        ],
        path=str(spec.get("path") or "."),
        engine=EngineOptions(
            undefined=engine.get("undefined", "Error"),
            trim_blocks=engine.get("trimBlocks", True),
            lstrip_blocks=engine.get("lstripBlocks", True),
            autoescape=engine.get("autoescape", False),
        ),
        shared_schema=variables.get("schema") or {},
        limits=LIMITS,
    )


def _read(kind: Kind, payload: bytes) -> Checked:
    """The child's answer, of which nothing is believed but its form."""
    try:
        if kind is Kind.RESULT:
            answer = AnalyzeResponse.model_validate_json(payload)
            found = [*answer.problems, *(problem for action in answer.actions for problem in action.problems)]
            unique = {(it.path, it.line, it.column, it.message): it for it in found}
            return Checked(tuple(unique[key] for key in sorted(unique)))
        failure = ErrorResponse.model_validate_json(payload)
    except ValidationError:
        return Checked(skipped="templates are checked after the object is stored (no usable answer here)")
    if failure.retryable or failure.limit:
        return Checked(skipped=f"templates are checked after the object is stored ({failure.reason} here)")
    return Checked((Problem(path="", message=failure.message),))
