"""Where the API server is and how we prove who we are: the endpoint, and credentials that can be renewed.

Must not talk to the API server. Made by ``kube.config`` (or by tests), used by ``kube.client`` only.
"""

import asyncio
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from unjucks_operator.engine.clock import Clock
from unjucks_operator.errors import OperatorError, Unavailable

TOKEN_REREAD_SECONDS: Final = 60.0
"""How long a token from a file is trusted. The kubelet renews it at 80 % of its life, an hour in the usual case."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An API server. ``tls`` also holds the client certificate, when there is one; None for plain HTTP (tests only)."""

    server: str
    tls: ssl.SSLContext | None
    tls_server_name: str | None = None
    proxy: str | None = None


class Credentials(Protocol):
    """What goes into the Authorization header, and how to get a new one."""

    def authorization(self) -> str | None:
        """The header's value, or None when the client certificate is all there is. Cheap: called for every request."""

    async def refresh(self) -> bool:
        """The server said 401: fetch again what can be fetched. True when something changed and one more try makes sense."""


class CertificateOnly:
    """The client certificate inside ``Endpoint.tls`` is the credential."""

    def authorization(self) -> str | None:
        """See ``Credentials``."""
        return None

    async def refresh(self) -> bool:
        """Nothing can be fetched again."""
        return False


class TokenFile:
    """A bearer token in a file that somebody else renews (the kubelet): read again every minute and after a 401."""

    def __init__(self, path: Path, clock: Clock, *, reread_seconds: float = TOKEN_REREAD_SECONDS) -> None:
        self._path = path
        self._clock = clock
        self._period = reread_seconds
        self._header = ""
        self._due = float("-inf")

    def authorization(self) -> str | None:
        """See ``Credentials``. Raises Unavailable when the file cannot be read and no earlier token is known."""
        if self._clock.monotonic() >= self._due:
            self._read()
        return self._header

    async def refresh(self) -> bool:
        """See ``Credentials``."""
        before = self._header
        self._read()
        return self._header != before

    def _read(self) -> None:
        # One small file on a memory file system, once a minute: not worth a thread.
        try:
            token = self._path.read_text().strip()
        except OSError as error:
            if self._header:
                return  # the old token may be good for a while; the next request tries the file again
            raise Unavailable(f"the API server's token file {self._path} cannot be read: {error.strerror}") from error
        if not token:
            if self._header:
                return
            raise Unavailable(f"the API server's token file {self._path} is empty")
        self._header = f"Bearer {token}"
        self._due = self._clock.monotonic() + self._period


class Reloadable:
    """Credentials that a loader produces as a whole: a kubeconfig with a token, a password or an exec plug-in.

    ``load`` may block (it reads files and may run the plug-in that the kubeconfig names), so it runs in a thread.
    """

    def __init__(self, header: str | None, load: Callable[[], str | None]) -> None:
        self._header = header
        self._load = load
        self._lock = asyncio.Lock()

    def authorization(self) -> str | None:
        """See ``Credentials``."""
        return self._header

    async def refresh(self) -> bool:
        """See ``Credentials``. Many requests may fail at once; only the first one loads."""
        seen = self._header
        async with self._lock:
            if self._header == seen:
                try:
                    self._header = await asyncio.to_thread(self._load)
                except OperatorError as error:
                    # While we run, a broken kubeconfig is an outage and no fault of whatever is being reconciled.
                    raise Unavailable(error.message) from error
        return self._header != seen
