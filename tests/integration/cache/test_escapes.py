"""A tenant at Redis tries to get out: real commands, with a real login, at a real server. Each refusal has a control beside it."""

import asyncio
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from redis import Redis
from redis.exceptions import NoPermissionError, RedisError, ResponseError

from support.redis_server import RedisServer
from unjucks_api import names
from unjucks_operator.cache.acl import ALLOWED
from unjucks_operator.cache.addresses import parse_addresses
from unjucks_operator.cache.server import Server
from unjucks_operator.cache.users import CacheUsers

pytestmark = pytest.mark.integration

UID_A, UID_B = "11111111-aaaa-4aaa-8aaa-000000000001", "22222222-bbbb-4bbb-8bbb-000000000002"
OWN, OTHER = names.cache_prefix(UID_A), names.cache_prefix(UID_B)
PASSWORDS = {UID_A: "password of a", UID_B: "password of b"}


def digest(password: str) -> str:
    return hashlib.sha256(password.encode()).hexdigest()


async def make_users(redis_server: RedisServer) -> None:
    users = CacheUsers([Server(address) for address in parse_addresses(redis_server.url)])
    for uid, password in PASSWORDS.items():
        await users.ensure(uid, frozenset({digest(password)}))
    await users.close()


@dataclass
class Both:
    """Tenant A's session, and the administrator's."""

    server: RedisServer
    a: Redis
    admin: Redis

    def do(self, *command: Any) -> Any:
        """A command of tenant A."""
        return self.a.execute_command(*command)  # type: ignore[no-untyped-call]

    def refused(self, *command: Any) -> str:
        """The same, which must be refused for want of a right, and not for its form."""
        with pytest.raises(RedisError) as caught:
            self.do(*command)
        assert isinstance(caught.value, NoPermissionError) or "NOPERM" in str(caught.value), (command, caught.value)
        return str(caught.value)


@pytest.fixture(scope="module")
def prepared(redis_server: RedisServer) -> RedisServer:
    asyncio.run(make_users(redis_server))
    return redis_server


@pytest.fixture
def both(prepared: RedisServer) -> Iterator[Both]:
    with prepared.client(names.cache_user(UID_A), PASSWORDS[UID_A]) as a, prepared.client() as admin:
        admin.flushall()
        admin.set(f"{OTHER}secret", "belongs to b")
        admin.rpush(f"{OTHER}list", "x", "y")
        admin.xadd(f"{OTHER}stream", {"k": "v"})
        admin.zadd(f"{OTHER}zset", {"m": 1})
        admin.set("platform", "of nobody")
        a.set(f"{OWN}mine", "belongs to a")
        yield Both(prepared, a, admin)


@pytest.mark.isolation("T-redis-keys")
def test_a_tenant_works_with_its_own_keys_and_channels(both: Both) -> None:
    """The control of everything below."""
    assert both.do("GET", f"{OWN}mine") == "belongs to a"
    assert both.do("RPUSH", f"{OWN}list", 1, 2) == 2
    assert both.do("LMPOP", 1, f"{OWN}list", "LEFT") == [f"{OWN}list", ["1"]]
    both.do("XADD", f"{OWN}stream", "*", "k", "v")
    both.do("XGROUP", "CREATE", f"{OWN}stream", "group", "0")
    assert both.do("XREADGROUP", "GROUP", "group", "me", "STREAMS", f"{OWN}stream", ">")
    assert both.do("RENAME", f"{OWN}mine", f"{OWN}renamed")
    assert both.do("MEMORY", "USAGE", f"{OWN}renamed") > 0
    with both.a.pipeline(transaction=True) as pipeline:
        assert pipeline.set(f"{OWN}in-multi", 1).get(f"{OWN}in-multi").execute() == [True, "1"]
    with both.a.pubsub() as listener:
        listener.subscribe(f"{OWN}news")
        listener.get_message(timeout=5)
        assert both.do("PUBLISH", f"{OWN}news", "hello") == 1


