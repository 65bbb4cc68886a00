"""Looks through files: ``scan`` finds, ``redact`` takes out what was found. Bounded in bytes, findings and time; pure otherwise.

What was not looked at is said, never passed over: ``Scan.complete`` is false then, and who blocks findings has to block that too.
A finding never holds the data itself. Called by the renderer's tasks and by the command line.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from unjucks_api.render_protocol import Problem
from unjucks_runtime.dlp.detectors import DETECTORS, Detector, after_word

MAX_FILE_BYTES = 8 * 1024 * 1024
MAX_FINDINGS = 100
"""Most findings that are told; all are counted and redacted."""
_CANDIDATES_BETWEEN_LOOKS = 256


@dataclass(frozen=True, slots=True)
class Finding:
    """Where something sensitive stands. ``length`` in bytes; line and column count from 1, the column in bytes."""

    path: str
    line: int
    column: int
    detector: str
    length: int

    def __str__(self) -> str:
        """As people read it."""
        return f"{self.path}:{self.line}:{self.column}: {self.detector} ({self.length} characters, not shown)"


@dataclass(frozen=True, slots=True)
class Scan:
    """What was found. ``total`` counts also those that ``findings`` does not list; ``skipped`` names files not looked at whole."""

    findings: tuple[Finding, ...] = ()
    total: int = 0
    skipped: tuple[str, ...] = ()

    @property
    def complete(self) -> bool:
        """Whether every byte was looked at."""
        return not self.skipped


@dataclass(frozen=True, slots=True)
class _Span:
    start: int
    end: int
    detector: str


class OutOfBudgetError(Exception):
    """The file is too large, or the time for looking is over."""


def scan(
    files: Iterable[tuple[str, bytes]], *, clock: Callable[[], float], seconds: float, max_bytes: int = MAX_FILE_BYTES
) -> Scan:
    """Look through the files, for at most ``seconds`` by ``clock``. Files that are too large or too late are ``skipped``."""
    return redact(files, clock=clock, seconds=seconds, max_bytes=max_bytes)[1]


def redact(
    files: Iterable[tuple[str, bytes]], *, clock: Callable[[], float], seconds: float, max_bytes: int = MAX_FILE_BYTES
) -> tuple[dict[str, bytes], Scan]:
    """As ``scan``; also the files in which something was found, with ``[REDACTED:<detector>]`` in its place."""
    end = clock() + seconds
    changed: dict[str, bytes] = {}
    findings: list[Finding] = []
    skipped: list[str] = []
    total = 0
    for path, content in files:
        try:
            if len(content) > max_bytes:
                raise OutOfBudgetError
            spans = _spans(content, clock, end)
        except OutOfBudgetError:
            skipped.append(path)
            continue
        if spans:
            total += len(spans)
            findings.extend(_findings(path, content, spans[: MAX_FINDINGS - len(findings)]))
            changed[path] = _without(content, spans)
    return changed, Scan(tuple(findings), total, tuple(skipped))


def problems_in(
    files: Iterable[tuple[str, bytes]], *, severity: str, clock: Callable[[], float], seconds: float
) -> list[Problem]:
    """What templates hold that does not belong there, as problems of a set. It cannot be taken out, only told or refused."""
    found = scan(files, clock=clock, seconds=seconds)
    problems = [
        Problem(
            path=it.path,
            line=it.line,
            column=it.column,
            message=f"holds sensitive data: {it.detector}; take it out and give it as a variable from a Secret",
            severity=severity,
        )
        for it in found.findings
    ]
    too_large = "too large to be searched for sensitive data"
    return problems + [Problem(path=path, message=too_large, severity=severity) for path in found.skipped]


def _without(content: bytes, spans: Iterable[_Span]) -> bytes:
    pieces, position = [], 0
    for span in spans:
        pieces += [content[position : span.start], f"[REDACTED:{span.detector}]".encode()]
        position = span.end
    return b"".join((*pieces, content[position:]))


def _spans(content: bytes, clock: Callable[[], float], end: float) -> list[_Span]:
    """Places in order, none inside another; of two that overlap the one of the earlier detector stays."""
    found: list[_Span] = []
    for detector in DETECTORS:
        if clock() > end:
            raise OutOfBudgetError
        found.extend(_places(detector, content, clock, end))
    order = {detector.name: number for number, detector in enumerate(DETECTORS)}
    kept: list[_Span] = []
    for span in sorted(found, key=lambda it: (it.start, order[it.detector])):
        if kept and span.start < kept[-1].end:
            if order[span.detector] < order[kept[-1].detector] and span.end >= kept[-1].end:
                kept[-1] = _Span(kept[-1].start, span.end, span.detector)
            else:
                kept[-1] = _Span(kept[-1].start, max(span.end, kept[-1].end), kept[-1].detector)
            continue
        kept.append(span)
    return kept


def _places(detector: Detector, content: bytes, clock: Callable[[], float], end: float) -> Iterable[_Span]:
    if detector.hint not in content:
        return
    position, candidates = 0, 0
    while (match := detector.pattern.search(content, position)) is not None:
        candidates += 1
        if candidates % _CANDIDATES_BETWEEN_LOOKS == 0 and clock() > end:
            raise OutOfBudgetError
        start, stop = match.span(detector.group if detector.group >= 0 else match.lastindex)
        if detector.until:
            behind = content.find(detector.until, stop)
            stop = behind + len(detector.until) if behind >= 0 else stop
        if detector.accepts(content, start, stop):
            yield _Span(start, stop, detector.name)
            position = stop
        else:
            # What begins in the next word may be one; what begins inside this word cannot.
            position = after_word(content, match.start())


def _findings(path: str, content: bytes, spans: Iterable[_Span]) -> Iterable[Finding]:
    line, counted = 1, 0
    for span in spans:
        line += content.count(b"\n", counted, span.start)
        counted = span.start
        column = span.start - content.rfind(b"\n", 0, span.start)
        yield Finding(path, line, column, span.detector, span.end - span.start)
