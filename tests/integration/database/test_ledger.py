"""The ledger of runs on a real server: fencing, repeatable writes, and one publication whatever crashes and whoever overlaps."""

import asyncio
import random
from collections import Counter
from datetime import timedelta

import pytest

from support.database import ReadyDatabase, new_uid
from support.publisher import ConflictingWriteError, CrashError, Output, publish_once
from unjucks_api.reasons import Reason
from unjucks_operator import errors
from unjucks_operator.database.ledger import Ledger, RunState, StaleAttempt
from unjucks_operator.database.pool import Database
from unjucks_operator.database.tenants import Tenants

pytestmark = pytest.mark.integration

DIGEST = "sha256:" + "1" * 64
OTHER = "sha256:" + "2" * 64
OUTPUT = {"kind": "ConfigMap", "name": "orders", "resourceVersion": "42"}


@pytest.fixture
def unjucks_database(shared_database: ReadyDatabase) -> ReadyDatabase:
    """Each test has a tenant of its own; none changes the schema."""
    return shared_database


@pytest.fixture
async def role(database: Database) -> str:
    return (await Tenants(database).ensure(new_uid(), "acme")).role


@pytest.fixture
def ledger(database: Database) -> Ledger:
    return Ledger(database)


async def test_life_of_a_run(ledger: Ledger, role: str) -> None:
    job = new_uid()
    assert await ledger.lookup(role, job, "k") is None
    claim = await ledger.claim(role, job, "k", holder="one")
    assert (claim.granted, claim.attempt, claim.previous) == (True, 1, None)
    assert (claim.run.state, claim.run.holder) == (RunState.CLAIMED, "one")
    rendered = await ledger.record_rendered(role, job, "k", 1, DIGEST)
    assert (rendered.state, rendered.manifest_digest) == (RunState.RENDERED, DIGEST)
    published = await ledger.record_published(role, job, "k", 1, DIGEST, OUTPUT)
    assert (published.state, published.output, published.publications) == (RunState.PUBLISHED, OUTPUT, 1)
    assert published.created_at <= published.claimed_at
    assert published.rendered_at is not None
    assert published.published_at is not None
    assert await ledger.lookup(role, job, "k") == published
    again = await ledger.claim(role, job, "k", holder="two")
    assert (again.granted, again.run) == (False, published)
    assert await ledger.runs(role, job) == (published,)


async def test_repeated_writes_are_harmless(ledger: Ledger, role: str) -> None:
    """A reply may be lost after the commit; the caller then says the same again."""
    job = new_uid()
    await ledger.claim(role, job, "k", holder="one")
    first = await ledger.record_rendered(role, job, "k", 1, DIGEST)
    second = await ledger.record_rendered(role, job, "k", 1, DIGEST)
    assert (second.state, second.manifest_digest) == (first.state, first.manifest_digest)
    done = await ledger.record_published(role, job, "k", 1, DIGEST, OUTPUT)
    assert await ledger.record_published(role, job, "k", 1, DIGEST, OUTPUT) == done
    with pytest.raises(StaleAttempt, match="already published"):
        await ledger.record_failed(role, job, "k", 1, Reason.PUBLISH_FAILED, "late", final=False)
    with pytest.raises(StaleAttempt, match="already published"):
        await ledger.record_rendered(role, job, "k", 1, DIGEST)
    assert await ledger.lookup(role, job, "k") == done


async def test_an_overtaken_attempt_can_write_nothing(ledger: Ledger, role: str) -> None:
    job = new_uid()
    await ledger.claim(role, job, "k", holder="old")
    await ledger.record_rendered(role, job, "k", 1, DIGEST)
    takeover = await ledger.claim(role, job, "k", holder="new")
    assert takeover.attempt == 2
    assert takeover.run.state is RunState.RENDERED  # the intent of the old attempt is not lost
    assert takeover.run.manifest_digest == DIGEST
    assert takeover.previous is not None
    assert takeover.previous.holder == "old"
    for write in (
        ledger.record_rendered(role, job, "k", 1, OTHER),
        ledger.record_published(role, job, "k", 1, DIGEST, OUTPUT),
        ledger.record_failed(role, job, "k", 1, Reason.PUBLISH_FAILED, "late", final=True),
    ):
        with pytest.raises(StaleAttempt, match="attempt 1 was overtaken by attempt 2 of new"):
            await write
    assert await ledger.lookup(role, job, "k") == takeover.run
    for future in (3, 99):
        with pytest.raises(StaleAttempt):
            await ledger.record_rendered(role, job, "k", future, OTHER)
    assert (await ledger.record_published(role, job, "k", 2, DIGEST, OUTPUT)).publications == 1