@pytest.mark.isolation("T-redis-commands")
def test_every_command_of_the_server_that_is_not_on_the_list_is_refused(both: Both) -> None:
    # These four are for everybody on every server: they are how one logs in and out.
    for_all = {"auth", "hello", "quit", "reset"}
    tried = 0
    for name, arity in all_commands(both.admin):
        if name in ALLOWED or name.split("|")[0] in ALLOWED | for_all:
            continue
        arguments = ["1"] * (abs(arity) - len(name.split("|")))
        answer = dry_run(both.admin, UID_A, *name.split("|"), *arguments)
        assert "has no permissions to run the" in answer, (name, answer)
        tried += 1
    assert tried > 120, "the list of the server's commands was not read"


@pytest.mark.isolation("T-redis-keys")
def test_every_allowed_command_is_refused_with_a_key_of_another(both: Both) -> None:
    keyless = {"command", "discard", "echo", "exec", "multi", "ping", "time", "unwatch"}
    keyless |= {name for name in ALLOWED if name.startswith("client|")}
    channels = {"publish", "spublish", "subscribe", "ssubscribe", "psubscribe"}
    leaving = {"unsubscribe", "sunsubscribe", "punsubscribe"}  # of one's own subscriptions
    holes = []
    for name, arity in all_commands(both.admin):
        if name not in ALLOWED or name in keyless | leaving:
            continue
        words, kind = name.split("|"), "channel" if name in channels else "key"
        least = max(abs(arity) - len(words), 1)
        for foreign in (f"{OTHER}secret", OWN[:-1] + "0:x", "platform"):
            # With the fewest words and with more: what a server takes for keys can depend on their number.
            for more in range(4 if arity < 0 else 1):
                command = special_form(name, foreign) or [*words, *[foreign] * (least + more)]
                answer = dry_run(both.admin, UID_A, *command)
                if "no permissions to access" not in answer or kind not in answer:
                    holes.append((command, answer))
    assert holes == []


def special_form(name: str, key: str) -> list[str]:
    """Commands whose keys are counted or come after a word."""
    counted = {
        "lmpop": ["LEFT"],
        "zmpop": ["MIN"],
        "sintercard": [],
        "zinter": [],
        "zunion": [],
        "zdiff": [],
        "zintercard": [],
    }
    if name in counted:
        return [name, "1", key, *counted[name]]
    if name in ("blmpop", "bzmpop"):
        return [name, "1", "1", key, "LEFT" if name == "blmpop" else "MIN"]
    if name in ("zinterstore", "zunionstore", "zdiffstore"):
        return [name, key, "1", key]
    if name == "bitop":
        return [name, "AND", key, key]
    if name == "xread":
        return [name, "STREAMS", key, "0"]
    if name == "xreadgroup":
        return [name, "GROUP", "g", "c", "STREAMS", key, ">"]
    return []


def all_commands(admin: Redis) -> list[tuple[str, int]]:
    """Every command and subcommand of the server, with its number of words."""
    found: list[tuple[str, int]] = []
    for entry in admin.execute_command("COMMAND", "INFO").values():  # type: ignore[no-untyped-call]
        children = entry.get("subcommands") or []
        if not children:
            found.append((entry["name"], entry["arity"]))
        found += [(child[0].lower(), child[1]) for child in children]
    assert len(found) > 300
    return found


def dry_run(admin: Redis, uid: str, *command: str) -> str:
    """What Redis would answer to the tenant's command."""
    try:
        return str(admin.execute_command("ACL", "DRYRUN", names.cache_user(uid), *command))  # type: ignore[no-untyped-call]
    except ResponseError as error:
        raise AssertionError(f"{command}: {error}") from error


