"""Tenants' users are made right, stay right and go away: against real Redis servers, restarted and edited meanwhile."""

import asyncio
import hashlib
import random
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis.exceptions import AuthenticationError, NoPermissionError, RedisError

from support.clock import FakeClock
from support.redis_server import RedisServer
from unjucks_api import names
from unjucks_api.reasons import Reason
from unjucks_operator.cache.acl import COMMAND_RULES, differences, parse_list, rules
from unjucks_operator.cache.addresses import parse_addresses
from unjucks_operator.cache.server import Server, Settings
from unjucks_operator.cache.users import CacheUsers
from unjucks_operator.cache.watch import CacheWatch
from unjucks_operator.errors import NotPermitted, Terminal, Unavailable
from unjucks_operator.planning import CacheUser

pytestmark = pytest.mark.integration

UID = "33333333-cccc-4ccc-8ccc-000000000003"
USER, PREFIX = names.cache_user(UID), names.cache_prefix(UID)


def digest(password: str) -> str:
    return hashlib.sha256(password.encode()).hexdigest()


ONE, TWO = frozenset({digest("one")}), frozenset({digest("two")})


def faults(server: RedisServer, hashes: frozenset[str]) -> tuple[str, ...]:
    """What the administrator sees to be wrong with the user."""
    return differences(UID, hashes, parse_list(server.run("ACL", "LIST")).get(USER), words_of(server))


def words_of(server: RedisServer) -> str:
    """How this server describes the allowed commands."""
    server.run("ACL", "SETUSER", "reference", *COMMAND_RULES)
    words = parse_list(server.run("ACL", "LIST"))["reference"].commands
    server.run("ACL", "DELUSER", "reference")
    return words


@pytest.mark.isolation("T-redis-restart", state="up")
@pytest.mark.parametrize(
    "edit",
    [
        "allkeys", "~*", "%R~*", "~ut_*", "allchannels", "&*", "+@all", "+keys", "+acl", "-get", "nopass", ">stolen",
        "off", "resetkeys", "resetchannels", "resetpass", "skip-sanitize-payload", "(+@all ~*)", "(%R~* +get)", "reset",
    ],
)  # fmt: skip
async def test_an_edited_user_is_put_back(redis_server: RedisServer, users: CacheUsers, edit: str) -> None:
    await users.ensure(UID, ONE)
    assert faults(redis_server, ONE) == ()
    if edit.startswith("("):
        redis_server.run("ACL", "SETUSER", USER, edit)
    else:
        redis_server.run("ACL", "SETUSER", USER, *edit.split())
    assert faults(redis_server, ONE), "the edit is seen"
    await users.ensure(UID, ONE)
    assert faults(redis_server, ONE) == ()


@pytest.mark.isolation("T-redis-restart", state="up")
async def test_who_came_in_through_an_edit_is_sent_away(redis_server: RedisServer, users: CacheUsers) -> None:
    await users.ensure(UID, ONE)
    with redis_server.client(USER, "one") as honest, redis_server.client(USER, "stolen") as thief:
        honest.set(f"{PREFIX}x", 1)
        redis_server.run("ACL", "SETUSER", USER, ">stolen", "allkeys")
        assert thief.get("anything") is None, "the control: the edit lets the thief in"
        await users.ensure(UID, ONE)
        with pytest.raises(RedisError):
            thief.get("anything")
        assert honest.get(f"{PREFIX}x") == "1", "a client that reconnects with its password goes on"


async def test_ensuring_twice_changes_nothing_and_ends_no_session(redis_server: RedisServer, users: CacheUsers) -> None:
    await users.ensure(UID, ONE)
    with redis_server.client(USER, "one") as session:
        number = session.client_id()
        before = redis_server.run("INFO", "commandstats")
        await users.ensure(UID, ONE)
        after = redis_server.run("INFO", "commandstats")
        assert before["cmdstat_acl|setuser"] == after["cmdstat_acl|setuser"]
        assert session.client_id() == number


@pytest.mark.isolation("T-redis-rotation")
async def test_two_passwords_overlap_and_then_the_old_one_is_dead(redis_server: RedisServer, users: CacheUsers) -> None:
    await users.ensure(UID, ONE)
    with redis_server.client(USER, "one") as old, redis_server.client(USER, "two") as new:
        number = old.client_id()
        await users.ensure(UID, ONE | TWO)
        assert new.set(f"{PREFIX}x", "new")
        assert old.client_id() == number, "nobody is sent away when a password is added"
        await users.ensure(UID, TWO)
        with pytest.raises((AuthenticationError, RedisError)):
            old.get(f"{PREFIX}x")
        with redis_server.client(USER, "one") as again, pytest.raises(AuthenticationError):
            again.ping()
        assert new.get(f"{PREFIX}x") == "new"


