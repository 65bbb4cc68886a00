"""The operator's own certificate authority: made once, kept in one Secret, replaced in three steps that nobody notices.

    authority        issues leaves                                       (always one)
    successor        trusted already, issues nothing yet                 (near the end of the authority's life)
    predecessors     trusted still, issue nothing more                   (until their last leaf has ended)

Server certificates are for servers only and the operator's for clients only, so a stolen renderer certificate calls nobody. All
functions take the time as a parameter and are pure apart from making keys; only ``load_authority`` talks to the API server.
Called by the wiring at the start and daily, and by the tenant's reconcile for the renderer's certificate.
"""

import base64
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from unjucks_api import names
from unjucks_api.reasons import Reason
from unjucks_operator.errors import Conflict, Terminal
from unjucks_operator.kube.api import KubeApi, Manifest
from unjucks_operator.kube.resources import SECRET
from unjucks_operator.renderers.certificates import Leaf, certificate_pem, key_pem, new_key, renewal_time

AUTHORITY_LIFETIME: Final = timedelta(days=5 * 365)
LEAF_LIFETIME: Final = timedelta(days=90)
DISTRIBUTION: Final = timedelta(days=7)
"""How long a successor is only trusted before it issues: every renderer has its certificate in the bundle by then."""

_BACKDATE: Final = timedelta(minutes=10)  # for clocks that are a little behind
_AUTHORITY_KEYS: Final = ("ca.crt", "ca.key")
_SUCCESSOR_KEYS: Final = ("next.crt", "next.key")
_OLD: Final = "previous.crt"


@dataclass(frozen=True, slots=True)
class Signer:
    """An authority's certificate and its key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    def __repr__(self) -> str:
        return f"Signer(serial={self.certificate.serial_number:x})"


@dataclass(frozen=True, slots=True)
class Authority:
    """The whole state of the authority, as kept in the Secret."""

    signer: Signer
    successor: Signer | None = None
    predecessors: tuple[x509.Certificate, ...] = ()

    @property
    def bundle(self) -> bytes:
        """PEM of every authority that is trusted now, the issuing one first."""
        trusted = [self.signer.certificate]
        if self.successor is not None:
            trusted.append(self.successor.certificate)
        return b"".join(map(certificate_pem, [*trusted, *self.predecessors]))

    def issue_server(self, identity: str, now: datetime) -> Leaf:
        """A server certificate for a renderer; ``identity`` is ``names.renderer_identity`` of its tenant."""
        return self._issue(identity, ExtendedKeyUsageOID.SERVER_AUTH, now)

    def issue_client(self, now: datetime, identity: str = names.OPERATOR_IDENTITY) -> Leaf:
        """The operator's client certificate."""
        return self._issue(identity, ExtendedKeyUsageOID.CLIENT_AUTH, now)

    def _issue(self, identity: str, usage: x509.ObjectIdentifier, now: datetime) -> Leaf:
        key = new_key()
        issuer = self.signer.certificate
        end = min(now + LEAF_LIFETIME, issuer.not_valid_after_utc)
        start = max(now - _BACKDATE, issuer.not_valid_before_utc)
        certificate = (
            # The subject stays empty: identities are longer than a common name may be, and only the alternative name counts.
            _builder(x509.Name([]), issuer.subject, key.public_key(), start, end)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(identity)]), critical=True)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(digital_signature=True), critical=True)
            .add_extension(x509.ExtendedKeyUsage([usage]), critical=True)
            .add_extension(_issued_by(issuer), critical=False)
            .sign(self.signer.key, hashes.SHA256())
        )
        return Leaf(
            certificate=certificate_pem(certificate),
            key=key_pem(key),
            bundle=self.bundle,
            serial=f"{certificate.serial_number:x}",
            not_before=certificate.not_valid_before_utc,
            not_after=certificate.not_valid_after_utc,
        )


def new_authority(now: datetime) -> Authority:
    """The first authority of an installation."""
    return Authority(signer=_new_signer(now))


def _new_signer(now: datetime) -> Signer:
    key = new_key()
    # The time in the name keeps two generations apart for those who search an issuer by name.
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"{names.MANAGED_BY} CA {now:%Y-%m-%dT%H:%M:%SZ}")])
    certificate = (
        _builder(name, name, key.public_key(), now - _BACKDATE, now + AUTHORITY_LIFETIME)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(key_cert_sign=True, crl_sign=True), critical=True)
        .sign(key, hashes.SHA256())
    )
    return Signer(certificate, key)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, start: datetime, end: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(end)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _issued_by(issuer: x509.Certificate) -> x509.AuthorityKeyIdentifier:
    identifier = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier)


def _key_usage(
    *, digital_signature: bool = False, key_cert_sign: bool = False, crl_sign: bool = False
) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=key_cert_sign,
        crl_sign=crl_sign,
        encipher_only=False,
        decipher_only=False,
    )


