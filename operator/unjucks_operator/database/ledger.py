"""The ledger of runs: at-least-once execution, exactly one publication for each (tenant, job UID, run key).

One row for each key. ``attempt`` is the fence: every claim makes it larger, and every later write names the attempt it belongs to,
so whoever was overtaken can write nothing. States and the only ways between them:

    (none) ──claim──► claimed ──record_rendered──► rendered ──record_published──► published
                         ▲ │                          │ │                            │
                         │ └──────record_failed───────┼─┴──► failed                  │
                         └───── claim(reopen=attempt) ┴────────┴─────────────────────┘
    claim of a claimed or rendered row: same state, attempt + 1 (it takes over from whoever stopped)

How a run is published exactly once although the output (a ConfigMap, a Git branch) is not in this database:

1. ``claim``. Published already? Then the row tells what and where: compare the output, do nothing.
2. Observe the output *after* the claim, with its version. Does it carry this run key and the manifest digest that the row has
   (state rendered)? Then an earlier attempt published and died before it could say so: go to 5.
3. Render, then ``record_rendered`` with the manifest's digest. This is the intent, written before the effect.
4. Publish as **one compare-and-set** on the version observed in step 2 (create when there was none), with run key and manifest
   digest written in the output itself. A conflict means somebody else wrote: begin again at 1.
5. ``record_published``. After a lost answer repeat it: the same attempt and the same digest is success.

Crash before 3: the next claim renders again, nothing was published. Between 3 and 4: the next one finds no such output and renders
again. Between 4 and 5: step 2 finds it. A stale attempt that wakes up anywhere: its record_* are refused (StaleAttempt), and its
compare-and-set fails, since the newer attempt changed the output after the version it knows. A run is never lost: a row that is not
published or failed is claimed again by the next reconcile of its job. Nothing here compares clocks of two machines.
Must not: decide what is published (the job controller does). Called by the job controller, through ``tenant_tx``.
"""

# ruff: noqa: S608  statements are put together from constants of this package only; every value is a parameter

import re
import uuid
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final

import orjson

from unjucks_api.reasons import Reason
from unjucks_operator import errors
from unjucks_operator.database.artifacts import OWN
from unjucks_operator.database.pool import Connection, TenantTransactions

MAX_OUTPUT_BYTES: Final = 8192
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


class RunState(StrEnum):
    """Where a run stands."""

    CLAIMED = "claimed"
    RENDERED = "rendered"
    PUBLISHED = "published"
    FAILED = "failed"


class StaleAttempt(errors.Conflict):
    """Another attempt took over; whatever this one has in hand must be thrown away. Reconcile again from the start."""


@dataclass(frozen=True, slots=True)
class Run:
    """One row of the ledger."""

    job_uid: str
    run_key: str
    attempt: int
    state: RunState
    holder: str
    manifest_digest: str | None
    output: Mapping[str, Any] | None
    """Where it was published, as the publisher described it (kind, name, resource version, ...)."""
    failure_reason: str | None
    failure_message: str | None
    failure_final: bool
    """Whether trying the same run again is pointless (an error of the template, not of the infrastructure)."""
    publications: int
    """How often this key was published: 1, or more when a lost output was restored through ``claim(reopen=...)``."""
    created_at: datetime
    claimed_at: datetime
    rendered_at: datetime | None
    published_at: datetime | None
    failed_at: datetime | None


@dataclass(frozen=True, slots=True)
class Claim:
    """The answer to ``claim``. ``granted`` False: the run is published or failed, see ``run``; there is nothing to do."""

    granted: bool
    run: Run
    """The row as it is now. After taking over a rendered run it still says which manifest was going to be published."""
    previous: Run | None
    """The row as the claim found it; None when it made it."""

    @property
    def attempt(self) -> int:
        """The fence that every later call of this attempt must name."""
        return self.run.attempt