async def test_without_a_password_nobody_is_the_user(redis_server: RedisServer, users: CacheUsers) -> None:
    await users.ensure(UID, ONE)
    with redis_server.client(USER, "one") as session:
        session.ping()
        await users.ensure(UID, frozenset())
        with pytest.raises(RedisError):
            session.ping()
    for password in ("", "one", " "):
        with redis_server.client(USER, password) as nobody, pytest.raises(RedisError):
            nobody.ping()
    assert faults(redis_server, frozenset()) == ()


@pytest.mark.isolation("T-redis-names")
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(uid=st.text(max_size=80))
def test_any_uid_makes_a_harmless_name(redis_server: RedisServer, uid: str) -> None:
    user = names.cache_user(uid)
    with redis_server.client() as admin:
        before = set(admin.execute_command("ACL", "USERS"))
        admin.execute_command("ACL", "SETUSER", user, *rules(uid, ONE))
        seen = parse_list(admin.execute_command("ACL", "LIST"))
        admin.execute_command("ACL", "DELUSER", user)
    assert differences(uid, ONE, seen[user], seen[user].commands) == ()
    assert set(seen) - before == {user}, "one name, one user"


@pytest.mark.isolation("T-redis-names")
@pytest.mark.parametrize(
    "text", ["", "allkeys", f"{'a' * 64} allkeys", f"{'a' * 64}\n", "A" * 64, "a" * 63, "#" + "a" * 63, "nopass"]
)
async def test_what_is_no_digest_never_becomes_a_rule(redis_server: RedisServer, users: CacheUsers, text: str) -> None:
    with pytest.raises(ValueError, match="SHA-256"):
        await users.ensure(UID, frozenset({text}))
    assert redis_server.run("ACL", "GETUSER", USER) is None
    await users.ensure(UID, frozenset({"a" * 64}))  # the control
    assert redis_server.run("ACL", "GETUSER", USER) is not None


async def test_a_credential_works_and_stays_on_its_own_keys(redis_server: RedisServer, users: CacheUsers) -> None:
    credential = users.make_credential(UID)
    await users.ensure(UID, frozenset({credential.hash}))
    assert set(credential.data) == {"username", "password", "prefix", "cache-url", "queue-url"}
    assert redis_server.password not in "".join(credential.data.values()), "the administrator's password stays here"
    with redis_server.client(credential.data["username"], credential.data["password"]) as session:
        assert session.set(credential.data["prefix"] + "x", 1)
        with pytest.raises(NoPermissionError):
            session.set("x", 1)
    assert users.make_credential(UID).hash != credential.hash


async def test_removal_takes_all_keys_of_the_tenant_and_no_other(redis_server: RedisServer, users: CacheUsers) -> None:
    others = [f"{USER}2:x", USER, f"{USER}x", "platform", f"x{PREFIX}x"]
    with redis_server.client() as admin:
        with admin.pipeline(transaction=False) as pipeline:
            for number in range(2500):
                pipeline.set(f"{PREFIX}{number}", "x")
            for key in others:
                pipeline.set(key, "x")
            pipeline.execute()
        admin.execute_command("SET", PREFIX.encode() + b"\xff\x00", "not text")
    await users.ensure(UID, ONE)
    with redis_server.client(USER, "one") as session:
        session.ping()
        assert await users.purge(UID) == 2501
        with pytest.raises(RedisError):
            session.set(f"{PREFIX}again", 1)
    assert sorted(redis_server.run("KEYS", "*")) == sorted(others)
    assert redis_server.run("ACL", "GETUSER", USER) is None
    assert await users.purge(UID) == 0, "it can be repeated"


async def test_both_servers_get_the_user_also_when_one_was_down(redis_server: RedisServer) -> None:
    with RedisServer() as queue:
        text = f"cache={redis_server.url} queue={queue.url}"
        users = CacheUsers([Server(address) for address in parse_addresses(text)])
        try:
            credential = users.make_credential(UID)
            assert f":{redis_server.port}/" in credential.data["cache-url"]
            assert f":{queue.port}/" in credential.data["queue-url"]
            queue.stop()
            with pytest.raises(Unavailable) as caught:
                await users.ensure(UID, ONE)
            assert caught.value.reason is Reason.CACHE_UNAVAILABLE
            assert queue.place in caught.value.message
            assert queue.password not in caught.value.message
            assert faults(redis_server, ONE) == (), "the one that is up has it"
            queue.start()
            await users.servers[1].look()  # what the watch does: it tries although others hold back
            await users.ensure(UID, ONE)
            assert faults(redis_server, ONE) == faults(queue, ONE) == ()
            await users.purge(UID)
            assert redis_server.run("ACL", "GETUSER", USER) is None is queue.run("ACL", "GETUSER", USER)
        finally:
            await users.close()


