"""What a tenant's user may do at Redis, as the rules of ``ACL SETUSER``, and the comparison with what ``ACL LIST`` says. Pure.

A list of allowed commands, not of forbidden ones: a command that a newer server adds is closed until somebody has looked at it.
What is left out, and why:

- everything that names or counts keys of others: KEYS, SCAN, RANDOMKEY, DBSIZE, INFO, PUBSUB, CLIENT TRACKING (which can tell of
  every key that changes), CLIENT LIST, MONITOR, SLOWLOG, LATENCY, CLUSTER;
- everything that leaves the keyspace of database 0, where keys are removed at the end: SELECT, MOVE, COPY, SWAPDB, MIGRATE;
- everything that can name keys which are not among its arguments: EVAL, FUNCTION, FCALL, SCRIPT, SORT (BY and GET);
- PFMERGE, whose key Redis 7.0 does not check when it is the only one (a test found it: the tests try every command with few and
  with many foreign keys);
- everything that is about the server: CONFIG, ACL, DEBUG, MODULE, FLUSHALL, SAVE, REPLICAOF, SHUTDOWN, RESTORE and the like.

Called by ``users`` and ``watch``.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from unjucks_api import names

_STRINGS = (
    "append bitcount bitfield bitfield_ro bitop bitpos decr decrby get getbit getdel getex getrange getset incr incrby "
    "incrbyfloat lcs mget mset msetnx psetex set setbit setex setnx setrange strlen substr"
)
_KEYS = (
    "del exists expire expireat expiretime persist pexpire pexpireat pexpiretime pttl rename renamenx touch ttl type unlink "
    "memory|usage object|encoding object|freq object|idletime object|refcount"
)
_HASHES = (
    "hdel hexists hget hgetall hincrby hincrbyfloat hkeys hlen hmget hmset hrandfield hscan hset hsetnx hstrlen hvals"
)
_LISTS = (
    "blmove blmpop blpop brpop brpoplpush lindex linsert llen lmove lmpop lpop lpos lpush lpushx lrange lrem lset ltrim rpop "
    "rpoplpush rpush rpushx"
)
_SETS = (
    "sadd scard sdiff sdiffstore sinter sintercard sinterstore sismember smembers smismember smove spop srandmember srem sscan "
    "sunion sunionstore"
)
_SORTED_SETS = (
    "bzmpop bzpopmax bzpopmin zadd zcard zcount zdiff zdiffstore zincrby zinter zintercard zinterstore zlexcount zmpop zmscore "
    "zpopmax zpopmin zrandmember zrange zrangebylex zrangebyscore zrangestore zrank zrem zremrangebylex zremrangebyrank "
    "zremrangebyscore zrevrange zrevrangebylex zrevrangebyscore zrevrank zscan zscore zunion zunionstore"
)
_STREAMS = (
    "xack xadd xautoclaim xclaim xdel xgroup|create xgroup|createconsumer xgroup|delconsumer xgroup|destroy xgroup|setid "
    "xinfo|consumers xinfo|groups xinfo|stream xlen xpending xrange xread xreadgroup xrevrange xtrim"
)
_OTHER_TYPES = "geoadd geodist geohash geopos geosearch geosearchstore pfadd pfcount"
_MESSAGES = "psubscribe publish punsubscribe spublish ssubscribe subscribe sunsubscribe unsubscribe"
_TRANSACTIONS = "discard exec multi unwatch watch"
_SESSION = "client|getname client|id client|reply client|setname command echo ping time"
ALLOWED: Final = frozenset(
    " ".join(
        (
            *(_STRINGS, _KEYS, _HASHES, _LISTS, _SETS, _SORTED_SETS),
            *(_STREAMS, _OTHER_TYPES, _MESSAGES, _TRANSACTIONS, _SESSION),
        )
    ).split()
)
"""Commands of Redis 7.0 that a tenant's user may use, on its own keys and channels."""

_HASH: Final = re.compile(r"[0-9a-f]{64}")
_TENANT: Final = re.compile(rf"ut_[0-9a-f]{{{names.CACHE_NAME_DIGITS}}}")
COMMAND_RULES: Final = ("-@all", *(f"+{command}" for command in sorted(ALLOWED)))
"""The rules about commands, in the order in which they are always given."""
# AUTH, HELLO, QUIT and RESET work for everybody on any server; a user with only these can do nothing.
_HARMLESS: Final = frozenset({"+auth", "+hello", "+ping", "+quit", "+reset"})


def is_hash(text: str) -> bool:
    """Whether ``text`` is a SHA-256 digest as Redis takes it; anything else must never become part of a rule."""
    return _HASH.fullmatch(text) is not None


