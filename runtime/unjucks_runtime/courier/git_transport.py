"""Git clients over the guarded way out: https through ``Network.http``, ssh with paramiko over ``Network.dial``. No binaries.

Used by what fetches from Git and by what publishes to it. Everything that a server or a library says is turned into a
``CourierError`` here (``git_errors``), without URLs' credentials and without the library's own text of the request.
"""

import base64
import binascii
import io
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import unquote, urlsplit

import paramiko
from dulwich.client import GitClient, HTTPUnauthorized, SSHGitClient, SSHVendor, Urllib3HttpGitClient
from dulwich.errors import GitProtocolError, HangupException, NotGitRepository
from paramiko.hostkeys import HostKeyEntry

from unjucks_api.reasons import Reason
from unjucks_runtime.courier.errors import CourierError, transient
from unjucks_runtime.courier.net import Network, check_url, printable_url, too_large

_SSH_PORT = 22
_DEFAULT_USER = "git"
_MAX_STDERR = 8192
_MAX_SAID = 300


def secret_bytes(secret: Mapping[str, str], *keys: str) -> bytes:
    """The first of the keys that the Secret has, decoded; empty when it has none. Raises CourierError (AuthenticationFailed)."""
    for key in keys:
        if key in secret:
            try:
                return base64.b64decode(secret[key], validate=True)
            except binascii.Error:
                raise CourierError(
                    Reason.AUTHENTICATION_FAILED, f"the Secret's key {key} does not hold base64"
                ) from None
    return b""


def secret_text(secret: Mapping[str, str], *keys: str) -> str:
    """As ``secret_bytes``, as text of one value: without the line end that editors leave."""
    try:
        return secret_bytes(secret, *keys).decode().strip("\r\n")
    except UnicodeDecodeError:
        raise CourierError(
            Reason.AUTHENTICATION_FAILED, f"the Secret's key {' or '.join(keys)} does not hold text"
        ) from None


class Meter:
    """Counts what comes off the wire, and stops a server that sends too much or for too long."""

    def __init__(self, network: Network, shown: str, most: int | None) -> None:
        self._network = network
        self._shown = shown
        self._most = most
        self._seen = 0

    def count(self, data: bytes) -> bytes:
        """The data itself. Raises CourierError."""
        _ = self._network.remaining
        self._seen += len(data)
        if self._most is not None and self._seen > self._most:
            raise too_large(f"what {self._shown} sends", self._most)
        return data


def open_git(url: str, secret: Mapping[str, str], network: Network, most: int | None = None) -> tuple[GitClient, str]:
    """A client and the repository's path for it. Nothing is dialled yet. ``most``: bytes that may come. Raises CourierError."""
    check_url(url, ("https", "ssh"))
    if urlsplit(url).scheme == "ssh":
        return _open_ssh(url, secret, network, Meter(network, printable_url(url), most))
    token, user = secret_text(secret, "bearerToken"), secret_text(secret, "username")
    pool = network.http(authority=secret_bytes(secret, "ca.crt", "caFile") or None)
    password = secret_text(secret, "password", "token")
    if password and not user:
        user = _DEFAULT_USER  # hosts look at the token only, and want some name beside it
    client = _HttpsGit(url, pool_manager=pool, username=user or None, password=password, quiet=True)
    if token:
        # Not as a header of the pool: a redirect may move the repository, and what follows then goes to the other host.
        client._auth_header, client._auth_origin = f"Bearer {token}", client._origin(url)
    client.meter = Meter(network, printable_url(url), most)
    return client, ""


class _HttpsGit(Urllib3HttpGitClient):
    """Sends bodies with their length: not every server in front of Git takes chunks. Counts what comes."""

    meter: Meter

    def _http_request(
        self,
        url: str,
        headers: dict[str, str] | None = None,
        data: bytes | Iterator[bytes] | None = None,
        raise_for_status: bool = True,
    ) -> Any:
        body = data if data is None or isinstance(data, bytes) else b"".join(data)
        response, read = super()._http_request(url, headers, body, raise_for_status)
        return response, lambda *size: self.meter.count(read(*size))


