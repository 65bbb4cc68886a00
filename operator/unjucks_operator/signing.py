"""The platform's private key for provenance. Pure. Called by ``platform``, which reads it, and ``job.provenance``, which signs."""

import hashlib
from dataclasses import dataclass

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from unjucks_operator.errors import InvalidSpec


@dataclass(frozen=True, slots=True)
class Signer:
    """A private key. ``key_id``: ``sha256:`` of its public key (DER, SubjectPublicKeyInfo)."""

    key: ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey
    key_id: str

    def sign(self, message: bytes) -> bytes:
        """Ed25519, or ECDSA with SHA-256 in DER."""
        if isinstance(self.key, ed25519.Ed25519PrivateKey):
            return self.key.sign(message)
        return self.key.sign(message, ec.ECDSA(hashes.SHA256()))


def read_signer(pem: bytes) -> Signer:
    """Raises InvalidSpec for anything but an unencrypted PEM of an Ed25519 or P-256 private key."""
    try:
        key = serialization.load_pem_private_key(pem, None)
    except (ValueError, TypeError):
        raise InvalidSpec("the key for provenance is no private key in PEM without a password") from None
    usable = isinstance(key, ed25519.Ed25519PrivateKey) or (
        isinstance(key, ec.EllipticCurvePrivateKey) and isinstance(key.curve, ec.SECP256R1)
    )
    if not usable:
        raise InvalidSpec("the key for provenance has to be Ed25519 or ECDSA P-256")
    assert isinstance(key, ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey)
    public = key.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return Signer(key, "sha256:" + hashlib.sha256(public).hexdigest())