class Ledger:
    """The runs of tenants. Every method acts as the tenant role it is given."""

    def __init__(self, database: TenantTransactions) -> None:
        self._database = database

    async def claim(self, role: str, job_uid: str, run_key: str, *, holder: str, reopen: int | None = None) -> Claim:
        """Takes the run for this ``holder`` (the operator's incarnation), unless it is published or failed.

        ``reopen`` takes it then too, but only when its attempt is still that number (the caller has seen that attempt's result and
        decided: the output is lost, or a failure is worth another try); so of two callers who decide the same, one gets it.
        """
        job = _uuid(job_uid)
        async with self._database.tenant_tx(role) as connection:
            inserted = await connection.fetchrow(_CLAIM_NEW, job, run_key, holder)
            if inserted is not None:
                return Claim(True, _run(inserted), None)
            before = await connection.fetchrow(_LOCKED, job, run_key)
            if before is None:  # deleted by prune in this very moment
                raise StaleAttempt("the ledger row of this run was removed while it was claimed")
            previous = _run(before)
            done = previous.state in (RunState.PUBLISHED, RunState.FAILED)
            if done and reopen != previous.attempt:
                return Claim(False, previous, previous)
            state = RunState.CLAIMED if done else previous.state
            row = await connection.fetchrow(_CLAIM_AGAIN, job, run_key, holder, state.value)
            return Claim(True, _run(row), previous)

    async def record_rendered(self, role: str, job_uid: str, run_key: str, attempt: int, manifest_digest: str) -> Run:
        """The intent to publish exactly this manifest. Repeatable. Raises StaleAttempt when overtaken."""
        async with self._database.tenant_tx(role) as connection:
            row = await connection.fetchrow(_RENDERED, _uuid(job_uid), run_key, attempt, _digest(manifest_digest))
            if row is not None:
                return _run(row)
            current = await self._current(connection, job_uid, run_key, attempt)
            raise StaleAttempt(f"attempt {attempt} is already {current.state.value}; it cannot be rendered again")

    async def record_published(
        self, role: str, job_uid: str, run_key: str, attempt: int, manifest_digest: str, output: Mapping[str, Any]
    ) -> Run:
        """The output is there. Counts once for each attempt, however often it is repeated. Raises StaleAttempt when overtaken."""
        async with self._database.tenant_tx(role) as connection:
            row = await connection.fetchrow(
                _PUBLISHED, _uuid(job_uid), run_key, attempt, _digest(manifest_digest), _json(output)
            )
            if row is not None:
                return _run(row)
            current = await self._current(connection, job_uid, run_key, attempt)
            if current.state is RunState.PUBLISHED and current.manifest_digest == manifest_digest:
                return current
            raise StaleAttempt(
                f"attempt {attempt} is {current.state.value} with manifest {current.manifest_digest}; "
                f"publishing {manifest_digest[:80]} was never its intent"
            )

    async def record_failed(
        self, role: str, job_uid: str, run_key: str, attempt: int, reason: Reason, message: str, *, final: bool
    ) -> Run:
        """This attempt ended without an output. ``final``: the same inputs would fail again. Raises StaleAttempt when overtaken.

        After ``record_rendered`` only when the output was observed *not* to be there: an effect in doubt is not a failure.
        """
        async with self._database.tenant_tx(role) as connection:
            row = await connection.fetchrow(
                _FAILED, _uuid(job_uid), run_key, attempt, reason.value, _cut(message), final
            )
            if row is not None:
                return _run(row)
            current = await self._current(connection, job_uid, run_key, attempt)
            if current.state is RunState.FAILED:
                return current
            raise StaleAttempt(f"attempt {attempt} is already {current.state.value}; it did not fail")

    async def lookup(self, role: str, job_uid: str, run_key: str) -> Run | None:
        """The row, or None. Reads only."""
        async with self._database.tenant_tx(role, purpose="read") as connection:
            row = await connection.fetchrow(f"SELECT {_COLUMNS} {_WHERE}", _uuid(job_uid), run_key)
        return None if row is None else _run(row)

    async def runs(self, role: str, job_uid: str) -> tuple[Run, ...]:
        """All runs of one job, oldest first."""
        async with self._database.tenant_tx(role, purpose="read") as connection:
            rows = await connection.fetch(
                f"SELECT {_COLUMNS} FROM unjucks.generation_run "
                f"WHERE tenant_id = {OWN} AND job_uid = $1 ORDER BY created_at, run_key",
                _uuid(job_uid),
            )
        return tuple(_run(row) for row in rows)

    async def prune(self, role: str, live_jobs: Collection[str], *, older_than: timedelta) -> int:
        """Deletes finished runs of jobs that exist no more (not in ``live_jobs``), created longer than ``older_than`` ago.

        The rows of a living job are kept: they are what makes a second reconcile of it do nothing.
        """
        async with self._database.tenant_tx(role) as connection:
            tag: str = await connection.execute(
                f"DELETE FROM unjucks.generation_run WHERE tenant_id = {OWN} AND created_at < now() - $2::interval "
                "AND job_uid <> ALL ($1::uuid[]) AND state IN ('published', 'failed')",
                [_uuid(uid) for uid in live_jobs], older_than,
            )  # fmt: skip
        return int(tag.rpartition(" ")[2])

    async def _current(self, connection: Connection, job_uid: str, run_key: str, attempt: int) -> Run:
        row = await connection.fetchrow(f"SELECT {_COLUMNS} {_WHERE}", _uuid(job_uid), run_key)
        if row is None:
            raise StaleAttempt("the ledger has no such run (any more)")
        current = _run(row)
        if current.attempt != attempt:
            raise StaleAttempt(f"attempt {attempt} was overtaken by attempt {current.attempt} of {current.holder}")
        return current