@pytest.mark.isolation("T-redis-keys")
@pytest.mark.parametrize(
    "command",
    [
        ("GET", "{other}secret"),
        ("MGET", "{own}mine", "{other}secret"),
        ("EXISTS", "{other}secret"),
        ("TYPE", "{other}secret"),
        ("OBJECT", "ENCODING", "{other}secret"),
        ("MEMORY", "USAGE", "{other}secret"),
        ("RENAME", "{other}secret", "{own}stolen"),
        ("RENAME", "{own}mine", "{other}secret"),
        ("LMOVE", "{other}list", "{own}list", "LEFT", "LEFT"),
        ("LMPOP", "2", "{own}list", "{other}list", "LEFT"),
        ("BLMPOP", "1", "2", "{own}list", "{other}list", "LEFT"),
        ("SINTERSTORE", "{own}out", "{own}set", "{other}set"),
        ("ZUNIONSTORE", "{own}out", "2", "{own}zset", "{other}zset"),
        ("ZRANGESTORE", "{own}out", "{other}zset", "0", "-1"),
        ("BITOP", "OR", "{own}out", "{other}secret"),
        ("XREAD", "STREAMS", "{own}stream", "{other}stream", "0", "0"),
        ("XADD", "{other}stream", "*", "k", "forged"),
        ("XGROUP", "CREATE", "{other}stream", "mine", "0"),
        ("XINFO", "STREAM", "{other}stream"),
        ("PFMERGE", "{own}out", "{other}secret"),
        ("GEOSEARCHSTORE", "{own}out", "{other}geo", "FROMLONLAT", "0", "0", "BYRADIUS", "1", "km"),
        ("UNLINK", "{own}mine", "{other}secret"),
        ("WATCH", "{other}secret"),
        ("HSCAN", "{other}hash", "0"),
        ("SET", "platform", "changed"),
        ("PUBLISH", "{other}news", "forged"),
        ("SPUBLISH", "{other}news", "forged"),
    ],
    ids=lambda command: " ".join(command),
)
def test_keys_and_channels_of_another(both: Both, command: tuple[str, ...]) -> None:
    before = {key: both.admin.dump(key) for key in both.admin.keys(f"{OTHER}*")}
    both.refused(*(word.format(own=OWN, other=OTHER) for word in command))
    assert {key: both.admin.dump(key) for key in both.admin.keys(f"{OTHER}*")} == before


@pytest.mark.isolation("T-redis-commands")
@pytest.mark.parametrize(
    "command",
    [
        "KEYS *", "SCAN 0", "SCAN 0 MATCH {own}*", "RANDOMKEY", "DBSIZE", "INFO", "INFO keyspace", "PUBSUB CHANNELS",
        "EVAL return(redis.call('get',KEYS[1])) 1 {other}secret", "EVAL return(redis.call('get','{other}secret')) 0",
        "EVALSHA 0000000000000000000000000000000000000000 0", "SCRIPT LOAD return(1)", "FUNCTION LIST", "FCALL f 0",
        "COPY {other}secret {own}stolen", "COPY {own}mine {own}copy DB 5", "MOVE {own}mine 5", "SWAPDB 0 1", "SELECT 1",
        "MIGRATE 127.0.0.1 1 {own}mine 0 10", "DUMP {other}secret", "DUMP {own}mine", "RESTORE {own}x 0 y",
        "SORT {own}list BY {other}* GET {other}secret", "SORT_RO {own}list GET {other}secret",
        "DEBUG OBJECT {other}secret", "DEBUG SLEEP 0", "MONITOR", "CLIENT LIST", "CLIENT KILL USER default",
        "CLIENT PAUSE 1", "CLIENT TRACKING on BCAST", "CLIENT TRACKING on BCAST PREFIX {other}", "CLIENT NO-EVICT on",
        "CLIENT INFO", "ACL WHOAMI", "ACL LIST", "ACL GETUSER default", "ACL SETUSER {user} allkeys", "ACL LOG", "ACL SAVE",
        "CONFIG GET *", "CONFIG SET requirepass x", "FLUSHALL", "FLUSHDB", "SHUTDOWN", "SAVE", "BGSAVE", "LASTSAVE",
        "REPLICAOF 127.0.0.1 1", "PSYNC ? -1", "REPLCONF capa eof", "FAILOVER", "CLUSTER INFO", "MODULE LIST",
        "MODULE LOAD /tmp/x.so", "SLOWLOG GET", "LATENCY LATEST", "MEMORY STATS", "MEMORY DOCTOR", "WAIT 0 1", "LOLWUT",
        "OBJECT HELP",
    ],
)  # fmt: skip
def test_commands_that_look_beyond_the_prefix(both: Both, command: str) -> None:
    words = [part.format(own=OWN, other=OTHER, user=names.cache_user(UID_A)) for part in command.split(" ")]
    answer = both.refused(*words)
    assert "belongs to b" not in answer


