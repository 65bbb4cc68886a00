"""Logs: one line for each record, JSON or text, with the fields of the reconcile that it belongs to, and never a secret.

``bound(kind=..., name=...)`` adds fields to every record made inside the block, in this task and in those it starts. A value
that was given to ``Secrets.add`` is printed as ``[redacted]`` wherever it turns up: messages, arguments, fields, tracebacks.

Must not: open files, start threads, or configure anything on import. Called by ``__main__`` (``setup``), the runner (``bound``)
and by whoever comes to hold a secret (``Secrets.add``).
"""

import base64
import logging
import re
import sys
import urllib.parse
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any, TextIO

import orjson

REDACTED = "[redacted]"
SHORTEST_SECRET = 4
"""Shorter values are not hidden: they would blank out half of every line, and a secret that short is none."""

_fields: ContextVar[Mapping[str, Any]] = ContextVar("log_fields", default={})  # noqa: B039  never written to
_STANDARD = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}


@contextmanager
def bound(**fields: Any) -> Iterator[None]:
    """Add fields to the records made inside the block; None values are left out."""
    merged = {**_fields.get(), **{name: value for name, value in fields.items() if value is not None}}
    token = _fields.set(merged)
    try:
        yield
    finally:
        _fields.reset(token)


def bound_fields() -> Mapping[str, Any]:
    """The fields that records get here and now."""
    return _fields.get()


class Secrets:
    """The values that must not be printed, in the spellings in which they might be: plain, base64, percent-encoded."""

    def __init__(self) -> None:
        self._spellings: dict[str, set[str]] = {}
        self._pattern: re.Pattern[str] | None = None

    def add(self, value: str | bytes) -> None:
        """Hide this value from now on. Values shorter than ``SHORTEST_SECRET`` characters are not hidden."""
        text = value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else value
        if len(text) < SHORTEST_SECRET or text in self._spellings:
            return
        raw = text.encode("utf-8", "surrogateescape")
        encoded = base64.b64encode(raw).decode()
        spellings = {
            text,
            encoded,
            encoded.rstrip("="),
            urllib.parse.quote(raw, safe=""),
            urllib.parse.quote_plus(raw),
            repr(text)[1:-1],
            orjson.dumps(text.encode("utf-8", "replace").decode())[1:-1].decode(),
        }
        if "\n" in text.strip():  # a PEM file: its lines turn up one by one
            spellings.update(
                line.strip() for line in text.splitlines() if len(line.strip()) >= 16 and "-----" not in line
            )
        self._spellings[text] = {spelling for spelling in spellings if len(spelling) >= SHORTEST_SECRET}
        self._pattern = None

    def discard(self, value: str) -> None:
        """The value is no secret any more (rotated away)."""
        if self._spellings.pop(value, None) is not None:
            self._pattern = None

    def redact(self, text: str) -> str:
        """The text without the secrets."""
        if not self._spellings:
            return text
        if self._pattern is None:
            known = {spelling for spellings in self._spellings.values() for spelling in spellings}
            longest_first = sorted(known, key=len, reverse=True)
            self._pattern = re.compile("|".join(re.escape(spelling) for spelling in longest_first))
        return self._pattern.sub(REDACTED, text)

    def redact_value(self, value: Any) -> Any:
        """The same inside of lists and mappings; what is no JSON value becomes its text."""
        match value:
            case None | bool() | int() | float():
                return value
            case str():
                return self.redact(value)
            case Mapping():
                return {self.redact(str(name)): self.redact_value(item) for name, item in value.items()}
            case list() | tuple() | set() | frozenset():
                return [self.redact_value(item) for item in value]
            case _:
                return self.redact(str(value))


