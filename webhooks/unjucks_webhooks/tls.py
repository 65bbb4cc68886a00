"""The serving certificate: TLS 1.3 from the files of a mounted Secret, exchanged while connections are open.

New files are tried in a context of their own first, then loaded into the one in use: connections that are open stay as they are,
new ones get the new certificate, and none is refused in between. Files that cannot be used are reported and change nothing.
Called by ``server``.
"""

import asyncio
import hashlib
import logging
import os
import ssl
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from unjucks_runtime.renderer.tls import AUTHORITY, CERTIFICATE, KEY, CertificatesError, end_seen_by

log = logging.getLogger(__name__)


class Certificates:
    """See the module's text. ``changed`` is told the end of each certificate that comes into use."""

    def __init__(self, folder: Path, *, changed: Callable[[datetime], None] = lambda _: None) -> None:
        self.folder = folder
        self.context = _server_context()
        self.not_after: datetime | None = None
        self._seen = ""
        self._changed = changed

    def refresh(self) -> bool:
        """Take what is in the files into use if it is new. Raises CertificatesError."""
        pem = self._read()
        seen = hashlib.sha256(pem).hexdigest()
        if seen == self._seen:
            return False
        candidate = _server_context()
        _load(candidate, pem, self.folder)
        end = _end_of(candidate, self.folder)
        _load(self.context, pem, self.folder)
        self._seen, self.not_after = seen, end
        self._changed(end)
        log.info("certificate loaded", extra={"fields": {"notAfter": end.isoformat()}})
        return True

    async def watch(self, interval: float) -> None:
        """Refresh for ever. What is wrong with new files is logged once."""
        complained = ""
        while True:
            await asyncio.sleep(interval)
            try:
                self.refresh()
                complained = ""
            except CertificatesError as error:
                if str(error) != complained:
                    complained = str(error)
                    log.error("the changed certificate cannot be used, the old one stays: %s", error)

    def check(self) -> str | None:
        """What is wrong with the certificate in use, None when nothing is."""
        if self.not_after is None:
            return "no certificate is loaded"
        return "the certificate has ended" if self.not_after <= datetime.now(UTC) else None

    def _read(self) -> bytes:
        parts = []
        for name in (CERTIFICATE, KEY):
            try:
                parts.append((self.folder / name).read_bytes().strip() + b"\n")
            except OSError as error:
                raise CertificatesError(f"{self.folder / name}: {error.strerror}") from error
        return b"".join(parts)


def _server_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.num_tickets = 0
    return context


def _load(context: ssl.SSLContext, pem: bytes, folder: Path) -> None:
    # Both parts from one read, so that they belong together; the ssl module wants a file, and this one has no name.
    descriptor = os.memfd_create("serving", os.MFD_CLOEXEC)
    try:
        with open(descriptor, "wb", closefd=False) as file:
            file.write(pem)
        context.load_cert_chain(f"/proc/self/fd/{descriptor}", password=_no_password)
    except (ssl.SSLError, OSError, ValueError) as error:
        raise CertificatesError(f"{folder / CERTIFICATE} and {KEY}: {error}") from error
    finally:
        os.close(descriptor)


def _no_password() -> str:
    raise ValueError("the key is encrypted; a key without a passphrase is needed")


def _end_of(context: ssl.SSLContext, folder: Path) -> datetime:
    """When the certificate ends; seen by a caller that trusts ca.crt, in a handshake in memory. Raises CertificatesError.

    What every caller would refuse is refused here, where somebody can see it: another authority's certificate, one that has ended.
    """
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    try:
        client.load_verify_locations(cafile=folder / AUTHORITY)
    except (ssl.SSLError, OSError) as error:
        raise CertificatesError(f"{folder / AUTHORITY}: {error}") from error
    return end_seen_by(client, context, folder)