async def test_a_replica_gets_the_user_and_follows_its_primary_in_the_removal(redis_server: RedisServer) -> None:
    redis_server.run("FLUSHALL")
    with RedisServer(
        f"replicaof 127.0.0.1 {redis_server.port}", f'masterauth "{redis_server.password}"', "repl-diskless-load swapdb"
    ) as replica:
        users = CacheUsers([Server(address) for address in parse_addresses(f"{redis_server.url} {replica.url}")])
        try:
            redis_server.run("SET", f"{PREFIX}x", "1")
            async with asyncio.timeout(20):
                while replica.run("INFO", "replication")["master_link_status"] != "up":
                    await asyncio.sleep(0.05)
                redis_server.run("WAIT", "1", "5000")
            await users.ensure(UID, ONE)
            assert faults(replica, ONE) == ()
            assert await users.purge(UID) == 1
            redis_server.run("WAIT", "1", "5000")
            assert replica.run("KEYS", f"{PREFIX}*") == []
        finally:
            await users.close()


@pytest.mark.isolation("T-redis-restart", state="up")
@pytest.mark.parametrize("user", ["default", "guest"])
async def test_a_server_that_lets_anybody_in_gets_no_users(user: str) -> None:
    with RedisServer(password="" if user == "default" else "secret") as server:
        if user != "default":
            server.run("ACL", "SETUSER", user, "on", "nopass", "+get", "~*")
        users = CacheUsers([Server(address) for address in parse_addresses(server.url.replace(":@", ""))])
        try:
            with pytest.raises(Terminal) as caught:
                await users.ensure(UID, ONE)
            assert caught.value.reason is Reason.CACHE_NOT_PROTECTED
            assert user in caught.value.message
            assert server.run("ACL", "GETUSER", USER) is None
            with server.client() as admin:  # the control: closed, it gets them
                admin.execute_command("ACL", "SETUSER", "default", "resetpass", ">closed")
                admin.execute_command("ACL", "SETUSER", "guest", "off")
            address = parse_addresses(f"redis://:closed@{server.place}")
            closed = CacheUsers([Server(it) for it in address])
            await closed.ensure(UID, ONE)
            await closed.close()
        finally:
            await users.close()


async def test_the_rights_that_the_documentation_asks_for_are_enough(
    redis_server: RedisServer, users: CacheUsers
) -> None:
    allowed = (
        "+acl|list +acl|getuser +acl|setuser +acl|deluser +client|kill +client|setname +info +scan +unlink +multi +exec"
    )
    redis_server.run("ACL", "SETUSER", "operator", "on", ">pw", "~ut_*", *allowed.split())
    narrow = CacheUsers([Server(it) for it in parse_addresses(redis_server.tenant_url("operator", "pw"))])
    try:
        await narrow.ensure(UID, ONE)
        redis_server.run("SET", f"{PREFIX}x", "1")
        redis_server.run("ACL", "SETUSER", USER, "nopass")
        await narrow.ensure(UID, ONE)
        assert await narrow.purge(UID) == 1
        redis_server.run("ACL", "SETUSER", "operator", "-acl|setuser")
        with pytest.raises(NotPermitted) as caught:
            await narrow.ensure(UID, ONE)
        assert "docs/cache.md" in caught.value.message
    finally:
        await narrow.close()


@pytest.mark.parametrize(
    "edit", ["", "allkeys", "%R~x", "resetchannels", "allchannels", "+@all", "nopass", "off", ">other", "(+get ~y)"]
)
async def test_one_user_and_all_users_are_read_alike(redis_server: RedisServer, users: CacheUsers, edit: str) -> None:
    await users.ensure(UID, ONE)
    words = [edit] if edit.startswith("(") else edit.split()
    if words:
        redis_server.run("ACL", "SETUSER", USER, *words)
    (server,) = users.servers
    one, every = await server.look_for(USER), await server.look()
    assert one.users == {USER: every.users[USER]}
    assert one.commands == every.commands


