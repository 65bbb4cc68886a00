"""Certificates as values: what a leaf is, when it has to be renewed, and the operator's own side of mutual TLS.

Pure apart from making keys; no API server here. ``ca`` issues them, ``client`` uses ``client_context``.
"""

import os
import ssl
from dataclasses import dataclass
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from unjucks_api import names

CERTIFICATE = "tls.crt"
KEY = "tls.key"
AUTHORITY = "ca.crt"


@dataclass(frozen=True, slots=True)
class Leaf:
    """A certificate with its key, both PEM, and the bundle of authorities that the other side is checked with."""

    certificate: bytes
    key: bytes
    bundle: bytes
    serial: str
    not_before: datetime
    not_after: datetime

    @property
    def renew_at(self) -> datetime:
        """When it is time for the next one: after two thirds of its life."""
        return renewal_time(self.not_before, self.not_after)

    def secret_data(self) -> dict[str, bytes]:
        """The content of a renderer's certificate Secret, by key."""
        return {CERTIFICATE: self.certificate, KEY: self.key, AUTHORITY: self.bundle}

    def annotations(self) -> dict[str, str]:
        """What tells a planner that sees only metadata when to renew."""
        return {
            names.ANNOTATION_CERT_NOT_AFTER: self.not_after.strftime("%Y-%m-%dT%H:%M:%SZ"),
            names.ANNOTATION_CERT_SERIAL: self.serial,
        }

    def __repr__(self) -> str:
        return f"Leaf(serial={self.serial}, not_after={self.not_after:%Y-%m-%dT%H:%M:%SZ})"


def renewal_time(not_before: datetime, not_after: datetime) -> datetime:
    """Two thirds of the way from one to the other."""
    return not_before + (not_after - not_before) * 2 / 3


def renewal_due(not_after: datetime | None, lifetime: timedelta, now: datetime) -> bool:
    """Whether a certificate known only by its end has to be renewed; True when the end is not known."""
    return not_after is None or now >= not_after - lifetime / 3


def new_key() -> ec.EllipticCurvePrivateKey:
    """A fresh P-256 key."""
    return ec.generate_private_key(ec.SECP256R1())


def key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    """The key as unencrypted PKCS#8 PEM."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def certificate_pem(certificate: x509.Certificate) -> bytes:
    """The certificate as PEM."""
    return certificate.public_bytes(serialization.Encoding.PEM)


def client_context(leaf: Leaf) -> ssl.SSLContext:
    """The operator's TLS context towards renderers: TLS 1.3, our authority only, the server's name is checked."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    context.hostname_checks_common_name = False
    context.load_verify_locations(cadata=leaf.bundle.decode())
    _load_chain(context, leaf.certificate + leaf.key)
    return context


def _load_chain(context: ssl.SSLContext, pem: bytes) -> None:
    # The ssl module takes a key from a file only; this one is in memory and has no name.
    descriptor = os.memfd_create("leaf", os.MFD_CLOEXEC)
    try:
        with open(descriptor, "wb", closefd=False) as file:
            file.write(pem)
        context.load_cert_chain(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)