@pytest.mark.isolation("T-redis-keys")
def test_listening_to_another_tenant(both: Both) -> None:
    for command, name in (
        ("SUBSCRIBE", f"{OTHER}news"), ("PSUBSCRIBE", f"{OTHER}*"), ("PSUBSCRIBE", "*"), ("PSUBSCRIBE", "ut_*"),
        ("SSUBSCRIBE", f"{OTHER}news"), ("PSUBSCRIBE", "__keyspace@0__:*"), ("SUBSCRIBE", "__redis__:invalidate"),
    ):  # fmt: skip
        both.refused(command, name)
    with both.a.pubsub() as listener:  # the control: a pattern of its own
        listener.psubscribe(f"{OWN}*")
        assert (listener.get_message(timeout=5) or {})["type"] == "psubscribe"


@pytest.mark.isolation("T-redis-session")
def test_becoming_somebody_else(both: Both) -> None:
    user_b = names.cache_user(UID_B)
    for login in (("default",), (user_b,)):
        with pytest.raises(RedisError, match="invalid username-password"):
            both.do("AUTH", *login, PASSWORDS[UID_A])
        with pytest.raises(RedisError, match="invalid username-password"):
            both.do("HELLO", "3", "AUTH", *login, "")
    assert both.do("GET", f"{OWN}mine") == "belongs to a"  # a failed login changes nothing
    both.do("RESET")  # now nobody: the server's own user needs a password
    with pytest.raises(RedisError, match=r"NOAUTH|Authentication"):
        both.do("GET", f"{OTHER}secret")
    with both.server.client("default", "") as nobody, pytest.raises(RedisError):
        nobody.get(f"{OTHER}secret")
    with both.server.client(user_b, PASSWORDS[UID_B]) as b:  # the control: with the password one is tenant B
        assert b.get(f"{OTHER}secret") == "belongs to b"


@pytest.mark.isolation("T-redis-session")
def test_a_transaction_does_not_carry_a_forbidden_command(both: Both) -> None:
    both.do("MULTI")
    both.refused("GET", f"{OTHER}secret")
    with pytest.raises(RedisError, match=r"EXECABORT|discarded"):
        both.do("EXEC")
    both.do("MULTI")
    both.refused("SELECT", "1")
    both.do("DISCARD")


@pytest.mark.isolation("T-redis-session")
def test_another_database_of_the_server_cannot_be_entered(both: Both) -> None:
    place = both.server.tenant_url(names.cache_user(UID_A), PASSWORDS[UID_A]).replace("/0", "/1")
    with Redis.from_url(place) as elsewhere, pytest.raises(RedisError):
        elsewhere.get(f"{OWN}mine")


@pytest.mark.isolation("T-prefix-acme-acme2")
def test_a_longer_or_shorter_prefix_is_another_tenants(both: Both) -> None:
    """Whatever is put behind or taken from the user's own name, it is not the tenant's any more."""
    name = names.cache_user(UID_A)
    for foreign in (f"{name}2:x", f"{name}", f"{name}x", f"{name[:-1]}:x", f"{name}0:", f"{name}\n:x", f"{name};x"):
        both.admin.set(foreign, "not a's")
        both.refused("GET", foreign)
        both.refused("SET", foreign, "x")
    for own in (OWN, f"{OWN}:", f"{OWN}*", f"{OWN}{OTHER}secret", f"{OWN}\n", f"{OWN}[ab]"):
        assert both.do("SET", own, "a's") is True
    assert not OTHER.startswith(OWN)
    assert not OWN.startswith(OTHER)
