"""Lines out of chunks, and errors out of refusals, without a network."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unjucks_api.reasons import Reason
from unjucks_operator import errors
from unjucks_operator.kube.api import Gone, NotFound
from unjucks_operator.kube.failures import Call, Refusal, to_error
from unjucks_operator.kube.resources import CONFIG_MAP, NAMESPACE, POD, SECRET
from unjucks_operator.kube.transport import LineBuffer, query_string

POD_CALL = Call("create", POD, "n", "p")


@given(
    lines=st.lists(st.binary(min_size=1, max_size=20).map(lambda raw: raw.replace(b"\n", b"x")), max_size=8),
    sizes=st.lists(st.integers(1, 9), min_size=1),
)
def test_lines_arrive_whole_however_they_are_cut(lines: list[bytes], sizes: list[int]) -> None:
    stream = b"".join(line + b"\n" for line in lines) + b"unfinished"
    buffer, found, position, turn = LineBuffer(), [], 0, 0
    while position < len(stream):
        size = sizes[turn % len(sizes)]
        found += buffer.feed(stream[position : position + size])
        position, turn = position + size, turn + 1
    assert found == lines


def test_an_endless_line_is_refused() -> None:
    buffer = LineBuffer(longest=10)
    assert buffer.feed(b"123456789") == []
    with pytest.raises(errors.Unavailable, match="more than 10 bytes"):
        buffer.feed(b"0123")


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (400, errors.InvalidSpec),
        (401, errors.Unavailable),
        (403, errors.NotPermitted),
        (404, NotFound),
        (409, errors.Conflict),
        (410, Gone),
        (413, errors.InvalidSpec),
        (415, errors.InvalidSpec),
        (422, errors.InvalidSpec),
        (429, errors.Throttled),
        (500, errors.Unavailable),
        (504, errors.Unavailable),
        (302, errors.Unavailable),
    ],
)
def test_every_code_has_its_error(code: int, kind: type[errors.OperatorError]) -> None:
    refusal = Refusal.parse(code, json.dumps({"message": "because"}).encode(), "7")
    error = to_error(POD_CALL, refusal)
    assert type(error) is kind
    assert error.message.startswith("create Pod n/p: ")
    assert f"HTTP {code}" in error.message
    if isinstance(error, errors.Throttled | errors.Unavailable) and code != 401:
        assert error.after == 7.0


def test_a_terminating_namespace_and_a_full_quota_are_waited_for() -> None:
    body = {"message": "is being terminated", "details": {"causes": [{"reason": "NamespaceTerminating"}]}}
    terminating = to_error(POD_CALL, Refusal.parse(403, json.dumps(body).encode()))
    assert isinstance(terminating, errors.Waiting)
    assert terminating.reason is Reason.NAMESPACE_TERMINATING
    full = to_error(POD_CALL, Refusal.parse(403, b'{"message": "pods x is forbidden: exceeded quota: q"}'))
    assert isinstance(full, errors.Waiting)
    assert full.reason is Reason.LIMIT_EXCEEDED


def test_a_secrets_values_are_not_repeated() -> None:
    message = 'Secret "x" is invalid: data[k]: Invalid value: "hunter2": no'
    body = json.dumps({"reason": "Invalid", "message": message}).encode()
    hidden = to_error(Call("create", SECRET, "n", "x"), Refusal.parse(422, body)).message
    assert "hunter2" not in hidden
    assert hidden.startswith("create Secret n/x: Invalid;")
    assert "hunter2" in to_error(Call("create", CONFIG_MAP, "n", "x"), Refusal.parse(422, body)).message


def test_long_explanations_are_cut() -> None:
    body = json.dumps({"message": "word\n" * 10_000}).encode()
    assert len(to_error(POD_CALL, Refusal.parse(422, body)).message) < 700


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (Call("list", POD), "list pods"),
        (Call("list", POD, "n"), "list pods in n"),
        (Call("get", NAMESPACE, None, "n"), "get Namespace n"),
        (Call("update", POD, "n", "p", "status"), "update Pod n/p (status)"),
    ],
)
def test_calls_read_well(call: Call, text: str) -> None:
    assert str(call) == text


def test_query_strings_are_encoded() -> None:
    assert query_string({"labelSelector": "a=b,c in (d,e)", "limit": None, "x": ""}) == (
        "?labelSelector=a%3Db%2Cc%20in%20%28d%2Ce%29"
    )
    assert query_string({}) == ""