def advance(authority: Authority, now: datetime) -> Authority:
    """The next state of the rotation; the same object while nothing is due. To be called again until it returns its argument."""
    current = authority.signer.certificate
    alive = tuple(old for old in authority.predecessors if not _spent(old, current, now))
    if len(alive) != len(authority.predecessors):
        return replace(authority, predecessors=alive)
    if authority.successor is not None:
        ready_at = authority.successor.certificate.not_valid_before_utc + _BACKDATE + DISTRIBUTION
        if now >= min(ready_at, current.not_valid_after_utc):
            return Authority(signer=authority.successor, predecessors=(current, *alive))
        return authority
    if now >= renewal_time(current.not_valid_before_utc, current.not_valid_after_utc):
        return replace(authority, successor=_new_signer(now))
    return authority


def _spent(old: x509.Certificate, current: x509.Certificate, now: datetime) -> bool:
    """Whether no leaf of ``old`` can be valid any more: ``current`` issues since its distribution ended."""
    last_leaf = current.not_valid_before_utc + _BACKDATE + DISTRIBUTION + LEAF_LIFETIME
    return now >= min(last_leaf + DISTRIBUTION, old.not_valid_after_utc)


# --- the Secret -------------------------------------------------------------------------------------------------------------


def build_secret(authority: Authority, namespace: str) -> Manifest:
    """The Secret that keeps the authority. Not one of the tenants' children, hence without their label of management."""
    content = dict(zip(_AUTHORITY_KEYS, _signer_pem(authority.signer), strict=True))
    if authority.successor is not None:
        content |= dict(zip(_SUCCESSOR_KEYS, _signer_pem(authority.successor), strict=True))
    if authority.predecessors:
        content[_OLD] = b"".join(map(certificate_pem, authority.predecessors))
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": "Opaque",
        "metadata": {
            "name": names.CA_SECRET,
            "namespace": namespace,
            "labels": {
                names.LABEL_NAME: names.PART_OF,
                names.LABEL_COMPONENT: names.COMPONENT_OPERATOR,
                names.LABEL_PART_OF: names.PART_OF,
            },
        },
        "data": {key: base64.b64encode(value).decode() for key, value in content.items()},
    }


def _signer_pem(signer: Signer) -> tuple[bytes, bytes]:
    return certificate_pem(signer.certificate), key_pem(signer.key)


def read_secret(secret: Manifest) -> Authority:
    """The authority in the Secret. Raises Terminal when it cannot be used; the message holds nothing of its content."""
    data: dict[str, Any] = secret.get("data") or {}
    try:
        content = {key: base64.b64decode(value, validate=True) for key, value in data.items()}
        successor = _read_signer(content, _SUCCESSOR_KEYS) if _SUCCESSOR_KEYS[0] in content else None
        old = tuple(x509.load_pem_x509_certificates(content[_OLD])) if content.get(_OLD) else ()
        return Authority(_read_signer(content, _AUTHORITY_KEYS), successor, old)
    except (KeyError, ValueError, TypeError) as error:
        metadata = secret.get("metadata") or {}
        raise Terminal(
            f"Secret {metadata.get('namespace')}/{metadata.get('name')} does not hold a usable certificate authority "
            f"({type(error).__name__}); restore it, or delete it to have a new one made (renderers restart)",
            reason=Reason.INTERNAL_ERROR,
        ) from None


def _read_signer(content: dict[str, bytes], keys: tuple[str, str]) -> Signer:
    certificate = x509.load_pem_x509_certificate(content[keys[0]])
    key = serialization.load_pem_private_key(content[keys[1]], password=None)
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != certificate.public_key():
        raise ValueError("key and certificate do not belong together")
    return Signer(certificate, key)


async def load_authority(api: KubeApi, namespace: str, now: datetime) -> Authority:
    """The installation's authority: read, made when there is none, moved on when it is time.

    Safe against another operator doing the same: the Secret is created, never overwritten, and replaced under its version;
    whoever loses takes what the other one stored. Raises what KubeApi raises, and Terminal for a broken Secret.
    """
    for _ in range(5):
        secret = await api.get(SECRET, names.CA_SECRET, namespace)
        if secret is None:
            secret = await api.create(build_secret(new_authority(now), namespace), manager=names.MANAGER_PLATFORM)
            if secret is None:
                continue
        authority = read_secret(secret)
        following = advance(authority, now)
        if following is authority:
            return authority
        await _store(api, following, secret, namespace)
    raise Conflict(f"Secret {namespace}/{names.CA_SECRET} is being changed by somebody else; it is read again")


async def _store(api: KubeApi, authority: Authority, previous: Manifest, namespace: str) -> None:
    manifest = build_secret(authority, namespace)
    manifest["metadata"]["resourceVersion"] = previous["metadata"]["resourceVersion"]
    manifest["metadata"]["uid"] = previous["metadata"]["uid"]
    try:
        await api.replace(manifest, manager=names.MANAGER_PLATFORM)
    except Conflict:
        pass  # somebody was faster; the next read shows what is there now
