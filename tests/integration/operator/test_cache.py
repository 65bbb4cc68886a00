"""Tenants at Redis, with a real operator: two servers, a credential, drift, a restart, an outage, and the end."""

import asyncio
import base64
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import pytest
import pytest_asyncio
from redis.exceptions import AuthenticationError, NoPermissionError, RedisError

from support.operator_process import OperatorProcess, Site
from support.redis_server import RedisServer
from support.tenants import tenant_manifest
from unjucks_api import names
from unjucks_api.conditions import ConditionType, find_condition
from unjucks_operator.cache.acl import parse_list
from unjucks_operator.kube.resources import SECRET, TENANT

pytestmark = [pytest.mark.integration, pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(240)]


@pytest.fixture(scope="module")
def servers() -> Iterator[tuple[RedisServer, RedisServer]]:
    """One for the cache, one for the queue."""
    with RedisServer() as cache, RedisServer() as queue:
        yield cache, queue


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def operator(site: Site, servers: tuple[RedisServer, RedisServer]) -> AsyncIterator[OperatorProcess]:
    cache, queue = servers
    settings = {"urls": f"cache={cache.url} queue={queue.url}", "interval": 1}
    # Nothing here is about the lease: a busy machine must not end the operator in the middle.
    async with site.operator(cache=settings, leader={}) as running:
        yield running


async def get(site: Site, name: str) -> dict[str, Any]:
    body = await site.api.get(TENANT, name)
    assert body is not None
    return body


async def ready(site: Site, name: str, **spec: Any) -> dict[str, Any]:
    await site.apply(tenant_manifest(name, **spec))
    await site.wait_for(f"tenant/{name}", "condition=Ready")
    return await get(site, name)


async def eventually(what: str, check: Callable[[], Awaitable[bool]], seconds: float = 20) -> None:
    try:
        async with asyncio.timeout(seconds):
            while not await check():
                await asyncio.sleep(0.1)
    except TimeoutError:
        raise AssertionError(f"not within {seconds} s: {what}") from None


async def reason_of(site: Site, name: str) -> tuple[str, str]:
    condition = find_condition((await get(site, name)).get("status") or {}, ConditionType.CACHE_READY) or {}
    return condition.get("status", ""), condition.get("reason", "")


async def credential(site: Site, name: str) -> dict[str, str]:
    body = await site.api.get(SECRET, f"{name}-cache", f"tenant-{name}")
    assert body is not None
    return {key: base64.b64decode(value).decode() for key, value in body["data"].items()}


def users(server: RedisServer) -> set[str]:
    return set(server.run("ACL", "USERS"))


def flags_of(server: RedisServer, user: str) -> frozenset[str]:
    return parse_list(server.run("ACL", "LIST"))[user].flags


def may_log_in(server: RedisServer, secret: dict[str, str]) -> bool:
    with server.client(secret["username"], secret["password"]) as client:
        try:
            return bool(client.set(secret["prefix"] + "probe", 1))
        except AuthenticationError:
            return False


async def test_a_tenant_has_a_user_on_every_server_and_nobody_can_be_it(
    site: Site, operator: OperatorProcess, servers: tuple[RedisServer, RedisServer]
) -> None:
    body = await ready(site, "plain")
    user = names.cache_user(body["metadata"]["uid"])
    assert body["status"]["cache"] == {"state": "Ready", "user": user, "prefix": f"{user}:"}
    for server in servers:
        flags = flags_of(server, user)
        assert "off" in flags
        assert "nopass" not in flags
    assert await site.api.get(SECRET, "plain-cache", "tenant-plain") is None


