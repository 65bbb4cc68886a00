"""The server's side of mutual TLS: a context from the mounted certificates, reload when they change, and who the caller is.

TLS 1.3 only; the caller needs a certificate of the operator's CA with clientAuth (OpenSSL checks both) whose one name is the
operator's (``peer_identity``). No session tickets: every connection proves itself with the certificates of now.
Called by ``server``; the zygote and its children never get near this.
"""

import hashlib
import ssl
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

CERTIFICATE = "tls.crt"
KEY = "tls.key"
AUTHORITY = "ca.crt"


class CertificatesError(Exception):
    """The mounted certificates cannot be used; the message says which file and why."""


@dataclass(frozen=True, slots=True)
class Identity:
    """A loaded set of certificates: the context for new connections, a fingerprint of the files, the certificate's end."""

    context: ssl.SSLContext
    fingerprint: str
    not_after: datetime


def fingerprint(folder: Path) -> str:
    """A digest over the three files, to see a change. Raises CertificatesError when one cannot be read."""
    digest = hashlib.sha256()
    for name in (CERTIFICATE, KEY, AUTHORITY):
        try:
            data = (folder / name).read_bytes()
        except OSError as error:
            raise CertificatesError(f"{folder / name}: {error.strerror}") from error
        digest.update(b"%d:" % len(data) + data)
    return digest.hexdigest()


def load(folder: Path, *, server_name: str = "") -> Identity:
    """A server context from ``folder``. Raises CertificatesError with the file's name and the cause.

    The certificate has to be valid now, of the authority in ca.crt, for servers, and made out to ``server_name`` when that is
    given: what would be refused by every caller is refused here, where somebody can see it.
    """
    before = fingerprint(folder)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.verify_mode = ssl.CERT_REQUIRED
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    context.num_tickets = 0
    _load_own(context, folder)
    _load_authority(context, folder)
    if fingerprint(folder) != before:
        raise CertificatesError(f"{folder}: the files changed while they were read")
    return Identity(context=context, fingerprint=before, not_after=_check_own(folder, server_name))


def _load_own(context: ssl.SSLContext, folder: Path) -> None:
    try:
        context.load_cert_chain(folder / CERTIFICATE, folder / KEY, password=_no_password)
    except (ssl.SSLError, OSError, ValueError) as error:
        raise CertificatesError(f"{folder / CERTIFICATE} and {KEY}: {error}") from error


def _load_authority(context: ssl.SSLContext, folder: Path) -> None:
    try:
        context.load_verify_locations(cafile=folder / AUTHORITY)
    except (ssl.SSLError, OSError) as error:
        raise CertificatesError(f"{folder / AUTHORITY}: {error}") from error


def _no_password() -> str:
    # Without this OpenSSL would ask on the terminal.
    raise ValueError("the key is encrypted; a key without a passphrase is needed")


def _check_own(folder: Path, server_name: str) -> datetime:
    """A handshake in memory against the own certificate, as a caller does it; gives the certificate's end."""
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    _load_own(server, folder)
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.verify_flags |= ssl.VERIFY_X509_STRICT
    client.check_hostname = bool(server_name)
    _load_authority(client, folder)
    return end_seen_by(client, server, folder, server_name)


def end_seen_by(client: ssl.SSLContext, server: ssl.SSLContext, folder: Path, server_name: str = "") -> datetime:
    """When the server's certificate ends, by a handshake in memory. Raises CertificatesError when that client refuses it."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    there = server.wrap_bio(to_server, to_client, server_side=True)
    here = client.wrap_bio(to_client, to_server, server_hostname=server_name or None)
    for side in (here, there, here):
        try:
            side.do_handshake()
        except ssl.SSLWantReadError:
            continue
        except ssl.SSLCertVerificationError as error:
            raise CertificatesError(f"{folder / CERTIFICATE}: {error.verify_message}") from error
        except ssl.SSLError as error:
            raise CertificatesError(f"{folder / CERTIFICATE}: {error}") from error
    end = (here.getpeercert() or {}).get("notAfter")
    if not isinstance(end, str):
        raise CertificatesError(f"{folder / CERTIFICATE}: the handshake with it did not finish")
    return datetime.fromtimestamp(ssl.cert_time_to_seconds(end), UTC)


def peer_identity(connection: ssl.SSLObject | None) -> str | None:
    """The one DNS name in the caller's certificate; None when there is no certificate or not exactly one name."""
    certificate = connection.getpeercert() if connection is not None else None
    if not certificate:
        return None
    alternatives = certificate.get("subjectAltName", ())
    if len(alternatives) != 1 or alternatives[0][0] != "DNS":
        return None
    return str(alternatives[0][1])
