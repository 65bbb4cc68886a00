"""A publisher that follows the ledger's protocol step by step, and an output that can only be changed by compare-and-set.

The output stands for a Kubernetes object (``version`` for its resourceVersion): the ledger's tests need thousands of
interleavings with crashes between any two steps, more than an API server on two cores gives; the real one is in the tests of the
job controller. Everything on the ledger's side is real. Each step calls ``step``, where a test may crash or wait.
"""

from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from unjucks_operator.database.ledger import Ledger, Run, RunState


class ConflictingWriteError(Exception):
    """Somebody else changed the output since it was observed."""


class CrashError(BaseException):
    """The operator dies here."""


@dataclass
class Output:
    """What users see. ``writes`` counts effective publications by run key: each must be 1 in the end."""

    version: int = 0
    run_key: str = ""
    digest: str = ""
    writes: Counter[str] = field(default_factory=Counter)

    def write(self, expected_version: int, run_key: str, digest: str) -> int:
        if expected_version != self.version:
            raise ConflictingWriteError
        self.version += 1
        self.run_key, self.digest = run_key, digest
        self.writes[run_key] += 1
        return self.version


Step = Callable[[str], Awaitable[None]]


async def publish_once(
    ledger: Ledger, role: str, job_uid: str, run_key: str, output: Output, *, holder: str, digest: str, step: Step
) -> Run:
    """One reconcile of a job: the five steps of the ledger's protocol."""
    claim = await ledger.claim(role, job_uid, run_key, holder=holder)
    await step("claimed")
    if not claim.granted:
        assert claim.run.state is RunState.PUBLISHED
        return claim.run
    version, published_key, published_digest = output.version, output.run_key, output.digest
    await step("observed")
    if claim.run.state is RunState.RENDERED and (published_key, published_digest) == (
        run_key,
        claim.run.manifest_digest,
    ):
        done = published_digest
    else:
        await ledger.record_rendered(role, job_uid, run_key, claim.attempt, digest)
        await step("rendered")
        output.write(version, run_key, digest)
        await step("written")
        done = digest
    run = await ledger.record_published(role, job_uid, run_key, claim.attempt, done, {"version": output.version})
    await step("published")
    return run