def _time_of(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _extra_of(record: logging.LogRecord) -> dict[str, Any]:
    extra = {
        name: value for name, value in record.__dict__.items() if name not in _STANDARD and not name.startswith("_")
    }
    # kopf puts the object and its settings into its records: whole bodies do not belong into a log.
    for name in ("k8s_ref", "k8s_skip", "settings"):
        extra.pop(name, None)
    return {**bound_fields(), **extra}


class JsonFormatter(logging.Formatter):
    """``{"ts":…,"level":…,"logger":…,"msg":…, fields…, "exception":…}`` on one line."""

    def __init__(self, secrets: Secrets) -> None:
        super().__init__()
        self._secrets = secrets

    def format(self, record: logging.LogRecord) -> str:
        """See ``logging.Formatter``."""
        entry: dict[str, Any] = {
            "ts": _time_of(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "msg": record.getMessage(),
        }
        for name, value in _extra_of(record).items():
            entry.setdefault(name, value)
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        if record.stack_info:
            entry["stack"] = record.stack_info
        clean = self._secrets.redact_value(entry)
        try:
            return orjson.dumps(clean).decode()
        except (TypeError, ValueError):  # a half surrogate or a huge integer in a message: the line must still come out
            return orjson.dumps({name: ascii(value) for name, value in clean.items()}).decode()


class TextFormatter(logging.Formatter):
    """For people: time, level, message, fields as ``name=value``, traceback below."""

    def __init__(self, secrets: Secrets) -> None:
        super().__init__()
        self._secrets = secrets

    def format(self, record: logging.LogRecord) -> str:
        """See ``logging.Formatter``."""
        fields = "".join(f" {name}={value}" for name, value in _extra_of(record).items())
        line = f"{_time_of(record)} {record.levelname:<7} {record.name}: {record.getMessage()}{fields}"
        if record.exc_info:
            line += "\n" + self.formatException(record.exc_info)
        if record.stack_info:
            line += "\n" + record.stack_info
        return self._secrets.redact(line)


class _SupervisedErrors(logging.Filter):
    """kopf reports the end of its watches as errors, twice, with tracebacks; we supervise them, start them again and say so.

    What it says is kept as a warning of one line. When one of its requests is cancelled before the answer began, a callback of
    kopf's (1.45) trips over an assertion of its own, without effect; asyncio reports that with a traceback, which is dropped.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """See ``logging.Filter``."""
        if record.name.startswith("kopf.") and record.levelno >= logging.ERROR:
            record.levelno, record.levelname = logging.WARNING, "WARNING"
            record.exc_info = record.exc_text = None
        return not (record.name == "asyncio" and "request_cancel_callback" in record.getMessage())


class LogControl:
    """The level of the running process, which can change without a restart."""

    def __init__(self, level: int) -> None:
        self._configured = level

    @property
    def level(self) -> int:
        """The level in force."""
        return logging.getLogger().level

    def toggle_debug(self) -> int:
        """Between DEBUG and the configured level (on SIGUSR1). Returns the new level."""
        new = self._configured if self.level == logging.DEBUG else logging.DEBUG
        self._apply(new)
        logging.getLogger(__name__).warning("The log level is now %s.", logging.getLevelName(new))
        return new

    def _apply(self, level: int) -> None:
        logging.getLogger().setLevel(level)
        # kopf narrates each watch event; its own debug output is wanted only with ours.
        logging.getLogger("kopf").setLevel(level if level <= logging.DEBUG else max(level, logging.WARNING))


def setup(*, level: str = "INFO", fmt: str = "json", secrets: Secrets, stream: TextIO | None = None) -> LogControl:
    """Send all records of the process, kopf's and aiohttp's too, to ``stream`` (standard error). Replaces earlier handlers."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.addFilter(_SupervisedErrors())
    handler.setFormatter(JsonFormatter(secrets) if fmt == "json" else TextFormatter(secrets))
    root = logging.getLogger()
    for old in list(root.handlers):
        root.removeHandler(old)
    root.addHandler(handler)
    control = LogControl(logging.getLevelNamesMapping()[level.upper()])
    control._apply(control._configured)
    logging.getLogger("aiohttp.access").setLevel(logging.ERROR)
    logging.captureWarnings(True)
    return control