async def test_only_the_rendered_manifest_can_be_published(ledger: Ledger, role: str) -> None:
    job = new_uid()
    await ledger.claim(role, job, "k", holder="one")
    with pytest.raises(StaleAttempt, match="never its intent"):
        await ledger.record_published(role, job, "k", 1, DIGEST, OUTPUT)  # nothing was rendered
    await ledger.record_rendered(role, job, "k", 1, DIGEST)
    with pytest.raises(StaleAttempt, match="never its intent"):
        await ledger.record_published(role, job, "k", 1, OTHER, OUTPUT)
    run = await ledger.lookup(role, job, "k")
    assert run is not None
    assert (run.state, run.publications) == (RunState.RENDERED, 0)


async def test_failures_are_kept_and_reopened_on_purpose_only(ledger: Ledger, role: str) -> None:
    job = new_uid()
    await ledger.claim(role, job, "k", holder="one")
    message = "api.yaml:3: " + "ü" * 5000 + "\x00"
    failed = await ledger.record_failed(role, job, "k", 1, Reason.TEMPLATE_ERROR, message, final=True)
    assert (failed.state, failed.failure_reason, failed.failure_final) == (RunState.FAILED, "TemplateError", True)
    assert failed.failure_message is not None
    assert failed.failure_message.startswith("api.yaml:3: üü")
    assert await ledger.record_failed(role, job, "k", 1, Reason.TEMPLATE_ERROR, "again", final=True) == failed
    assert not (await ledger.claim(role, job, "k", holder="two")).granted
    assert not (await ledger.claim(role, job, "k", holder="two", reopen=7)).granted
    again = await ledger.claim(role, job, "k", holder="two", reopen=1)
    assert (again.granted, again.attempt, again.run.state) == (True, 2, RunState.CLAIMED)
    assert (again.run.failure_reason, again.run.failed_at) == (None, None)
    assert again.previous == failed


async def test_of_two_who_reopen_a_published_run_one_gets_it(ledger: Ledger, role: str) -> None:
    """Both saw that the output is gone; publishing it again must happen once."""
    job = new_uid()
    await ledger.claim(role, job, "k", holder="one")
    await ledger.record_rendered(role, job, "k", 1, DIGEST)
    await ledger.record_published(role, job, "k", 1, DIGEST, OUTPUT)
    first = await ledger.claim(role, job, "k", holder="a", reopen=1)
    assert (first.granted, first.attempt) == (True, 2)
    await ledger.record_rendered(role, job, "k", 2, DIGEST)
    restored = await ledger.record_published(role, job, "k", 2, DIGEST, OUTPUT)
    assert restored.publications == 2
    second = await ledger.claim(role, job, "k", holder="b", reopen=1)
    assert (second.granted, second.run) == (False, restored)


async def test_claims_at_once_get_different_attempts(unjucks_database: ReadyDatabase, role: str) -> None:
    job = new_uid()
    async with unjucks_database.open() as one, unjucks_database.open() as two:
        claims = await asyncio.gather(
            *(Ledger(database).claim(role, job, "k", holder=f"{n}") for n in range(10) for database in (one, two))
        )
        assert sorted(claim.attempt for claim in claims) == list(range(1, 21))
        results = await asyncio.gather(
            *(Ledger(one).record_rendered(role, job, "k", claim.attempt, DIGEST) for claim in claims),
            return_exceptions=True,
        )
        assert Counter(type(result).__name__ for result in results) == {"Run": 1, "StaleAttempt": 19}


async def test_keys_jobs_and_tenants_are_separate(database: Database, ledger: Ledger, role: str) -> None:
    other_role = (await Tenants(database).ensure(new_uid(), "other")).role
    job, other_job = new_uid(), new_uid()
    for each, uid, key in ((role, job, "k"), (role, job, "k2"), (role, other_job, "k"), (other_role, job, "k")):
        assert (await ledger.claim(each, uid, key, holder="h")).attempt == 1
    assert [run.run_key for run in await ledger.runs(role, job)] == ["k", "k2"]