_COLUMNS: Final = (
    "job_uid, run_key, attempt, state, holder, manifest_digest, output, failure_reason, failure_message, failure_final, "
    "publications, created_at, claimed_at, rendered_at, published_at, failed_at"
)
_WHERE: Final = f"FROM unjucks.generation_run WHERE tenant_id = {OWN} AND job_uid = $1 AND run_key = $2"
_KEY: Final = f"tenant_id = {OWN} AND job_uid = $1 AND run_key = $2"
_CLAIM_NEW: Final = f"""
    INSERT INTO unjucks.generation_run (tenant_id, job_uid, run_key, holder) VALUES ({OWN}, $1, $2, $3)
    ON CONFLICT (tenant_id, job_uid, run_key) DO NOTHING RETURNING {_COLUMNS}
"""
_LOCKED: Final = f"SELECT {_COLUMNS} {_WHERE} FOR UPDATE"
_CLAIM_AGAIN: Final = f"""
    UPDATE unjucks.generation_run
       SET attempt = attempt + 1, holder = $3, state = $4, claimed_at = now(),
           failure_reason = NULL, failure_message = NULL, failure_final = false, failed_at = NULL
     WHERE {_KEY} RETURNING {_COLUMNS}
"""
_RENDERED: Final = f"""
    UPDATE unjucks.generation_run SET state = 'rendered', manifest_digest = $4, rendered_at = now()
     WHERE {_KEY} AND attempt = $3 AND state IN ('claimed', 'rendered') RETURNING {_COLUMNS}
"""
_PUBLISHED: Final = f"""
    UPDATE unjucks.generation_run
       SET state = 'published', output = $5::text::jsonb, published_at = now(), publications = publications + 1
     WHERE {_KEY} AND attempt = $3 AND state = 'rendered' AND manifest_digest = $4 RETURNING {_COLUMNS}
"""
_FAILED: Final = f"""
    UPDATE unjucks.generation_run
       SET state = 'failed', failure_reason = $4, failure_message = $5, failure_final = $6, failed_at = now()
     WHERE {_KEY} AND attempt = $3 AND state IN ('claimed', 'rendered') RETURNING {_COLUMNS}
"""


def _run(row: Any) -> Run:
    values = dict(row)
    values["job_uid"] = str(values["job_uid"])
    values["state"] = RunState(values["state"])
    values["output"] = None if values["output"] is None else orjson.loads(values["output"])
    return Run(**values)


def _json(output: Mapping[str, Any]) -> str:
    text = orjson.dumps(dict(output))
    if len(text) > MAX_OUTPUT_BYTES:
        raise errors.Bug(
            f"the description of an output has {len(text)} bytes; at most {MAX_OUTPUT_BYTES} fit the ledger"
        )
    return text.decode()


def _digest(digest: str) -> str:
    if not _DIGEST.fullmatch(digest):
        raise errors.Bug(f"{digest[:80]!r} is not a manifest digest (sha256: and 64 hex digits)")
    return digest


def _cut(message: str) -> str:
    return message.replace("\x00", "").encode()[:4000].decode(errors="ignore")


def _uuid(uid: str) -> uuid.UUID:
    try:
        return uuid.UUID(uid)
    except ValueError:
        raise errors.InvalidSpec(f"{uid[:80]!r} is not the UID of a Kubernetes object") from None
