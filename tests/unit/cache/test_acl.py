"""Rules of a tenant's user at Redis, and the comparison with what a server prints; addresses of servers."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unjucks_api import names
from unjucks_operator.cache.acl import (
    ALLOWED,
    COMMAND_RULES,
    Seen,
    differences,
    is_tenant,
    may_have_been_misused,
    parse_line,
    rules,
)
from unjucks_operator.cache.addresses import parse_addresses, tenant_urls
from unjucks_operator.errors import InvalidSpec

UID = "33333333-cccc-4ccc-8ccc-000000000003"
HASH = hashlib.sha256(b"x").hexdigest()
PREFIX = names.cache_prefix(UID)
WORDS = "-@all +@string"
RIGHT = f"user {names.cache_user(UID)} on sanitize-payload #{HASH} ~{PREFIX}* resetchannels &{PREFIX}* {WORDS}"


def test_a_right_line_has_no_difference() -> None:
    name, seen = parse_line(RIGHT)
    assert name == names.cache_user(UID)
    assert differences(UID, frozenset({HASH}), seen, WORDS) == ()


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ((" on ", " off "), "flags"),
        ((" on ", " on nopass "), "flags"),
        ((f"#{HASH}", f"#{HASH} #{'b' * 64}"), "password too much"),
        ((f"#{HASH}", ""), "password missing"),
        ((f"~{PREFIX}*", "~*"), "keys"),
        ((f"~{PREFIX}*", f"~{PREFIX}* %R~*"), "keys"),
        ((f"&{PREFIX}*", "&*"), "channels"),
        (("+@string", "+@string +keys"), "commands"),
        (("+@string", "+@string (~* +get)"), "selectors"),
    ],
)
def test_each_difference_is_seen(change: tuple[str, str], found: str) -> None:
    assert change[0] in RIGHT
    _, seen = parse_line(RIGHT.replace(*change))
    assert found in differences(UID, frozenset({HASH}), seen, WORDS)


@pytest.mark.parametrize("line", ["", "user", "default on nopass", "user "])
def test_what_is_no_line_is_refused(line: str) -> None:
    with pytest.raises(ValueError, match="ACL LIST"):
        parse_line(line)


@pytest.mark.parametrize(
    ("line", "is_open"),
    [
        ("user default on nopass ~* &* +@all", True),
        ("user default on nopass sanitize-payload resetchannels -@all +info", True),
        ("user default on nopass sanitize-payload resetchannels -@all +ping", False),
        ("user default on nopass sanitize-payload resetchannels -@all", False),
        ("user default off nopass ~* &* +@all", False),
        (f"user default on #{HASH} ~* &* +@all", False),
    ],
)
def test_who_can_be_anybody_is_told(line: str, is_open: bool) -> None:
    assert parse_line(line)[1].open is is_open


def test_the_rules_reset_first_and_never_allow_without_a_password() -> None:
    made = rules(UID, frozenset())
    assert made[0] == "reset"
    assert "off" in made
    assert "nopass" not in made
    assert made.index("resetchannels") > made.index("reset")
    assert COMMAND_RULES[0] == "-@all"
    assert not [rule for rule in COMMAND_RULES[1:] if "@" in rule], "commands one by one, no categories"


def test_nothing_dangerous_is_on_the_list() -> None:
    forbidden = (
        "keys scan randomkey dbsize info select move copy swapdb migrate dump restore eval evalsha fcall function script sort "
        "sort_ro acl config debug module monitor client client|list client|tracking client|kill cluster shutdown flushall flushdb "
        "replicaof slowlog latency pubsub object memory wait save pfmerge auth hello reset"
    )
    assert ALLOWED.isdisjoint(forbidden.split())


@given(st.text(max_size=80), st.text(max_size=80))
def test_no_tenant_is_a_prefix_of_another(one: str, two: str) -> None:
    if one != two:
        assert not names.cache_prefix(one).startswith(names.cache_prefix(two))
    assert is_tenant(names.cache_user(one))
    assert names.cache_user(one).startswith(names.database_role(one))
    assert ":" not in names.cache_user(one)


def test_sessions_end_only_when_somebody_may_have_misused_them() -> None:
    right = parse_line(RIGHT)[1]
    both = frozenset({HASH, "b" * 64})
    assert not may_have_been_misused(("missing",), None, both)
    assert not may_have_been_misused(differences(UID, both, right, WORDS), right, both), "one is added"
    assert may_have_been_misused(differences(UID, frozenset(), right, WORDS), right, frozenset()), "one is taken"
    off = Seen(frozenset({"off", "sanitize-payload"}), frozenset(), right.keys, right.channels, WORDS)
    assert not may_have_been_misused(differences(UID, both, off, WORDS), off, both), "it is switched on"


def test_addresses_and_what_they_are_for() -> None:
    text = "cache=redis://:pw@one:1\n queue=rediss://u:pw@[::1]:2/0\tredis://three"
    one, two, three = parse_addresses(text)
    assert (one.place, one.purposes) == ("one:1", ("cache",))
    assert (two.place, two.scheme, two.purposes) == ("[::1]:2", "rediss", ("queue",))
    assert (three.place, three.purposes) == ("three:6379", ("cache", "queue"))
    assert "pw" not in repr((one, two, three))
    assert tenant_urls((one, two, three), "user", "secret") == {
        "cache-url": "redis://user:secret@one:1/0",
        "queue-url": "rediss://user:secret@[::1]:2/0",
    }
    assert parse_addresses(" \n") == ()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("redis.data:6379", "no address"),
        ("http://:hidden@host", "no address"),
        ("redis://:hidden@host:port", "no address"),
        ("redis://:hidden@host/1", "database 0"),
        ("sessions=redis://:hidden@host", "no purpose"),
        ("redis://:hidden@host redis://:hidden@host:6379", "twice"),
    ],
)
def test_an_address_that_cannot_be_used_is_named_without_its_password(text: str, words: str) -> None:
    with pytest.raises(InvalidSpec, match=words) as caught:
        parse_addresses(text)
    assert "hidden" not in caught.value.message
