"""Tells users of an error that nobody expected: ``Ready=False``, reason ``InternalError``; the object is tried again all the same.

Wraps the reconcile functions; the error itself goes on to the runner, which logs it. Status never has the error's own text: nobody
knows what is in it. The same words every time, so a fault that repeats is written once. The next good run tells how it really is.
Made by ``app``.
"""

import logging
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from datetime import datetime
from typing import Any

from unjucks_api.conditions import FAULT, fault_status
from unjucks_api.reasons import Reason
from unjucks_api.v1alpha1.common import InvalidObjectError
from unjucks_api.v1alpha1.generation_job import GenerationJob
from unjucks_api.v1alpha1.template_registry import TemplateRegistry
from unjucks_operator.engine.runner import Result
from unjucks_operator.engine.store import ObjectKey, ResourceStore
from unjucks_operator.errors import OperatorError, Retryable
from unjucks_operator.job.plan import is_finished
from unjucks_operator.job.status import compute_pending
from unjucks_operator.kube.api import Manifest
from unjucks_operator.kube.resources import Resource
from unjucks_operator.registry.status import compute_failed
from unjucks_operator.reporting import StatusWriter

_log = logging.getLogger(__name__)

Compute = Callable[[Manifest, datetime], Mapping[str, Any]]
"""(body, now) → the status that tells of the fault."""


class FaultTeller:
    """A reconcile function with that care. ``forget``: what the reconciler remembers that must not hold up its next try."""

    def __init__(
        self,
        reconcile: Callable[[ObjectKey], Awaitable[Result]],
        compute: Compute,
        *,
        resource: Resource,
        store: ResourceStore,
        status: StatusWriter,
        now: Callable[[], datetime],
        forget: Callable[[ObjectKey], None] = lambda _: None,
    ) -> None:
        self._reconcile = reconcile
        self._compute = compute
        self._resource = resource
        self._store = store
        self._status = status
        self._now = now
        self._forget = forget

    async def __call__(self, key: ObjectKey) -> Result:
        """One run."""
        try:
            return await self._reconcile(key)
        except OperatorError:
            raise
        except Exception:
            try:
                self._forget(key)
                await self._tell(key)
            except Exception:
                _log.exception("an unexpected error could not be told in status")  # the first one is what counts
            raise

    async def _tell(self, key: ObjectKey) -> None:
        body = self._store.get(key)  # the newest: the run may have written
        if body is None:
            return
        try:
            told = self._compute(body, self._now())
        except InvalidObjectError:
            told = fault_status(body, now=self._now())
        with suppress(OperatorError):  # somebody else wrote meanwhile, or the API server is down: told at the next try
            await self._status.write(self._resource, self._store, body, told, action="Reconcile")


def compute_registry_fault(body: Manifest, now: datetime) -> dict[str, Any]:
    """What was served stays served; the source is read anew by the next run."""
    return compute_failed(TemplateRegistry.parse(body), _error(), version=None, now=now)


def compute_job_fault(body: Manifest, now: datetime) -> dict[str, Any]:
    """A job that has ended keeps how it ended; another one waits for its next try."""
    job = GenerationJob.parse(body)
    if is_finished(job):
        return fault_status(body, now=now)
    return compute_pending(job, _error(), started=None, now=now)


def compute_tenant_fault(body: Manifest, now: datetime) -> dict[str, Any]:
    """Everything else about the Tenant stays told as it was."""
    return fault_status(body, now=now)


def _error() -> Retryable:
    return Retryable(FAULT, reason=Reason.INTERNAL_ERROR)