async def test_direct_access_is_a_secret_that_works_and_ends(
    site: Site, operator: OperatorProcess, servers: tuple[RedisServer, RedisServer]
) -> None:
    body = await ready(site, "direct", cache={"directAccess": True})
    secret = await credential(site, "direct")
    stored = await site.api.get(SECRET, "direct-cache", "tenant-direct")
    assert stored is not None
    annotation = stored["metadata"]["annotations"][names.ANNOTATION_CACHE_HASH]
    assert annotation == hashlib.sha256(secret["password"].encode()).hexdigest()
    assert body["status"]["cache"]["secret"] == "tenant-direct/direct-cache"
    for server, purpose in zip(servers, ("cache", "queue"), strict=True):
        assert may_log_in(server, secret)
        assert secret[f"{purpose}-url"].endswith(f"@{server.place}/0")
        with server.client(secret["username"], secret["password"]) as client, pytest.raises(NoPermissionError):
            client.get("platform")
    everything = await site.kubectl("get", "tenants,events", "-A", "-o", "yaml")
    assert secret["password"] not in everything + operator.log.read_text()

    # Somebody writes into it: taken for a leak, so there is another password, and the old one is dead at once.
    patch = f'{{"stringData": {{"password": "{secret["password"]}x"}}}}'
    await site.kubectl("patch", "secret", "direct-cache", "-n", "tenant-direct", "--type=merge", "-p", patch)

    async def is_new() -> bool:
        now = await credential(site, "direct")
        return now["password"] not in (secret["password"], secret["password"] + "x") and may_log_in(servers[1], now)

    await eventually("a new password", is_new)
    assert not may_log_in(servers[0], secret)

    await site.apply(tenant_manifest("direct"))

    async def is_gone() -> bool:
        return await site.api.get(SECRET, "direct-cache", "tenant-direct") is None

    await eventually("the Secret goes", is_gone)
    await site.wait_for("tenant/direct", "condition=Ready")
    body = await get(site, "direct")
    await eventually("the user is off", lambda: off(servers, body["status"]["cache"]["user"]))


async def off(servers: tuple[RedisServer, RedisServer], user: str) -> bool:
    return all("off" in flags_of(server, user) for server in servers)


@pytest.mark.isolation("T-redis-rotation", state="up")
async def test_a_rotation_overlaps(
    site: Site, operator: OperatorProcess, servers: tuple[RedisServer, RedisServer]
) -> None:
    await ready(site, "turning", cache={"directAccess": True, "rotation": {"every": "1h"}})
    before = await credential(site, "turning")
    # Older than its period: as it would be an hour later.
    aged = f"{names.ANNOTATION_CACHE_ROTATED_AT}=2026-01-01T00:00:00Z"
    where = ("-n", "tenant-turning", "--overwrite")
    await site.kubectl("annotate", "secret", "turning-cache", aged, *where)

    async def is_new() -> bool:
        return (await credential(site, "turning"))["password"] != before["password"]

    await eventually("a new password", is_new)
    after = await credential(site, "turning")
    for server in servers:
        assert may_log_in(server, after)
    stored = await site.api.get(SECRET, "turning-cache", "tenant-turning")
    assert stored is not None
    previous = stored["metadata"]["annotations"].get(names.ANNOTATION_CACHE_PREVIOUS_HASH)
    # The edit of our annotation is itself a change of our Secret: either way there is one good password at least.
    assert previous in (None, hashlib.sha256(before["password"].encode()).hexdigest())
    assert may_log_in(servers[0], before) is (previous is not None)


@pytest.mark.isolation("T-redis-restart", state="up")
async def test_drift_and_a_restart_are_repaired(
    site: Site, operator: OperatorProcess, servers: tuple[RedisServer, RedisServer]
) -> None:
    body = await ready(site, "drifting", cache={"directAccess": True})
    user, secret = body["status"]["cache"]["user"], await credential(site, "drifting")
    cache, queue = servers
    queue.run("ACL", "SETUSER", user, "allkeys", "+@all")

    async def confined() -> bool:
        with queue.client(secret["username"], secret["password"]) as client:
            try:
                client.get("platform")
            except NoPermissionError:
                return True
            except RedisError:
                return False
        return False

    await eventually("the rights are taken back", confined)
    mark = await asyncio.to_thread(site.plane.audit_mark)
    await asyncio.to_thread(cache.restart)
    assert users(cache) == {"default"} or user in users(cache)

    async def back() -> bool:
        return await asyncio.to_thread(lambda: user in users(cache) and may_log_in(cache, secret))

    await eventually("the user is back after a restart", back)
    await site.wait_for("tenant/drifting", "condition=Ready")
    assert (await credential(site, "drifting")) == secret, "with the same password"
    writes = await asyncio.to_thread(site.plane.writes, mark, user="unjucks-operator")
    assert not [write for write in writes if write.resource == "secrets"]


