"""The one way out of a courier: every connection of every protocol is dialled here, to an address that was checked.

A name is resolved once; *all* addresses that come back have to be allowed, and the connection is made to one of exactly these, so
an answer that changes between check and connect changes nothing. ``Network.dial`` gives a plain socket (Git over ssh);
``Network.http`` gives a urllib3 PoolManager (HTTP archives, Git over https, OCI, S3, APIs of Git hosts) that dials the same way,
follows at most five redirects of the same scheme itself, checks each, and drops credentials when the host changes.
Resolver and connector are parameters: tests put stand-ins there. Reads no environment, knows no proxy.
"""

import socket
import ssl
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Any
from urllib.parse import urljoin, urlsplit, urlunsplit

import certifi
import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.response import BaseHTTPResponse

from unjucks_api.courier_protocol import Allow
from unjucks_api.reasons import Reason
from unjucks_api.v1alpha1.tenant_network import NEVER_NETWORKS, IpNetwork
from unjucks_runtime.courier.errors import CourierError, transient

Address = IPv4Address | IPv6Address
Resolver = Callable[[str, int], Sequence[str]]
"""(host, port) to addresses as text, in the order in which they are tried. Raises OSError when the name is unknown."""
Connector = Callable[[str, int, float], socket.socket]
"""(address, port, seconds) to a connected socket. Raises OSError."""

MAX_REDIRECTS = 5
MAX_ADDRESSES = 8
MAX_URL = 2048
_LOOPBACK = (ip_network("127.0.0.0/8"), ip_network("::1/128"))
_CREDENTIAL_HEADERS = frozenset(
    {"authorization", "cookie", "proxy-authorization", "private-token", "job-token", "x-amz-security-token"}
)
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_WRAPPING = (ip_network("64:ff9b::/96"), ip_network("::ffff:0:0:0/96"))
"""A translator's (NAT64) and the translated addresses of RFC 2765: the last 32 bits are an IPv4 address."""


def system_resolver(host: str, port: int) -> Sequence[str]:
    """What the machine's resolver says, each address once."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return tuple(dict.fromkeys(str(item[4][0]) for item in found))


def system_connector(address: str, port: int, seconds: float) -> socket.socket:
    """A TCP connection to the address itself; nothing is resolved."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    connection = socket.socket(family, socket.SOCK_STREAM)
    try:
        connection.settimeout(seconds)
        connection.connect((address, port))
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    except BaseException:
        connection.close()
        raise
    return connection


def printable_url(url: str) -> str:
    """The URL as messages may show it: without userinfo, query and fragment, on one line."""
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        return "(no readable URL)"
    host = f"[{host}]" if ":" in host else host
    text = urlunsplit((parts.scheme, host + port, parts.path, "", ""))
    return "".join(char if char.isprintable() else "\ufffd" for char in text)[:256]


def check_url(url: str, schemes: Iterable[str] = ("https",)) -> str:
    """The URL, when it has one of the schemes, a host, and no credentials. Raises CourierError (UrlInvalid)."""
    try:
        parts = urlsplit(url)
        port = parts.port
        host = parts.hostname or ""
    except ValueError:
        raise _url_invalid("the URL cannot be read") from None
    shown = printable_url(url)
    if len(url) > MAX_URL or any(char <= " " or char == "\\" or not char.isprintable() for char in url):
        raise _url_invalid(f"{shown}: a URL has at most {MAX_URL} characters and neither blanks nor backslashes")
    if parts.scheme not in set(schemes):
        raise _url_invalid(f"{shown}: the scheme has to be one of {', '.join(sorted(set(schemes)))}")
    if not host or port == 0:
        raise _url_invalid(f"{shown}: the URL names no host, or port 0")
    if parts.password is not None or (parts.username is not None and parts.scheme != "ssh"):
        raise _url_invalid(f"{shown}: the URL holds credentials; put them into the Secret of secretRef")
    return url


