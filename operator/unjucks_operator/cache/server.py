"""One Redis server: its connections, the few commands that the operator sends, and its errors in our tree.

After a failed connect nobody tries again before a growing, random delay is over; meanwhile every caller gets Unavailable at once,
so that a dead server does not hold up the workers. ``look`` tries always: it is what finds out that the server is back. Messages
name host and port, never a user, a password or a key. Called by ``users`` and ``watch``.
"""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, NoPermissionError, RedisError, ResponseError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from unjucks_api.reasons import Reason
from unjucks_operator.cache.acl import COMMAND_RULES, Seen, from_answer, is_tenant, parse_list
from unjucks_operator.cache.addresses import Address
from unjucks_operator.errors import Bug, NotPermitted, OperatorError, Terminal, Unavailable

T = TypeVar("T")

OLDEST: Final = 7
SCAN_COUNT: Final = 500
"""Keys that one step of a removal looks at; a server answers nobody else meanwhile."""
_REFERENCE: Final = "unjucks-reference"
_BACKOFF_INITIAL: Final = 0.2
_BACKOFF_MAX: Final = 10.0


@dataclass(frozen=True, slots=True)
class Settings:
    """Limits in seconds."""

    connect_timeout: float = 3.0
    command_timeout: float = 5.0
    connections: int = 4


@dataclass(frozen=True, slots=True)
class Look:
    """What one look at a server found."""

    users: Mapping[str, Seen]
    commands: str
    """How this server describes the commands that a tenant may use."""

    @property
    def open_users(self) -> tuple[str, ...]:
        """Names of the users that anybody may be; a tenant's is not among them, as it is put right."""
        return tuple(sorted(name for name, seen in self.users.items() if seen.open and not is_tenant(name)))