# --- ssh -----------------------------------------------------------------------------------------------------------------
def _open_ssh(url: str, secret: Mapping[str, str], network: Network, meter: Meter) -> tuple[GitClient, str]:
    parts = urlsplit(url)
    client = SSHGitClient(
        parts.hostname or "",
        port=parts.port or _SSH_PORT,
        username=unquote(parts.username) if parts.username else _DEFAULT_USER,
        vendor=_GuardedSsh(secret, network, meter),
        quiet=True,
    )
    return client, unquote(parts.path)


class _GuardedSsh(SSHVendor):
    """One connection for each command; the server's key has to be in known_hosts, the login is by key."""

    def __init__(self, secret: Mapping[str, str], network: Network, meter: Meter) -> None:
        self._secret = secret
        self._network = network
        self._meter = meter

    def run_command(  # type: ignore[override]
        self, host: str, command: bytes, username: str | None = None, port: int | None = None, **_: Any
    ) -> "_Command":
        port = port or _SSH_PORT
        name = host if port == _SSH_PORT else f"[{host}]:{port}"
        keys = _known_hosts(secret_text(self._secret, "known_hosts"), name)
        identity = _private_key(self._secret)
        transport = paramiko.Transport(self._network.dial(host, port))
        try:
            options = transport.get_security_options()
            kinds = {key.get_name() for key in keys}
            if "ssh-rsa" in kinds:
                kinds |= {"rsa-sha2-512", "rsa-sha2-256"}
            options.key_types = [kind for kind in options.key_types if kind in kinds and kind != "ssh-rsa"]
            seconds = self._network.timeout
            transport.banner_timeout = transport.auth_timeout = self._network.remaining
            transport.start_client(timeout=min(seconds.read_timeout or 30.0, self._network.remaining))
            if transport.get_remote_server_key() not in keys:
                raise _host_key(name)
            transport.auth_publickey(username or _DEFAULT_USER, identity)
            channel = transport.open_session(timeout=self._network.remaining)
            channel.settimeout(min(seconds.read_timeout or 30.0, self._network.remaining))
            channel.exec_command(command.decode())
            return _Command(transport, channel, self._meter)
        except BaseException as error:
            transport.close()
            if isinstance(error, paramiko.AuthenticationException):
                raise CourierError(
                    Reason.AUTHENTICATION_FAILED, f"ssh://{name}: the server refused the key of the Secret"
                ) from None
            if isinstance(error, paramiko.ssh_exception.IncompatiblePeer):
                raise _host_key(name) from None
            if isinstance(error, paramiko.SSHException | OSError | EOFError):
                raise transient(f"ssh://{name}: the connection broke ({type(error).__name__})") from None
            raise


class _Command:
    """A remote command as dulwich reads and writes it."""

    def __init__(self, transport: paramiko.Transport, channel: paramiko.Channel, meter: Meter) -> None:
        self._meter = meter
        self._transport = transport
        self._channel = channel

    @property
    def stderr(self) -> io.BytesIO:
        """What the server said so far beside the protocol."""
        said = b""
        while self._channel.recv_stderr_ready() and len(said) < _MAX_STDERR:
            said += self._channel.recv_stderr(4096)
        return io.BytesIO(said)

    def can_read(self) -> bool:
        """Whether bytes wait."""
        return bool(self._channel.recv_ready())

    def read(self, size: int | None = None) -> bytes:
        """Exactly ``size`` bytes, fewer at the end."""
        parts, left = [], size if size is not None else 1 << 30
        while left > 0:
            part = self._channel.recv(min(left, 1 << 16))
            if not part:
                break
            parts.append(self._meter.count(part))
            left -= len(part)
        return b"".join(parts)

    def write(self, data: bytes) -> int:
        """All of it."""
        self._channel.sendall(data)
        return len(data)

    def close(self) -> None:
        """End the command and the connection."""
        self._channel.close()
        self._transport.close()


