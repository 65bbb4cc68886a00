"""The configured Redis servers: which there are, and what each is for. Pure; called by ``app``."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from unjucks_operator.errors import InvalidSpec

PURPOSES: Final = ("cache", "queue")
"""A cache may forget; a queue must not. One server can be both."""
DEFAULT_PORT: Final = 6379
_FORM = (
    "write cache.urls as redis://user:password@host:6379, or rediss:// for TLS, several separated by spaces, "
    "each with queue= or cache= before it when it is for one of the two only"
)


@dataclass(frozen=True, slots=True, repr=False)
class Address:
    """One server. ``url`` holds the operator's credential and is never shown; ``place`` is host and port."""

    url: str
    scheme: str
    place: str
    purposes: tuple[str, ...] = PURPOSES

    def __repr__(self) -> str:
        return f"<Address {self.place}>"


def parse_addresses(text: str) -> tuple[Address, ...]:
    """The servers that the setting names. Raises InvalidSpec, without the text, which holds passwords."""
    found: list[Address] = []
    for number, word in enumerate(text.split(), start=1):
        found.append(_parse(word, number))
    places = [address.place for address in found]
    for place in places:
        if places.count(place) > 1:
            raise InvalidSpec(
                f"Redis {place} is configured twice; leave out the word before it when it is for both purposes"
            )
    return tuple(found)


def _parse(word: str, number: int) -> Address:
    purposes: tuple[str, ...] = PURPOSES
    purpose, equals, rest = word.partition("=")
    if equals and "://" not in purpose:
        if purpose not in PURPOSES:
            raise InvalidSpec(f"cache.urls, entry {number}: there is no purpose of that name; {_FORM}")
        purposes, word = (purpose,), rest
    try:
        parts = urlsplit(word)
        host, port = parts.hostname, parts.port or DEFAULT_PORT
    except ValueError:
        raise InvalidSpec(f"cache.urls, entry {number} is no address; {_FORM}") from None
    if parts.scheme not in ("redis", "rediss") or not host:
        raise InvalidSpec(f"cache.urls, entry {number} is no address; {_FORM}")
    if parts.path not in ("", "/", "/0"):
        raise InvalidSpec(
            f"cache.urls, entry {number}: tenants use database 0, so the address must not name another one"
        )
    place = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    return Address(word, parts.scheme, place, purposes)


def tenant_urls(addresses: Sequence[Address], user: str, password: str) -> dict[str, str]:
    """What a tenant's program connects to, by purpose: the first server named for each, with the tenant's own credential."""
    urls: dict[str, str] = {}
    for purpose in PURPOSES:
        first = next((address for address in addresses if purpose in address.purposes), None)
        if first is not None:
            urls[f"{purpose}-url"] = f"{first.scheme}://{user}:{password}@{first.place}/0"
    return urls