@dataclass(frozen=True, slots=True)
class Seen:
    """A user as a server describes it. Words are as ``ACL LIST`` prints them."""

    flags: frozenset[str]
    hashes: frozenset[str]
    keys: frozenset[str]
    channels: frozenset[str]
    commands: str
    selectors: bool = False

    @property
    def open(self) -> bool:
        """Whether anybody may be this user, and do something with it."""
        allowed = {word for word in self.commands.split() if word.startswith("+")}
        return {"on", "nopass"} <= self.flags and not allowed <= _HARMLESS


def parse_line(line: str) -> tuple[str, Seen]:
    """One line of ``ACL LIST``: the user's name and what it may do. Raises ValueError for anything else."""
    word, _, rest = line.partition(" ")
    name, _, rules = rest.partition(" ")
    if word != "user" or not name:
        raise ValueError("not a line of ACL LIST")
    rules, selector, _ = rules.partition("(")
    flags, hashes, keys, channels, commands = set(), set(), set(), set(), []
    for rule in rules.split():
        if rule.startswith("#"):
            hashes.add(rule[1:])
        elif rule.startswith(("~", "%")) or rule == "allkeys":
            keys.add(rule)
        elif rule.startswith("&") or rule == "allchannels":
            channels.add(rule)
        elif rule.startswith(("+", "-")) or rule in ("allcommands", "nocommands"):
            commands.append(rule)
        elif rule != "resetchannels":  # the printed form of "no channels besides those that follow"
            flags.add(rule)
    return name, Seen(
        frozenset(flags), frozenset(hashes), frozenset(keys), frozenset(channels), " ".join(commands), bool(selector)
    )


def parse_list(lines: Iterable[str]) -> Mapping[str, Seen]:
    """``ACL LIST`` as a whole."""
    return dict(map(parse_line, lines))


def from_answer(answer: Mapping[Any, Any]) -> Seen:
    """The answer to ``ACL GETUSER`` (RESP3, bytes): the same as ``parse_line`` makes of the line about that user."""
    fields = {_text(key): value for key, value in answer.items()}

    def words(key: str) -> frozenset[str]:
        return frozenset(_text(fields.get(key, b"")).split())

    return Seen(
        # These three only say again what stands in the other fields.
        frozenset(map(_text, fields.get("flags", ()))) - {"allkeys", "allchannels", "allcommands"},
        frozenset(map(_text, fields.get("passwords", ()))),
        words("keys"),
        words("channels"),
        _text(fields.get("commands", b"")),
        bool(fields.get("selectors")),
    )


def _text(value: Any) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def rules(uid: str, hashes: frozenset[str]) -> list[str]:
    """The rules that make the tenant's user exactly right, whatever it was: all of them, in one command.

    Without hashes it is switched off. Raises ValueError when a hash is none, because Redis would read it as a rule.
    """
    if not all(map(is_hash, hashes)):
        raise ValueError("not a SHA-256 digest")
    prefix = names.cache_prefix(uid)
    return [
        # "reset" gives the server's default for channels, which may be all of them; so they are taken away by name.
        *("reset", "resetchannels", "resetkeys", "clearselectors"),
        *("sanitize-payload", "on" if hashes else "off"),
        *(f"#{digest}" for digest in sorted(hashes)),
        *(f"~{prefix}*", f"&{prefix}*"),
        *COMMAND_RULES,
    ]


def is_tenant(user: str) -> bool:
    """Whether a user of that name is a tenant's: repaired, whatever it looks like."""
    return _TENANT.fullmatch(user) is not None


def differences(uid: str, hashes: frozenset[str], seen: Seen | None, commands: str) -> tuple[str, ...]:
    """In what the user differs from how it must be, in words; empty when it is right.

    ``commands`` is how this server describes ``COMMAND_RULES``: Redis 7.0 prints categories for what it was given as commands.
    """
    if seen is None:
        return ("missing",)
    prefix = names.cache_prefix(uid)
    found = []
    if seen.flags != {"on" if hashes else "off", "sanitize-payload"}:
        found.append("flags")
    if hashes - seen.hashes:
        found.append("password missing")
    if seen.hashes - hashes:
        found.append("password too much")
    if seen.keys != {f"~{prefix}*"}:
        found.append("keys")
    if seen.channels != {f"&{prefix}*"}:
        found.append("channels")
    if seen.commands != commands:
        found.append("commands")
    if seen.selectors:
        found.append("selectors")
    return tuple(found)


def may_have_been_misused(found: Iterable[str], seen: Seen | None, hashes: frozenset[str]) -> bool:
    """Whether sessions of this user have to end: they may have come in, or gone further, than the right rules allow."""
    if seen is None:
        return False
    if "flags" in found and "nopass" not in seen.flags and "off" in seen.flags and hashes:
        found = set(found) - {"flags"}  # it was switched off: nobody came in
    return bool(set(found) - {"password missing"})
