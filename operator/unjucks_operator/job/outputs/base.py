"""The one protocol of outputs. ``job.execute`` follows it, in the order that ``database.ledger`` explains:

    observe   after the claim: what is there now, with the version that the later compare-and-set names
    prepare   pure: what would be written, and the digest under which the ledger records the intent
    publish   one compare-and-set on the observed version; run key and manifest digest go into the output itself

An output writes the files that are in it afterwards, and takes away those with the action ``removed``. A place that the job has
for itself (a ConfigMap, a Secret, an OCI artifact) holds exactly these files afterwards; a shared one (a Git branch, a bucket, a
volume) keeps every file that is not named.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from unjucks_operator.job.outputs.files import File
from unjucks_operator.job.outputs.target import Target


@dataclass(frozen=True, slots=True)
class Found:
    """What an output holds. ``run_key`` and ``manifest_digest`` are those of the run that wrote it last, empty when none did."""

    version: str
    """What the compare-and-set names: a resource version, a commit, an entity tag."""
    uid: str = ""
    run_key: str = ""
    manifest_digest: str = ""
    engine: str = ""
    last: str = ""
    """Digest of the stored tree of what the templates gave in that run, as its manifest says."""
    files: tuple[File, ...] = ()
    """The files that its manifest lists and that are there, with the bytes that they have now."""
    manifest: Mapping[str, str] = field(default_factory=dict)
    """Path to the sha256 that an earlier run wrote. Another digest in ``files`` is an edit by hand, a missing path a deletion."""
    others: tuple[File, ...] = ()
    """Files of a shared place that no run of this job wrote, as far as they were read: what templates may inject into."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """For ``status.output``: revision, url, pullRequest."""
    provenance: Mapping[str, str] = field(default_factory=dict)
    """For ``status.provenance``: of the statement that lies there."""
    raw: Any = None
    """The output's own memory of what it saw."""

    def holds(self, digest: str | None) -> bool:
        """Whether it says that it is this manifest's."""
        return bool(digest) and self.manifest_digest == digest


@dataclass(frozen=True, slots=True)
class Result:
    """What a run made."""

    run_key: str
    generator: str
    action: str
    tree: str
    engine: str
    files: Sequence[File]
    last: str = ""
    """For the manifest: digest of the stored tree of what the templates gave."""
    time: int = 0
    """Seconds since 1970 at which the run was first claimed: the same in every attempt."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """What would be written."""

    digest: str
    """``sha256:`` of ``manifest.json``."""
    raw: Any = None
    provenance: Mapping[str, str] = field(default_factory=dict)
    """For ``status.provenance``; empty when the job wants none."""


@dataclass(frozen=True, slots=True)
class Published:
    """What came of it. ``written`` False: it was there already. ``uid`` identifies the output for the ledger."""

    uid: str
    written: bool
    facts: Mapping[str, Any] = field(default_factory=dict)
    """For ``status.output``: revision, url, pullRequest."""


class Output(Protocol):
    """One place of one job."""

    @property
    def target(self) -> Target:
        """What it is, for status and messages."""

    async def observe(self) -> Found | None:
        """What is there; None when nothing is. Raises Terminal (NotOwned) when it is not this job's."""

    def prepare(self, result: Result) -> Prepared:
        """What would be written. Pure. Raises Terminal when these files cannot go there."""

    async def publish(self, prepared: Prepared, found: Found | None) -> Published:
        """Write it unless it is there. Raises Conflict when the place changed since ``found`` was observed."""

    async def complete(self, found: Found) -> Published:
        """What comes after the write, when an earlier attempt of this run wrote ``found`` and died before it could say so."""
