"""Logs: fields, formats, levels that change while running, and secrets that never come out."""

import base64
import io
import json
import logging
import urllib.parse
from collections.abc import Iterator

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from unjucks_operator.engine import logs

SECRET = 'p4$$"w\\ord/+='


@pytest.fixture
def stream() -> io.StringIO:
    return io.StringIO()


@pytest.fixture(autouse=True)
def _restore() -> Iterator[None]:
    """Put the process's logging back as pytest has it."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    levels = {name: logging.getLogger(name).level for name in ("kopf", "aiohttp.access")}
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    for name, value in levels.items():
        logging.getLogger(name).setLevel(value)
    logging.captureWarnings(False)


def entries(stream: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_record_is_one_line_of_json_with_the_bound_fields(stream: io.StringIO) -> None:
    logs.setup(secrets=logs.Secrets(), stream=stream)
    with logs.bound(kind="Tenant", name="acme", namespace=None), logs.bound(reconcile_id="abc"):
        logging.getLogger("x").info("two\nlines and %s", "an argument", extra={"duration_ms": 1.5})
    logging.getLogger("x").info("outside")
    first, second = entries(stream)
    assert first["msg"] == "two\nlines and an argument"
    assert (first["kind"], first["name"], first["reconcile_id"], first["duration_ms"]) == ("Tenant", "acme", "abc", 1.5)
    assert "namespace" not in first
    assert (first["level"], first["logger"]) == ("info", "x")
    assert str(first["ts"]).endswith("Z")
    assert "kind" not in second


def test_a_traceback_is_a_field(stream: io.StringIO) -> None:
    logs.setup(secrets=logs.Secrets(), stream=stream)
    try:
        raise ValueError("boom")
    except ValueError:
        logging.getLogger("x").exception("it failed")
    (entry,) = entries(stream)
    assert "ValueError: boom" in str(entry["exception"])


def test_odd_values_do_not_lose_the_line(stream: io.StringIO) -> None:
    logs.setup(secrets=logs.Secrets(), stream=stream)
    logging.getLogger("x").info("half a pair: %s", "\ud800", extra={"big": 2**100, "thing": object(), "set": {1}})
    (entry,) = entries(stream)
    assert "half a pair" in str(entry["msg"])


def test_text_is_for_people(stream: io.StringIO) -> None:
    logs.setup(fmt="text", secrets=logs.Secrets(), stream=stream)
    with logs.bound(kind="Tenant"):
        logging.getLogger("x").warning("hello")
    assert "WARNING x: hello kind=Tenant" in stream.getvalue()


@pytest.mark.parametrize("fmt", ["json", "text"])
def test_a_secret_is_hidden_wherever_it_turns_up(stream: io.StringIO, fmt: str) -> None:
    secrets = logs.Secrets()
    secrets.add(SECRET)
    logs.setup(fmt=fmt, secrets=secrets, stream=stream)
    log = logging.getLogger("x")
    log.info("message %s", SECRET)
    log.info("base64 %s", base64.b64encode(SECRET.encode()).decode())
    log.info("in a URL %s", "postgres://u:" + urllib.parse.quote(SECRET, safe="") + "@h")
    log.info("field", extra={"field": {"inner": [SECRET]}, SECRET: 1})
    log.info("repr %r", {"password": SECRET})
    log.info("in JSON %s", json.dumps({"password": SECRET}))
    try:
        raise ValueError(SECRET)
    except ValueError:
        log.exception("traceback")
    text = stream.getvalue()
    assert text.count(logs.REDACTED) >= 7
    for line in text.splitlines():
        shown = line if fmt == "text" else json.dumps(json.loads(line), ensure_ascii=False)
        assert "p4$$" not in shown


def test_each_line_of_a_key_file_is_hidden(stream: io.StringIO) -> None:
    secrets = logs.Secrets()
    key = "-----BEGIN PRIVATE KEY-----\nMIGHAgEAMBMGByqGSM49AgEGCCqGSM49\nAwEHBG0wawIBAQQg\n-----END PRIVATE KEY-----\n"
    secrets.add(key)
    assert secrets.redact("found MIGHAgEAMBMGByqGSM49AgEGCCqGSM49 there") == "found [redacted] there"
    assert "BEGIN PRIVATE KEY" in secrets.redact("-----BEGIN PRIVATE KEY----- is no secret")


def test_a_secret_that_was_rotated_away_is_no_secret() -> None:
    secrets = logs.Secrets()
    secrets.add("old-password")
    secrets.add("new-password")
    secrets.discard("old-password")
    assert secrets.redact("old-password new-password") == "old-password [redacted]"


def test_short_values_are_not_hidden() -> None:
    secrets = logs.Secrets()
    secrets.add("abc")
    secrets.add(b"")
    assert secrets.redact("abcdef") == "abcdef"


@given(st.text(min_size=4, max_size=30), st.text("0123456789 ", max_size=40), st.text("0123456789 ", max_size=40))
def test_no_surroundings_let_a_secret_through(secret: str, before: str, after: str) -> None:
    assume(not any("\ud800" <= char <= "\udfff" for char in secret))
    assume(not any(char in "0123456789 " for char in secret))
    secrets = logs.Secrets()
    secrets.add(secret)
    assert secrets.redact(before + secret + after) == before + logs.REDACTED + after


def test_the_level_changes_while_running(stream: io.StringIO) -> None:
    control = logs.setup(level="WARNING", secrets=logs.Secrets(), stream=stream)
    log = logging.getLogger("x")
    log.info("dropped")
    assert control.toggle_debug() == logging.DEBUG
    log.debug("shown")
    assert control.toggle_debug() == logging.WARNING
    log.info("dropped again")
    messages = [entry["msg"] for entry in entries(stream)]
    assert messages == ["The log level is now DEBUG.", "shown", "The log level is now WARNING."]


def test_kopf_reports_as_warnings_without_tracebacks_what_we_supervise(stream: io.StringIO) -> None:
    logs.setup(level="INFO", secrets=logs.Secrets(), stream=stream)
    log = logging.getLogger("kopf._core.reactor.orchestration")
    log.info("narrates")
    try:
        raise RuntimeError("watch broke")
    except RuntimeError:
        log.exception("Watcher has failed")
    (entry,) = entries(stream)
    assert entry["level"] == "warning"
    assert "exception" not in entry


def test_setting_up_twice_writes_each_line_once(stream: io.StringIO) -> None:
    logs.setup(secrets=logs.Secrets(), stream=stream)
    logs.setup(secrets=logs.Secrets(), stream=stream)
    logging.getLogger("x").info("once")
    assert len(entries(stream)) == 1
