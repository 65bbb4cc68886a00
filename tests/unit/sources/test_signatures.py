"""OpenPGP signatures over Git objects, who may sign with SSH, and versions in ranges. (The rest is tried against real servers.)"""

import base64
import hashlib
import struct
import time
from datetime import UTC, datetime, timedelta

import pysequoia
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from unjucks_api.reasons import Reason
from unjucks_runtime.courier.errors import CourierError
from unjucks_runtime.sources.signatures import verify_git
from unjucks_runtime.sources.versions import newest

PAYLOAD = b"tree 0\nauthor x\n\nmessage\n"


def test_openpgp() -> None:
    owner, stranger = pysequoia.Tsk.generate("owner"), pysequoia.Tsk.generate("stranger")
    signature = pysequoia.sign(owner.signer(), PAYLOAD, mode=pysequoia.SignatureMode.DETACHED)
    public = {key: str(tsk.extract_certificate()).encode() for key, tsk in (("owner", owner), ("stranger", stranger))}
    assert verify_git(PAYLOAD, signature, public, "commit x").startswith("OpenPGP certificate ")
    for payload, given, signers in (
        (PAYLOAD + b"more", signature, public),
        (PAYLOAD, signature, {"stranger": public["stranger"]}),
        (PAYLOAD, signature, {}),
        (PAYLOAD, signature, {"bad": b"-----BEGIN PGP PUBLIC KEY BLOCK-----\nnonsense\n"}),
        (PAYLOAD, signature[:-40] + b"\n-----END PGP SIGNATURE-----\n", public),
        (PAYLOAD, b"-----BEGIN SSH SIGNATURE-----\nAAAA\n-----END SSH SIGNATURE-----", public),
        (PAYLOAD, b"-----BEGIN SIGNED MESSAGE-----", public),
        (PAYLOAD, None, public),
    ):
        with pytest.raises(CourierError) as caught:
            verify_git(payload, given, signers, "commit x")
        assert caught.value.reason is Reason.VERIFICATION_FAILED


def test_openpgp_keys_that_are_revoked_or_expired() -> None:
    owner = pysequoia.Tsk.generate("owner")
    signature = pysequoia.sign(owner.signer(), PAYLOAD, mode=pysequoia.SignatureMode.DETACHED)
    certificate = owner.extract_certificate()
    revoked = pysequoia.Cert.from_bytes(bytes(certificate) + bytes(certificate.revoke(owner.certifier())))
    early = datetime.now(UTC) + timedelta(seconds=1)
    expired = certificate.set_expiration(expiration=early, certifier=owner.certifier())
    while datetime.now(UTC) <= early + timedelta(seconds=1):
        time.sleep(0.1)
    late = pysequoia.sign(owner.signer(), PAYLOAD, mode=pysequoia.SignatureMode.DETACHED)
    assert verify_git(PAYLOAD, late, {"k": str(certificate).encode()}, "commit x")
    for given, key in ((signature, revoked), (late, expired)):
        with pytest.raises(CourierError) as caught:
            verify_git(PAYLOAD, given, {"k": str(key).encode()}, "commit x")
        assert caught.value.reason is Reason.VERIFICATION_FAILED


COMMIT = b"tree 0\nauthor a <a@b> 1 +0000\ncommitter a <a@b> 1767225600 +0100\n\ncommitter x <x@y> 1 +0000\n"
"""Of the first second of 2026."""


def packed(*parts: bytes) -> bytes:
    return b"".join(struct.pack(">I", len(part)) + part for part in parts)


def ssh_signed(key: Ed25519PrivateKey, payload: bytes, namespace: bytes = b"git") -> bytes:
    """As ``ssh-keygen -Y sign`` writes it."""
    public = packed(b"ssh-ed25519", key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw))
    signed = b"SSHSIG" + packed(namespace, b"", b"sha512", hashlib.sha512(payload).digest())
    made = packed(b"ssh-ed25519", key.sign(signed))
    blob = b"SSHSIG" + struct.pack(">I", 1) + packed(public, namespace, b"", b"sha512", made)
    return b"-----BEGIN SSH SIGNATURE-----\n" + base64.encodebytes(blob) + b"-----END SSH SIGNATURE-----\n"


@pytest.mark.parametrize(
    ("before", "may"),
    [
        ("", True),
        ("me@example.com ", True),
        ('"me@example.com,you@example.com" ', True),
        ('me namespaces="git" ', True),
        ('me namespaces="file,g*" ', True),
        ('me valid-after="20260101",valid-before="20260102" ', True),
        ('me valid-after="20260101000000Z" ', True),
        ("# me ", False),
        ("me cert-authority ", False),
        ('me cert-authority,namespaces="git" ', False),
        ('me namespaces="file" ', False),
        ('me namespaces="*,!git" ', False),
        ('me valid-before="20251231" ', False),
        ('me valid-after="202601010001" ', False),
        ('me valid-before="some day" ', False),
        ('me namespaces="git",unheard-of="x" ', False),
    ],
)
def test_the_options_of_an_ssh_signer(before: str, may: bool) -> None:
    key = Ed25519PrivateKey.generate()
    line = before.encode() + key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH) + b" a comment\n"
    if may:
        assert verify_git(COMMIT, ssh_signed(key, COMMIT), {"s": line}, "commit x").startswith("SSH key SHA256:")
        with pytest.raises(CourierError):
            verify_git(COMMIT, ssh_signed(key, COMMIT, b"file"), {"s": line}, "commit x")
        return
    with pytest.raises(CourierError) as caught:
        verify_git(COMMIT, ssh_signed(key, COMMIT), {"s": line}, "commit x")
    assert caught.value.reason is Reason.VERIFICATION_FAILED


@pytest.mark.parametrize(
    ("wanted", "chosen"),
    [
        ("*", "v2.10.0"),
        ("1.x", "1.10"),
        ("^1.2", "1.10"),
        ("~1.2.0", "v1.2.9"),
        (">=1.0.0, <1.3", "v1.2.9"),
        (">= 1.0.0 < 1.3.0", "v1.2.9"),
        ("<1.0.0 || >=2.0.0 <2.5", "v2.0.0"),
        (">=3.0.0-0", "v3.0.0-rc.1"),
        ("1.2.0 - 1.2.9", "v1.2.9"),
    ],
)
def test_the_newest_version_in_a_range(wanted: str, chosen: str) -> None:
    tags = ["v0.9.0", "v1.2.0", "v1.2.9", "1.10", "v2.0.0", "v2.10.0", "v3.0.0-rc.1", "nightly", "v1", "release-9.9.9"]
    assert newest(tags, wanted, "x") == chosen
