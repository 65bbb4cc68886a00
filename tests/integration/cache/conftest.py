"""Tenants' users on real Redis servers."""

from collections.abc import AsyncIterator

import pytest_asyncio

from support.redis_server import RedisServer
from unjucks_operator.cache.addresses import parse_addresses
from unjucks_operator.cache.server import Server
from unjucks_operator.cache.users import CacheUsers


@pytest_asyncio.fixture
async def users(redis_server: RedisServer) -> AsyncIterator[CacheUsers]:
    """The operator's hand on one server, which starts each test without users and keys."""
    if not redis_server.running:  # an earlier test failed between stop and start
        redis_server.start()
    redis_server.run("FLUSHALL")
    for line in redis_server.run("ACL", "USERS"):
        if line != "default":
            redis_server.run("ACL", "DELUSER", line)
    made = CacheUsers([Server(address) for address in parse_addresses(redis_server.url)])
    yield made
    await made.close()