class Server:
    """One server. Connects when first used; ``close`` ends its connections."""

    def __init__(
        self,
        address: Address,
        settings: Settings | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        randomness: Callable[[], float] = random.random,
    ) -> None:
        self.address = address
        settings = settings or Settings()
        self._clock = clock
        self._randomness = randomness
        self._redis: Redis = Redis.from_url(
            address.url,
            db=0,
            protocol=3,
            decode_responses=False,  # keys are bytes, and not always text
            socket_connect_timeout=settings.connect_timeout,
            socket_timeout=settings.command_timeout,
            max_connections=settings.connections,
            retry=Retry(NoBackoff(), 0),
            client_name="unjucks-operator",
        )
        self._room = asyncio.Semaphore(settings.connections)
        self._checked = False
        self._commands = ""
        self._open_users: tuple[str, ...] = ()
        self._failures = 0
        self._not_before = 0.0
        self._last: OperatorError | None = None

    def __repr__(self) -> str:
        return f"<Server {self.address.place}>"

    async def close(self) -> None:
        """End all connections."""
        await self._redis.aclose()

    async def look(self) -> Look:
        """All users as they are now; also refuses a server that is too old. Tries although the last attempts failed."""
        return await self._guarded(self._look, try_always=True)

    async def look_for(self, name: str) -> Look:
        """The same about one user only, which costs the same with many. Raises Terminal(CacheNotProtected) when anybody may come
        in, as the last whole look found."""

        async def act() -> Look:
            whole = None if self._checked and not self._open_users else await self._look()
            if self._open_users:
                raise Terminal(open_message(self.address.place, self._open_users), reason=Reason.CACHE_NOT_PROTECTED)
            if whole is not None:
                return whole
            found = await self._send("ACL", "GETUSER", name)  # as two words: the driver leaves the answer as it is
            return Look({name: from_answer(found)} if found else {}, self._commands)

        return await self._guarded(act)

    async def set_user(self, name: str, rules: Sequence[str]) -> None:
        """``ACL SETUSER``; all rules take effect at one moment."""
        await self._guarded(lambda: self._send("ACL SETUSER", name, *rules))

    async def delete_user(self, name: str) -> None:
        """``ACL DELUSER``: its sessions end with it."""
        await self._guarded(lambda: self._send("ACL DELUSER", name))

    async def end_sessions(self, name: str) -> None:
        """End all sessions of a user."""
        await self._guarded(lambda: self._send("CLIENT KILL", "USER", name))

    async def remove_keys(self, prefix: str) -> int:
        """Remove every key that starts with ``prefix``, in small steps; returns how many. A replica follows its primary."""
        return await self._guarded(lambda: self._remove_keys(prefix))

    # ------------------------------------------------------------------------------------------------------------------
    async def _look(self) -> Look:
        if not self._checked:
            await self._check_version()
            self._commands = await self._describe()
            self._checked = True
        lines = await self._send("ACL LIST")
        look = Look(_parsed(lines), self._commands)
        self._open_users = look.open_users
        return look

    async def _describe(self) -> str:
        """Ask the server for its words: a user that exists within one transaction only, so nobody ever sees it."""
        async with self._redis.pipeline(transaction=True) as pipeline:
            pipeline.execute_command("ACL SETUSER", _REFERENCE, "reset", *COMMAND_RULES)
            pipeline.execute_command("ACL LIST")
            pipeline.execute_command("ACL DELUSER", _REFERENCE)
            _, lines, _ = await pipeline.execute()
        return _parsed(lines)[_REFERENCE].commands

    async def _check_version(self) -> None:
        info = await self._send("INFO", "server")
        version = str(info.get("redis_version", "0"))
        if int(version.partition(".")[0] or 0) < OLDEST:
            raise Terminal(
                f"Redis {self.address.place} has version {version[:20]}; {OLDEST}.0 or newer is needed",
                reason=Reason.CACHE_NOT_CONFIGURED,
            )

    async def _remove_keys(self, prefix: str) -> int:
        role = await self._send("INFO", "replication")
        if role.get("role") == "slave":
            return 0
        removed, cursor = 0, 0
        pattern = prefix.encode() + b"*"
        while True:
            cursor, keys = await self._redis.scan(cursor, match=pattern, count=SCAN_COUNT)
            if keys:
                # One command for each key: in a Redis cluster keys of several slots do not fit into one.
                pipeline = self._redis.pipeline(transaction=False)
                for key in keys:
                    pipeline.unlink(key)
                removed += sum(await pipeline.execute())
            if cursor == 0:
                return removed

    async def _send(self, *command: str) -> Any:
        return await self._redis.execute_command(*command)  # type: ignore[no-untyped-call]

    async def _guarded(self, act: Callable[[], Awaitable[T]], *, try_always: bool = False) -> T:
        wait = self._not_before - self._clock()
        if wait > 0 and self._last is not None and not try_always:
            raise Unavailable(self._last.message, reason=Reason.CACHE_UNAVAILABLE, after=wait)
        try:
            async with self._room:
                result = await act()
        except (RedisError, OSError, TimeoutError) as error:
            translated = self._translate(error)
            if isinstance(translated, Unavailable):
                self._note(translated)
            # The driver's text may name the user; the chain is cut.
            raise translated from None
        self._failures = 0
        self._last = None
        self._not_before = 0.0
        return result

    def _note(self, error: OperatorError) -> None:
        self._checked = False  # another server may answer next time
        self._failures += 1
        ceiling = min(_BACKOFF_MAX, _BACKOFF_INITIAL * 2 ** min(self._failures - 1, 16))
        self._not_before = self._clock() + ceiling * (0.5 + 0.5 * self._randomness())
        self._last = error

    def _translate(self, error: Exception) -> OperatorError:
        place = self.address.place
        if isinstance(error, AuthenticationError) or "NOAUTH" in str(error)[:10] or "WRONGPASS" in str(error)[:12]:
            return Unavailable(
                f"Redis {place} refuses the operator's login; check the Secret with the addresses",
                reason=Reason.CACHE_UNAVAILABLE,
            )
        if isinstance(error, NoPermissionError) or str(error).startswith("NOPERM"):
            return NotPermitted(
                f"Redis {place} does not let the operator's user manage users and keys; an administrator gives it the commands "
                "and keys that the page docs/cache.md lists"
            )
        if isinstance(error, RedisTimeoutError | TimeoutError):
            return Unavailable(f"Redis {place} did not answer in time", reason=Reason.CACHE_UNAVAILABLE)
        if isinstance(error, RedisConnectionError | OSError):
            return Unavailable(
                f"Redis {place} cannot be reached, or the connection was lost", reason=Reason.CACHE_UNAVAILABLE
            )
        if isinstance(error, ResponseError):
            code = str(error).partition(" ")[0]
            if code.isupper() and code in ("READONLY", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN", "OOM", "MISCONF"):
                return Unavailable(f"Redis {place} cannot take this now ({code})", reason=Reason.CACHE_UNAVAILABLE)
        return Bug(f"unexpected {type(error).__name__} from Redis {place}")


def _parsed(lines: Iterable[bytes]) -> Mapping[str, Seen]:
    return parse_list(line.decode(errors="replace") for line in lines)


def open_message(place: str, users: Sequence[str]) -> str:
    """What is wrong with a server that lets anybody in."""
    who = ", ".join(f"user {name}"[:70] for name in users[:3])
    return (
        f"Redis {place} lets anybody in without a password ({who}): set requirepass there, or switch that user off; "
        "until then no tenant gets a user on it"
    )