async def test_a_refused_login_says_so_without_the_login(redis_server: RedisServer) -> None:
    users = CacheUsers([Server(it) for it in parse_addresses(redis_server.tenant_url("someone", "wrong-password"))])
    try:
        with pytest.raises(Unavailable) as caught:
            await users.ensure(UID, ONE)
        assert "refuses the operator's login" in caught.value.message
        assert "someone" not in caught.value.message
        assert "wrong-password" not in caught.value.message
        assert caught.value.__cause__ is None
    finally:
        await users.close()


async def test_a_frozen_server_is_given_up_and_then_not_asked_for_a_while(redis_server: RedisServer) -> None:
    now = [100.0]
    listener = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
    port = listener.sockets[0].getsockname()[1]
    server = Server(
        parse_addresses(f"redis://127.0.0.1:{port}")[0],
        Settings(0.5, 0.2),
        clock=lambda: now[0],
        randomness=lambda: 1.0,
    )
    try:
        with pytest.raises(Unavailable, match=r"did not answer in time|cannot be reached"):
            await server.look_for(USER)
        listener.close()
        with pytest.raises(Unavailable) as caught:  # at once, with the same words: nobody asked
            await server.look_for(USER)
        assert caught.value.after == pytest.approx(0.2)
        now[0] += 0.21
        with pytest.raises(Unavailable, match="cannot be reached"):
            await server.look_for(USER)
    finally:
        listener.close()
        await server.close()


# --- the watch ------------------------------------------------------------------------------------------------------------


class Watched:
    """A watch whose wakes are noted."""

    def __init__(self, users: CacheUsers) -> None:
        self.known: dict[str, CacheUser] = {}
        self.woken: list[str] = []
        self.all = 0
        self.watch = CacheWatch(
            users.servers, self.known, wake=self.woken.append, wake_all=self.wake_all,
            interval=5.0, clock=FakeClock(), rng=random.Random(1),
        )  # fmt: skip

    def wake_all(self) -> None:
        self.all += 1


async def test_the_watch_finds_what_drifted_and_nothing_else(redis_server: RedisServer, users: CacheUsers) -> None:
    uids = [str(uuid.UUID(int=number)) for number in range(20)]
    watched = Watched(users)
    for uid in uids:
        await users.ensure(uid, ONE)
        watched.known[uid] = CacheUser(ONE)
    assert await watched.watch.check(users.servers[0]) == []
    redis_server.run("ACL", "DELUSER", names.cache_user(uids[3]))
    redis_server.run("ACL", "SETUSER", names.cache_user(uids[7]), "allkeys")
    watched.known[uids[9]] = CacheUser(exists=False)
    assert await watched.watch.check(users.servers[0]) == [uids[3], uids[7], uids[9]]
    assert watched.woken == [uids[3], uids[7], uids[9]]
    assert watched.all == 0


@pytest.mark.isolation("T-redis-restart", state="up")
async def test_after_a_restart_every_tenant_is_sent_to_work(redis_server: RedisServer, users: CacheUsers) -> None:
    watched = Watched(users)
    await users.ensure(UID, ONE)
    watched.known[UID] = CacheUser(ONE)
    redis_server.restart()
    with redis_server.client(USER, "one") as nobody, pytest.raises(AuthenticationError):
        nobody.ping()  # closed meanwhile, not open
    assert await check_with_time(watched, users.servers[0]) == [UID]
    await users.ensure(UID, ONE)
    with redis_server.client(USER, "one") as session:
        assert session.ping()


@asynccontextmanager
async def stopped(server: RedisServer) -> AsyncIterator[None]:
    server.stop()
    try:
        yield
    finally:
        server.start()


async def test_a_server_that_goes_and_comes_back_wakes_everybody_once_each_time(
    redis_server: RedisServer, users: CacheUsers
) -> None:
    watched = Watched(users)
    server = users.servers[0]
    assert await watched.watch.check(server) == []
    async with stopped(redis_server):
        for _ in range(3):
            assert await check_with_time(watched, server) == []
        assert watched.all == 1
    for _ in range(3):
        await watched.watch.check(server)
    assert watched.all == 2


async def check_with_time(watched: Watched, server: Server) -> list[str]:
    """One check while the manual clock goes on."""
    clock = watched.watch._clock
    assert isinstance(clock, FakeClock)
    task = asyncio.create_task(watched.watch.check(server))
    while not task.done():
        await asyncio.sleep(0.01)
        await clock.advance(1.0)
    return task.result()
