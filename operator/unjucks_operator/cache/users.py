"""The tenants' users on all Redis servers: made, repaired, taken away; keys removed at the end.

A user is right on every server or the call raises. Each call reads first and writes only what differs, so repeating it is cheap and
harmless. Sessions end when their user lost a password or had more rights than it should: Redis itself keeps them. Called by
``apply`` (through its protocol) and ``watch``.
"""

import asyncio
import hashlib
import logging
import secrets
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from unjucks_api import names
from unjucks_api.reasons import Reason
from unjucks_operator.cache.acl import differences, may_have_been_misused, rules
from unjucks_operator.cache.addresses import tenant_urls
from unjucks_operator.cache.server import Server
from unjucks_operator.errors import OperatorError, Terminal, Unavailable

_log = logging.getLogger(__name__)
_PASSWORD_BYTES = 32
T = TypeVar("T")


@dataclass(frozen=True, slots=True, repr=False)
class Credential:
    """A fresh password, as the tenant's Secret holds it, and its digest. Short-lived: nobody keeps it."""

    data: dict[str, str]
    hash: str


class CacheUsers:
    """The operator's hand on tenants at Redis. Without servers it only says that there are none."""

    def __init__(self, servers: Sequence[Server], *, token: Callable[[int], str] = secrets.token_urlsafe) -> None:
        self.servers = tuple(servers)
        self._token = token

    @property
    def available(self) -> bool:
        """Whether the platform has a Redis."""
        return bool(self.servers)

    async def close(self) -> None:
        """End all connections."""
        await asyncio.gather(*(server.close() for server in self.servers))

    async def ensure(self, uid: str, hashes: frozenset[str]) -> None:
        """Make the tenant's user right on every server. Without hashes nobody can log in as it.

        Raises Terminal without a server (CacheNotConfigured) or where anybody may come in (CacheNotProtected), Unavailable.
        """
        if not self.servers:
            raise Terminal(
                "the Tenant asks for a cache (spec.cache.enabled: true) and the platform has no Redis: an administrator sets "
                "cache.urlSecretRef of the chart, or the line is taken out",
                reason=Reason.CACHE_NOT_CONFIGURED,
            )
        await self._everywhere(lambda server: self._ensure_on(server, uid, hashes))

    async def remove(self, uid: str) -> None:
        """Take the user away everywhere and end its sessions. Its keys stay."""
        await self._everywhere(lambda server: server.delete_user(names.cache_user(uid)))

    async def purge(self, uid: str) -> int:
        """Take the user away, then all keys of the tenant; returns how many keys went."""
        await self.remove(uid)
        counts = await self._everywhere(lambda server: server.remove_keys(names.cache_prefix(uid)))
        return sum(counts)

    def make_credential(self, uid: str) -> Credential:
        """A random password with all that a program needs to use it. Nothing is changed at Redis."""
        password = self._token(_PASSWORD_BYTES)
        user = names.cache_user(uid)
        urls = tenant_urls([server.address for server in self.servers], user, password)
        data = {"username": user, "password": password, "prefix": names.cache_prefix(uid)} | urls
        return Credential(data, hashlib.sha256(password.encode()).hexdigest())

    async def _ensure_on(self, server: Server, uid: str, hashes: frozenset[str]) -> None:
        name = names.cache_user(uid)
        look = await server.look_for(name)
        seen = look.users.get(name)
        found = differences(uid, hashes, seen, look.commands)
        if not found:
            return
        await server.set_user(name, rules(uid, hashes))
        if seen is not None:
            _log.info("user %s at Redis %s was not right and is now: %s", name, server.address.place, ", ".join(found))
        if may_have_been_misused(found, seen, hashes):
            await server.end_sessions(name)

    async def _everywhere(self, act: Callable[[Server], Awaitable[T]]) -> list[T]:
        """On all servers side by side; what can be done is done, then the worst error is raised."""
        results = await asyncio.gather(*(act(server) for server in self.servers), return_exceptions=True)
        errors = [result for result in results if isinstance(result, BaseException)]
        for error in errors:
            if not isinstance(error, OperatorError):
                raise error
        if errors:
            raise min(errors, key=lambda error: isinstance(error, Unavailable))
        return [result for result in results if not isinstance(result, BaseException)]