async def test_an_outage_is_told_and_holds_up_nothing_else(
    site: Site, operator: OperatorProcess, servers: tuple[RedisServer, RedisServer]
) -> None:
    await ready(site, "before")
    await asyncio.to_thread(servers[1].stop)
    try:

        async def told() -> bool:
            return await reason_of(site, "before") == ("False", "CacheUnavailable")

        await eventually("the outage is told", told)
        await site.apply(tenant_manifest("during"))

        async def the_rest() -> bool:
            found = await get(site, "during")
            states = {item["type"]: item["status"] for item in found.get("status", {}).get("conditions", ())}
            wanted = ("NamespacesReady", "AccessReady", "RenderersReady", "DatabaseReady", "NetworkIsolated")
            return all(states.get(kind) == "True" for kind in wanted) and states.get("CacheReady") == "False"

        await eventually("everything but the cache", the_rest)
        message = (find_condition((await get(site, "during"))["status"], ConditionType.READY) or {})["message"]
        assert servers[1].place in message
        assert servers[1].password not in message
        # A Tenant that goes meanwhile stays until its keys can be removed, and says so.
        await ready_or_not(site, "leaving")
        await site.kubectl("delete", "tenant", "leaving", "--wait=false")

        async def held() -> bool:
            blocked = ((await get(site, "leaving")).get("status") or {}).get("deletion", {}).get("blockedBy") or [""]
            return servers[1].place in blocked[0]

        await eventually("the deletion names what it waits for", held)
    finally:
        await asyncio.to_thread(servers[1].start)
    for name in ("before", "during"):
        await site.wait_for(f"tenant/{name}", "condition=Ready")
    await eventually("the deletion goes on", lambda: gone(site, "leaving"))


async def ready_or_not(site: Site, name: str) -> None:
    await site.apply(tenant_manifest(name))

    async def seen() -> bool:
        return "conditions" in ((await get(site, name)).get("status") or {})

    await eventually(f"{name} is worked on", seen)


async def gone(site: Site, name: str) -> bool:
    return await site.api.get(TENANT, name) is None


@pytest.mark.isolation("T-reincarnation", state="up")
async def test_deletion_takes_user_and_keys_and_a_new_tenant_of_the_name_has_others(
    site: Site, operator: OperatorProcess, servers: tuple[RedisServer, RedisServer]
) -> None:
    await ready(site, "leaver", cache={"directAccess": True})
    await ready(site, "leaver2", cache={"directAccess": True})
    old, other = await credential(site, "leaver"), await credential(site, "leaver2")
    for server in servers:
        assert may_log_in(server, old)
        assert may_log_in(server, other)
    await site.kubectl("delete", "tenant", "leaver", "--timeout=60s")
    for server in servers:
        assert old["username"] not in users(server)
        assert server.run("KEYS", f"{old['prefix']}*") == []
        assert server.run("KEYS", f"{other['prefix']}*") != [], "the neighbour keeps its own"
    await ready(site, "leaver3", cache={"directAccess": True})
    new = await credential(site, "leaver3")
    assert new["prefix"] != old["prefix"]


async def test_asking_for_a_cache_where_there_is_none(site: Site, operator: OperatorProcess) -> None:
    await operator.stop()
    async with site.operator(leader={}):
        await site.apply(tenant_manifest("wanting", cache={"enabled": True}))
        await site.wait_for("tenant/wanting", "condition=DatabaseReady")

        async def told() -> bool:
            return await reason_of(site, "wanting") == ("False", "CacheNotConfigured")

        await eventually("it says that there is no Redis", told)
        await site.apply(tenant_manifest("wanting"))
        await site.wait_for("tenant/wanting", "condition=Ready")
        assert await reason_of(site, "wanting") == ("True", "CacheDisabled")