def _known_hosts(text: str, name: str) -> list[Any]:
    keys = []
    for line in text.splitlines():
        try:
            entry = HostKeyEntry.from_line(line.strip())
        except Exception:  # noqa: S112
            continue  # a line that is no key of a host: comments, markers, kinds that the library does not know
        if entry is not None and entry.key is not None and _names(entry.hostnames, name):
            keys.append(entry.key)
    if not keys:
        raise CourierError(
            Reason.AUTHENTICATION_FAILED,
            f"the Secret's key known_hosts has no key of {name}; add the line that ssh-keyscan prints, once it is checked",
        )
    return keys


def _names(listed: list[str], name: str) -> bool:
    plain = any(item.lower() == name.lower() for item in listed)
    hashed = any(item.startswith("|1|") and paramiko.HostKeys.hash_host(name, item) == item for item in listed)
    return plain or hashed


def _host_key(name: str) -> CourierError:
    return CourierError(
        Reason.AUTHENTICATION_FAILED, f"ssh://{name}: the server's key is not one of those in the Secret's known_hosts"
    )


def _private_key(secret: Mapping[str, str]) -> Any:
    text = secret_bytes(secret, "identity", "ssh-privatekey").decode(errors="replace")
    if not text:
        raise CourierError(Reason.AUTHENTICATION_FAILED, "the Secret has no key identity: a private key for ssh")
    password = secret_text(secret, "password") or None
    for kind in (paramiko.Ed25519Key, paramiko.ECDSAKey, paramiko.RSAKey):
        try:
            return kind.from_private_key(io.StringIO(text), password)
        except Exception:  # noqa: S112
            continue  # another kind of key, or a wrong password: told below
    raise CourierError(
        Reason.AUTHENTICATION_FAILED,
        "the Secret's key identity is no private key (Ed25519, ECDSA or RSA), or password does not open it",
    )


# --- errors --------------------------------------------------------------------------------------------------------------
@contextmanager
def git_errors(url: str) -> Iterator[None]:
    """Turns what dulwich and the wire raise into CourierErrors."""
    shown = printable_url(url)
    try:
        yield
    except CourierError:
        raise
    except HTTPUnauthorized:
        raise CourierError(
            Reason.AUTHENTICATION_FAILED, f"{shown}: the server refused the credentials (HTTP 401)"
        ) from None
    except NotGitRepository:
        raise CourierError(
            Reason.AUTHENTICATION_FAILED,
            f"{shown}: no such repository, or the credentials may not see it (HTTP 404)",
        ) from None
    except HangupException as error:
        said = said_text(b" ".join(getattr(error, "stderr_lines", None) or []).decode(errors="replace"))
        if said:
            raise CourierError(Reason.AUTHENTICATION_FAILED, f"{shown}: the server refused: {said}") from None
        raise transient(f"{shown}: the connection broke before the answer was complete") from None
    except GitProtocolError as error:
        text = str(error)
        if "http resp 403" in text:
            raise CourierError(
                Reason.AUTHENTICATION_FAILED, f"{shown}: the credentials do not allow this (HTTP 403)"
            ) from None
        if "http resp" in text:
            raise transient(f"{shown}: HTTP {said_text(text.partition('http resp ')[2])[:3]}") from None
        raise transient(f"{shown}: the server did not hold Git's protocol") from None
    except (OSError, EOFError, paramiko.SSHException) as error:
        raise transient(f"{shown}: the connection broke ({type(error).__name__})") from None


def said_text(text: str) -> str:
    """A server's words as a message may show them: one line, printable, short."""
    line = " ".join(text.split())
    return "".join(char if char.isprintable() else "\ufffd" for char in line)[:_MAX_SAID]