def _url_invalid(message: str) -> CourierError:
    return CourierError(Reason.URL_INVALID, message)


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds. ``total`` counts from when the Network was made, over everything that is done with it."""

    connect: float = 10.0
    read: float = 30.0
    total: float = 60.0


class AddressPolicy:
    """Which addresses may be dialled. Pure.

    Never: link-local, metadata services, multicast, tunnels (``NEVER_NETWORKS``) and the request's ``closed`` ranges (the cluster's
    own). Loopback only by an explicit range of ``cidrs``. Everything in ``cidrs``. Global addresses when the host is in ``hosts``.
    ``services`` names single hosts with a port of the platform's own choice that may lie in the cluster.
    """

    def __init__(self, allow: Allow) -> None:
        self._cidrs = _networks(allow.cidrs)
        self._closed = _networks(allow.closed)
        self._hosts = tuple(pattern.lower().rstrip(".") for pattern in allow.hosts)
        self._services = frozenset((item.host.lower().rstrip("."), item.port) for item in allow.services)

    def refusal(self, host: str, port: int, address: Address) -> str:
        """Why the address may not be dialled for this host and port; empty when it may."""
        real = unwrapped(address)
        if _within(real, _LOOPBACK):
            return "" if _within(real, self._cidrs) else "it is a loopback address"
        if _within(address, NEVER_NETWORKS) or _within(real, NEVER_NETWORKS):
            return "it is link-local, a metadata service, multicast, reserved or a tunnel"
        if (host.lower().rstrip("."), port) in self._services:
            return ""
        if _within(address, self._closed) or _within(real, self._closed):
            return "it belongs to the cluster itself"
        if _within(real, self._cidrs):
            return ""
        if not real.is_global:
            return "it is a private address that is not in the allow-list"
        if any(matches(host, pattern) for pattern in self._hosts):
            return ""
        return "neither the host nor the address is in the allow-list"


def matches(host: str, pattern: str) -> bool:
    """Whether the host is the pattern, or lies below it when that starts with ``*.``; ``*`` is every host."""
    name = host.lower().rstrip(".")
    if pattern == "*":
        return True
    if pattern.startswith("*."):
        return name.endswith(pattern[1:]) and len(name) > len(pattern) - 1
    return name == pattern


def unwrapped(address: Address) -> Address:
    """The IPv4 address inside an IPv6 one, when it only wraps it; else the address itself."""
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return address.ipv4_mapped
        if _within(address, _WRAPPING):
            return IPv4Address(int(address) & 0xFFFFFFFF)
    return address


def _networks(texts: Iterable[str]) -> tuple[IpNetwork, ...]:
    return tuple(ip_network(text) for text in texts)


def _within(address: Address, networks: Iterable[IpNetwork]) -> bool:
    return any(address.version == network.version and address in network for network in networks)


class Network:
    """The guarded way out for one request. See the module's text."""

    def __init__(
        self,
        allow: Allow,
        timeouts: Timeouts,
        *,
        resolve: Resolver = system_resolver,
        connect: Connector = system_connector,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._policy = AddressPolicy(allow)
        self._timeouts = timeouts
        self._resolve = resolve
        self._connect = connect
        self._clock = clock
        self._end = clock() + timeouts.total

    @property
    def remaining(self) -> float:
        """Seconds until the total time is over. Raises CourierError (FetchFailed) when it is."""
        left = self._end - self._clock()
        if left <= 0:
            raise CourierError(
                Reason.FETCH_FAILED,
                f"not finished within {self._timeouts.total:g} s (spec.timeout)",
                retryable=True,
                limit="time",
            )
        return left

    def addresses(self, host: str, port: int) -> tuple[str, ...]:
        """The host's addresses, all of which may be dialled. Raises CourierError: EgressRefused or FetchFailed."""
        name = host.strip("[]").partition("%")[0] if ":" in host else host
        literal = _literal(name)
        if literal is not None:
            found: Sequence[str] = (str(literal),)
        else:
            if not name or name.replace(".", "").isdigit() or name.lower().startswith("0x"):
                raise CourierError(
                    Reason.EGRESS_REFUSED, f"host {name[:80]!r} is no name and no address in its usual form"
                )
            try:
                found = self._resolve(name, port)
            except (OSError, UnicodeError):
                raise transient(f"the name {name[:80]} could not be resolved") from None
        if not found:
            raise transient(f"the name {name[:80]} has no address")
        for text in found:
            address = _literal(text.partition("%")[0])
            why = "it is no address" if address is None else self._policy.refusal(name, port, address)
            if why:
                raise CourierError(
                    Reason.EGRESS_REFUSED,
                    f"{name[:80]} leads to {text[:64]}, which must not be called: {why}. No connection was made",
                )
        return tuple(found[:MAX_ADDRESSES])

    def dial(self, host: str, port: int) -> socket.socket:
        """A connected TCP socket to the host, with the read time-out set. Raises CourierError."""
        last = ""
        for address in self.addresses(host, port):
            try:
                connection = self._connect(address, port, min(self._timeouts.connect, self.remaining))
            except OSError as error:
                last = (
                    "no answer in time" if isinstance(error, TimeoutError) else (error.strerror or type(error).__name__)
                )
                continue
            connection.settimeout(min(self._timeouts.read, self.remaining))
            return connection
        raise transient(f"no connection to {host[:80]} port {port}: {last}")

    def http(
        self,
        *,
        authority: bytes | None = None,
        client: tuple[str, str] | None = None,
        plain: bool = False,
        headers: Mapping[str, str] | None = None,
    ) -> "GuardedPoolManager":
        """A PoolManager that dials here. ``authority``: PEM of the CAs that count instead of the public ones. ``client``: files of
        a client certificate and its key. ``plain``: http URLs are allowed too (artifacts of Flux)."""
        try:
            context = tls_context(authority, client)
        except (ssl.SSLError, OSError, ValueError):
            raise CourierError(
                Reason.AUTHENTICATION_FAILED,
                "the CA or client certificate of the Secret cannot be used (PEM is expected)",
            ) from None
        return GuardedPoolManager(self, context, plain=plain, headers=headers)

    @property
    def timeout(self) -> urllib3.Timeout:
        """For one request, from now."""
        left = self.remaining
        return urllib3.Timeout(connect=min(self._timeouts.connect, left), read=min(self._timeouts.read, left))


def _literal(text: str) -> Address | None:
    try:
        return ip_address(text)
    except ValueError:
        return None


def tls_context(authority: bytes | None = None, client: tuple[str, str] | None = None) -> ssl.SSLContext:
    """TLS 1.2 or newer, names and chains verified. Raises ssl.SSLError, OSError or ValueError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if authority is not None:
        context.load_verify_locations(cadata=authority.decode("ascii"))
    else:
        context.load_verify_locations(cafile=certifi.where())
    if client is not None:
        context.load_cert_chain(*client, password=lambda: b"")
    return context


class _DialledHttp(HTTPConnection):
    network: Network

    def _new_conn(self) -> socket.socket:
        return self.network.dial(self._dns_host, self.port or 80)


class _DialledHttps(HTTPSConnection):
    network: Network

    def _new_conn(self) -> socket.socket:
        return self.network.dial(self._dns_host, self.port or 443)


class GuardedPoolManager(urllib3.PoolManager):
    """urllib3's PoolManager over ``Network.dial``. Redirects: see the module's text; requests are never repeated by themselves.

    Errors of the network come out as CourierError (FetchFailed, retryable; EgressRefused; UrlInvalid).
    """

    def __init__(
        self, network: Network, context: ssl.SSLContext, *, plain: bool, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(num_pools=8, headers=dict(headers or {}), ssl_context=context, retries=False)
        self.network = network
        self.schemes = ("https", "http") if plain else ("https",)
        http = type("GuardedHttp", (_DialledHttp,), {"network": network})
        https = type("GuardedHttps", (_DialledHttps,), {"network": network})
        self.pool_classes_by_scheme = {
            "http": type("GuardedHttpPool", (HTTPConnectionPool,), {"ConnectionCls": http}),
            "https": type("GuardedHttpsPool", (HTTPSConnectionPool,), {"ConnectionCls": https}),
        }

    def urlopen(self, method: str, url: str, redirect: bool = True, **kw: Any) -> BaseHTTPResponse:  # type: ignore[override]
        """One request, with its redirects when they are wanted. ``response.geturl()`` is where it ended."""
        kw["retries"] = False
        kw["timeout"] = self.network.timeout
        for _ in range(MAX_REDIRECTS + 1):
            check_url(url, self.schemes)
            response = self._once(method, url, kw)
            target = response.headers.get("Location")
            if not redirect or response.status not in _REDIRECTS or not target:
                response._request_url = url
                return response
            response.close()  # its body, which may have no end, is not read
            target = urljoin(url, target)
            before, after = urlsplit(url), urlsplit(target)
            if after.scheme != before.scheme:
                raise CourierError(
                    Reason.EGRESS_REFUSED, f"{printable_url(url)} redirects to another scheme ({printable_url(target)})"
                )
            if method not in ("GET", "HEAD"):
                if response.status in (307, 308) and _origin(before) == _origin(after):
                    url = target
                    continue
                raise CourierError(
                    Reason.EGRESS_REFUSED, f"{printable_url(url)} redirects a {method}, which is not followed"
                )
            if _origin(before) != _origin(after):
                kw["headers"] = {
                    key: value
                    for key, value in (kw.get("headers") or self.headers).items()
                    if key.lower() not in _CREDENTIAL_HEADERS
                }
            url = target
        raise CourierError(Reason.FETCH_FAILED, f"{printable_url(url)}: more than {MAX_REDIRECTS} redirects")

    def _once(self, method: str, url: str, kw: dict[str, Any]) -> BaseHTTPResponse:
        try:
            return super().urlopen(method, url, redirect=False, **kw)
        except CourierError:
            raise
        except urllib3.exceptions.SSLError as error:
            raise CourierError(
                Reason.FETCH_FAILED, f"{printable_url(url)}: TLS failed: {_tls_text(error)}", retryable=True
            ) from None
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise transient(f"{printable_url(url)}: {network_text(error)}") from None


def _origin(parts: Any) -> tuple[str, str, int | None]:
    return parts.scheme, (parts.hostname or "").lower(), parts.port


def _tls_text(error: Exception) -> str:
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"the server's certificate is not trusted ({cause.verify_message})"
        nested = cause.args[0] if cause.args and isinstance(cause.args[0], BaseException) else None
        cause = nested or cause.__cause__ or cause.__context__
    return "the handshake did not succeed"


def network_text(error: BaseException) -> str:
    """What happened on the wire, without the library's own text, which may hold the URL."""
    if isinstance(error, urllib3.exceptions.TimeoutError | TimeoutError):
        return "no answer in time"
    if isinstance(error, urllib3.exceptions.ProtocolError | urllib3.exceptions.IncompleteRead | ConnectionError):
        return "the connection broke before the answer was complete"
    return f"the request failed ({type(error).__name__})"


def read_body(network: Network, response: BaseHTTPResponse, most: int, what: str) -> bytes:
    """The whole body, at most ``most`` bytes as they come off the wire. Raises CourierError: ArchiveTooLarge or FetchFailed."""
    declared = response.headers.get("Content-Length", "")
    if declared.isdigit() and int(declared) > most:
        raise too_large(what, most)
    content = bytearray()
    try:
        while chunk := response.read1(1 << 16, decode_content=False):
            _ = network.remaining
            content += chunk
            if len(content) > most:
                raise too_large(what, most)
    except (urllib3.exceptions.HTTPError, OSError) as error:
        raise transient(f"{what}: {network_text(error)}") from None
    finally:
        response.close()
    if declared.isdigit() and len(content) != int(declared):
        raise transient(f"{what}: the connection ended after {len(content)} of {declared} bytes")
    return bytes(content)


def too_large(what: str, most: int) -> CourierError:
    """More bytes than are allowed."""
    return CourierError(Reason.ARCHIVE_TOO_LARGE, f"{what} is larger than {most} bytes", limit="download")
