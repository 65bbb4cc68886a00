"""Whether a signature is by one of the tenant's signers: OpenPGP and SSH over Git objects, cosign's over OCI artifacts.

Keys come from the Secret of ``verify.secretRef``: OpenPGP certificates, lines of SSH public keys (also in the form of an
allowed-signers file), or public keys in PEM. Nothing is looked up anywhere. Called by the Git and OCI sources.
"""

import base64
import binascii
import hashlib
import re
import struct
from collections.abc import Mapping
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from typing import Any

import pysequoia
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.serialization import load_pem_public_key, load_ssh_public_key

from unjucks_api.reasons import Reason
from unjucks_runtime.courier.errors import CourierError

_SSH_BEGIN, _SSH_END = "-----BEGIN SSH SIGNATURE-----", "-----END SSH SIGNATURE-----"
_PGP_BEGIN = "-----BEGIN PGP SIGNATURE-----"
_MAGIC = b"SSHSIG"
_NAMESPACE = b"git"
_HASHES = {b"sha256": hashlib.sha256, b"sha512": hashlib.sha512}
_SSH_KINDS = ("ssh-ed25519", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521", "ssh-rsa")
_CURVES = {
    b"ecdsa-sha2-nistp256": hashes.SHA256(),
    b"ecdsa-sha2-nistp384": hashes.SHA384(),
    b"ecdsa-sha2-nistp521": hashes.SHA512(),
}
MIN_RSA_BITS = 2048
_SIGNER = re.compile(
    rf'(?:(?:"[^"]*"|\S+)\s+(?:(?P<options>\S.*?)\s+)?)??(?:{"|".join(_SSH_KINDS)})\s+(?P<key>[A-Za-z0-9+/=]+)(?:\s|$)'
)
"""A public key, or a line of ssh-keygen's ALLOWED SIGNERS: principals, options, key."""
_OPTION = re.compile(r'([A-Za-z-]+)(?:="([^"]*)")?')
_TIME = re.compile(rb"^(?:committer|tagger) .*> (\d{1,12}) [+-]\d{4}$", re.MULTILINE)


def verify_git(payload: bytes, signature: bytes | None, signers: Mapping[str, bytes], what: str) -> str:
    """By whom it is signed, for people. Raises CourierError (VerificationFailed)."""
    if not signature:
        raise _failed(f"{what} is not signed")
    text = signature.decode("ascii", errors="replace").strip()
    if text.startswith(_PGP_BEGIN):
        return _verify_pgp(payload, signature, signers, what)
    if text.startswith(_SSH_BEGIN):
        return _verify_ssh(payload, text, signers, what)
    raise _failed(f"{what} has a signature that is neither OpenPGP's nor SSH's")


# --- OpenPGP -------------------------------------------------------------------------------------------------------------
def _verify_pgp(payload: bytes, signature: bytes, signers: Mapping[str, bytes], what: str) -> str:
    certificates = []
    for name, content in sorted(signers.items()):
        if b"PGP PUBLIC KEY" not in content:
            continue
        try:
            certificates.append(pysequoia.Cert.from_bytes(content))
        except Exception:
            raise _failed(f"the key {name} of the signers' Secret is no OpenPGP certificate") from None
    if not certificates:
        raise _failed(f"{what} is signed with OpenPGP, and the signers' Secret has no OpenPGP certificate")
    try:
        result = pysequoia.verify(
            bytes=payload, store=lambda _: certificates, signature=pysequoia.Sig.from_bytes(signature)
        )
    except Exception:
        raise _not_theirs(what, len(certificates)) from None
    if not result.valid_sigs:
        raise _not_theirs(what, len(certificates))
    return f"OpenPGP certificate {result.valid_sigs[0].certificate.upper()}"


# --- SSH -----------------------------------------------------------------------------------------------------------------
def _verify_ssh(payload: bytes, text: str, signers: Mapping[str, bytes], what: str) -> str:
    keys = _ssh_keys(signers, _signed_at(payload))
    if not keys:
        raise _failed(f"{what} is signed with SSH, and the signers' Secret has no SSH public key for Git and this time")
    try:
        body = text.removeprefix(_SSH_BEGIN).partition(_SSH_END)[0]
        blob = base64.b64decode("".join(body.split()), validate=True)
        public, signed, signature = _read_sshsig(blob, payload)
    except (ValueError, struct.error, binascii.Error):
        raise _failed(f"{what} has an SSH signature that cannot be read") from None
    if public not in keys:
        raise _not_theirs(what, len(keys))
    try:
        _check_ssh(public, signed, signature)
    except (InvalidSignature, UnsupportedAlgorithm, ValueError, struct.error):
        raise _failed(f"{what}: the signature does not fit what was fetched") from None
    fingerprint = base64.b64encode(hashlib.sha256(public).digest()).decode().rstrip("=")
    return f"SSH key SHA256:{fingerprint}"


def _ssh_keys(signers: Mapping[str, bytes], when: int | None) -> frozenset[bytes]:
    """The public keys' blobs out of all lines whose options let the key sign this: for Git, and at the time that it says."""
    found = set()
    for content in signers.values():
        for line in content.decode("utf-8", errors="replace").splitlines():
            told = _SIGNER.match(line.strip())
            if told is not None and not line.lstrip().startswith("#") and _may_sign(told["options"] or "", when):
                try:
                    found.add(base64.b64decode(told["key"], validate=True))
                except binascii.Error:
                    continue
    return frozenset(found)


def _may_sign(options: str, when: int | None) -> bool:
    """As ssh-keygen reads them: an option that is not known forbids, and a key of an authority signs certificates only."""
    place = 0
    while place < len(options):
        told = _OPTION.match(options, place)
        if told is None or options[told.end() : told.end() + 1] not in ("", ","):
            return False
        place = told.end() + 1
        name, value = told[1].lower(), told[2]
        if value is None or name not in ("namespaces", "valid-after", "valid-before"):
            return False
        if name == "namespaces":
            patterns = [item.strip() for item in value.split(",")]
            if any(item.startswith("!") and fnmatchcase("git", item[1:]) for item in patterns):
                return False
            if not any(fnmatchcase("git", item) for item in patterns):
                return False
        else:
            limit = _moment(value)
            if limit is None or when is None or (when < limit if name == "valid-after" else when > limit):
                return False
    return True


def _moment(text: str) -> int | None:
    """YYYYMMDD or YYYYMMDDHHMM[SS], with Z or without, which is UTC here as well; in seconds."""
    digits = text.removesuffix("Z")
    if len(digits) not in (8, 12, 14) or not (digits.isascii() and digits.isdigit()):
        return None
    try:
        return int(datetime.strptime(digits.ljust(14, "0"), "%Y%m%d%H%M%S").replace(tzinfo=UTC).timestamp())
    except ValueError:
        return None


def _signed_at(payload: bytes) -> int | None:
    """What a commit or tag says about its time, which is the time that Git compares as well."""
    found = _TIME.search(payload.partition(b"\n\n")[0])
    return int(found[1]) if found else None


def _read_sshsig(blob: bytes, payload: bytes) -> tuple[bytes, bytes, bytes]:
    """(public key, what was signed, signature). Raises ValueError."""
    if blob[:6] != _MAGIC or struct.unpack(">I", blob[6:10])[0] != 1:
        raise ValueError("no SSHSIG of version 1")
    public, rest = _string(blob[10:])
    namespace, rest = _string(rest)
    _, rest = _string(rest)
    algorithm, rest = _string(rest)
    signature, rest = _string(rest)
    if rest or namespace != _NAMESPACE or algorithm not in _HASHES:
        raise ValueError("another namespace or hash")
    parts = (namespace, b"", algorithm, _HASHES[algorithm](payload).digest())
    return public, _MAGIC + b"".join(struct.pack(">I", len(part)) + part for part in parts), signature


def _string(data: bytes) -> tuple[bytes, bytes]:
    size = struct.unpack(">I", data[:4])[0]
    if len(data) < 4 + size:
        raise ValueError("cut short")
    return data[4 : 4 + size], data[4 + size :]


def _check_ssh(public: bytes, signed: bytes, signature: bytes) -> None:
    kind, _ = _string(public)
    key = load_ssh_public_key(kind + b" " + base64.b64encode(public))
    algorithm, rest = _string(signature)
    raw, _ = _string(rest)
    if isinstance(key, ed25519.Ed25519PublicKey) and algorithm == b"ssh-ed25519":
        key.verify(raw, signed)
    elif isinstance(key, ec.EllipticCurvePublicKey) and algorithm == kind and kind in _CURVES:
        r, tail = _string(raw)
        s, _ = _string(tail)
        from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

        der = encode_dss_signature(int.from_bytes(r, "big"), int.from_bytes(s, "big"))
        key.verify(der, signed, ec.ECDSA(_CURVES[kind]))
    elif isinstance(key, rsa.RSAPublicKey) and algorithm in (b"rsa-sha2-256", b"rsa-sha2-512"):
        if key.key_size < MIN_RSA_BITS:
            raise ValueError("the RSA key is too short")
        chosen = hashes.SHA256() if algorithm == b"rsa-sha2-256" else hashes.SHA512()
        key.verify(raw, signed, padding.PKCS1v15(), chosen)
    else:
        raise ValueError("a kind of key or signature that is not taken")


# --- cosign --------------------------------------------------------------------------------------------------------------
def pem_keys(signers: Mapping[str, bytes]) -> list[tuple[str, Any]]:
    """The public keys of the Secret with their names there. Raises CourierError when there is none, or one cannot be read."""
    keys = []
    for name, content in sorted(signers.items()):
        if b"PUBLIC KEY" not in content or b"PGP" in content:
            continue
        try:
            keys.append((name, load_pem_public_key(content)))
        except (ValueError, UnsupportedAlgorithm):
            raise _failed(f"the key {name} of the signers' Secret is no public key in PEM form") from None
    if not keys:
        raise _failed("the signers' Secret has no public key in PEM form")
    return keys


def fits(key: Any, payload: bytes, signature: bytes) -> bool:
    """Whether this key made the signature."""
    try:
        if isinstance(key, ec.EllipticCurvePublicKey):
            key.verify(signature, payload, ec.ECDSA(hashes.SHA256()))
        elif isinstance(key, rsa.RSAPublicKey) and key.key_size >= MIN_RSA_BITS:
            key.verify(signature, payload, padding.PKCS1v15(), hashes.SHA256())
        elif isinstance(key, ed25519.Ed25519PublicKey):
            key.verify(signature, payload)
        else:
            return False
    except InvalidSignature:
        return False
    return True


def _failed(message: str) -> CourierError:
    return CourierError(Reason.VERIFICATION_FAILED, message)


def _not_theirs(what: str, keys: int) -> CourierError:
    return _failed(f"{what} is not signed by any of the {keys} key(s) in the signers' Secret, or was changed since")