async def test_nonsense_is_refused(ledger: Ledger, role: str) -> None:
    job = new_uid()
    await ledger.claim(role, job, "k", holder="h")
    with pytest.raises(errors.InvalidSpec, match="not the UID"):
        await ledger.claim(role, "orders", "k", holder="h")
    with pytest.raises(errors.Bug, match="not a manifest digest"):
        await ledger.record_rendered(role, job, "k", 1, "md5:1")
    with pytest.raises(errors.Bug, match="at most 8192"):
        await ledger.record_published(role, job, "k", 1, DIGEST, {"x": "y" * 10_000})
    with pytest.raises(StaleAttempt, match="no such run"):
        await ledger.record_rendered(role, new_uid(), "k", 1, DIGEST)
    for key in ("", "k" * 201):
        with pytest.raises(errors.Bug):
            await ledger.claim(role, job, key, holder="h")


async def test_prune_keeps_what_may_still_be_needed(unjucks_database: ReadyDatabase, ledger: Ledger, role: str) -> None:
    alive, gone, fresh, running = (new_uid() for _ in range(4))
    for job in (alive, gone, fresh, running):
        await ledger.claim(role, job, "k", holder="h")
    for job in (alive, gone, fresh):
        await ledger.record_failed(role, job, "k", 1, Reason.TEMPLATE_ERROR, "x", final=True)
    async with unjucks_database.as_admin() as admin:
        await admin.execute(
            "UPDATE unjucks.generation_run SET created_at = created_at - interval '40 days' WHERE job_uid::text <> $1",
            fresh,
        )
    assert await ledger.prune(role, [alive], older_than=timedelta(days=30)) == 1
    left = [job for job in (alive, gone, fresh, running) if await ledger.lookup(role, job, "k")]
    assert left == [alive, fresh, running]


STEPS = ("claimed", "observed", "rendered", "written", "published")


@pytest.mark.parametrize("crash", STEPS)
@pytest.mark.parametrize("again", [None, *STEPS])
async def test_a_crash_anywhere_publishes_once_and_loses_nothing(
    ledger: Ledger, role: str, crash: str, again: str | None
) -> None:
    """The operator dies after a step; the next one dies too (or not); the third finishes."""
    job, output = new_uid(), Output()

    async def run(die_after: str | None, holder: str) -> None:
        async def step(name: str) -> None:
            if name == die_after:
                raise CrashError

        await publish_once(ledger, role, job, "k", output, holder=holder, digest=DIGEST, step=step)

    for die_after, holder in ((crash, "first"), (again, "second")):
        try:
            await run(die_after, holder)
        except CrashError:
            pass
    await run(None, "third")
    final = await ledger.lookup(role, job, "k")
    assert final is not None
    assert (final.state, final.publications) == (RunState.PUBLISHED, 1)
    assert output.writes == {"k": 1}
    assert final.manifest_digest == output.digest == DIGEST


@pytest.mark.parametrize("seed", range(12))
async def test_overlapping_operators_that_crash_and_stall_publish_each_key_once(
    unjucks_database: ReadyDatabase, role: str, seed: int
) -> None:
    """Four operators reconcile one job whose inputs change once (two keys), stopping and dying at random steps."""
    rng = random.Random(seed)
    job, output = new_uid(), Output()

    async def step(_: str) -> None:
        for _ in range(rng.choice((0, 0, 1, 5, 20))):
            await asyncio.sleep(0.001)
        if rng.random() < 0.15:
            raise CrashError

    async def operator(database: Database, name: str, key: str, digest: str) -> None:
        for number in range(60):
            try:
                await publish_once(
                    Ledger(database), role, job, key, output, holder=f"{name}-{number}", digest=digest, step=step
                )
                return
            except (CrashError, StaleAttempt, ConflictingWriteError):
                continue
        raise AssertionError("this operator never came to an end")

    async with unjucks_database.open() as one, unjucks_database.open() as two:
        for key, digest in (("first", DIGEST), ("second", OTHER)):
            await asyncio.gather(
                *(
                    operator(database, name, key, digest)
                    for database, name in ((one, "a"), (two, "b"), (one, "c"), (two, "d"))
                )
            )
            run = await Ledger(one).lookup(role, job, key)
            assert run is not None
            assert (run.state, run.publications, run.manifest_digest) == (RunState.PUBLISHED, 1, digest)
            assert (output.run_key, output.digest) == (key, digest)
    assert output.writes == {"first": 1, "second": 1}
