"""The certificate authority: what it issues, how it is kept, and its rotation seen by both sides at every step."""

import base64
import ssl
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from unjucks_api import names
from unjucks_operator.errors import Terminal
from unjucks_operator.renderers import ca
from unjucks_operator.renderers.ca import advance, build_secret, new_authority, read_secret
from unjucks_operator.renderers.certificates import Leaf, client_context, renewal_due

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
IDENTITY = names.renderer_identity("0b0e0f4c-5a3e-4f6e-9d5b-0a3b6d1f2c11")


def parsed(leaf: Leaf) -> x509.Certificate:
    return x509.load_pem_x509_certificate(leaf.certificate)


def handshake(server: Leaf, client: Leaf, trusted_by_server: bytes, *, name: str = IDENTITY) -> None:
    """A TLS handshake in memory between the two; raises SSLError when one refuses the other. Uses the machine's time."""
    server_side = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_side.verify_mode = ssl.CERT_REQUIRED
    server_side.verify_flags |= ssl.VERIFY_X509_STRICT
    server_side.load_verify_locations(cadata=trusted_by_server.decode())
    ca_module_load(server_side, server)
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    there = server_side.wrap_bio(to_server, to_client, server_side=True)
    here = client_context(client).wrap_bio(to_client, to_server, server_hostname=name)
    done = set()
    for _ in range(4):
        for side in (here, there):
            if side in done:
                continue
            try:
                side.do_handshake()
                done.add(side)
            except ssl.SSLWantReadError:
                continue
    assert done == {here, there}
    here.write(b"hello")
    assert there.read(5) == b"hello"  # with TLS 1.3 the server's verdict on the client shows here at the latest


def ca_module_load(context: ssl.SSLContext, leaf: Leaf) -> None:
    from unjucks_operator.renderers import certificates

    certificates._load_chain(context, leaf.certificate + leaf.key)


def test_leaf_says_exactly_who_and_what_for() -> None:
    authority = new_authority(NOW)
    for leaf, identity, usage in (
        (authority.issue_server(IDENTITY, NOW), IDENTITY, ExtendedKeyUsageOID.SERVER_AUTH),
        (authority.issue_client(NOW), names.OPERATOR_IDENTITY, ExtendedKeyUsageOID.CLIENT_AUTH),
    ):
        certificate = parsed(leaf)
        extensions = certificate.extensions
        alternative = extensions.get_extension_for_class(x509.SubjectAlternativeName)
        assert alternative.value.get_values_for_type(x509.DNSName) == [identity]
        assert alternative.critical
        assert list(extensions.get_extension_for_class(x509.ExtendedKeyUsage).value) == [usage]
        assert not extensions.get_extension_for_class(x509.BasicConstraints).value.ca
        key = certificate.public_key()
        assert isinstance(key, ec.EllipticCurvePublicKey)
        assert isinstance(key.curve, ec.SECP256R1)
        certificate.verify_directly_issued_by(authority.signer.certificate)
        assert leaf.not_before < NOW < leaf.renew_at < leaf.not_after
        assert leaf.not_after - NOW == ca.LEAF_LIFETIME


def test_authority_signs_no_further_authority() -> None:
    constraints = new_authority(NOW).signer.certificate.extensions.get_extension_for_class(x509.BasicConstraints)
    assert constraints.critical
    assert constraints.value.ca
    assert constraints.value.path_length == 0


def test_every_leaf_has_its_own_key_and_serial() -> None:
    authority = new_authority(NOW)
    first, second = authority.issue_server(IDENTITY, NOW), authority.issue_server(IDENTITY, NOW)
    assert first.serial != second.serial
    assert first.key != second.key


def test_leaf_never_outlives_its_authority() -> None:
    authority = new_authority(NOW)
    end = authority.signer.certificate.not_valid_after_utc
    assert authority.issue_client(end - timedelta(days=3)).not_after == end


def test_secret_keeps_the_authority() -> None:
    authority = new_authority(NOW)
    secret = build_secret(authority, "unjucks-system")
    assert secret["metadata"]["name"] == names.CA_SECRET
    assert (
        names.LABEL_MANAGED_BY not in secret["metadata"]["labels"]
    )  # else the tenants' informer would take it for a child
    again = read_secret(secret)
    assert again.bundle == authority.bundle
    assert again.signer.key.private_numbers() == authority.signer.key.private_numbers()


@pytest.mark.parametrize(
    "spoil",
    [
        lambda data: data.clear(),
        lambda data: data.update({"ca.key": base64.b64encode(b"rubbish").decode()}),
        lambda data: data.update({"ca.crt": "%%%"}),
        lambda data: data.update({"ca.key": build_secret(new_authority(NOW), "x")["data"]["ca.key"]}),
    ],
    ids=["empty", "no key", "no base64", "another one's key"],
)
def test_broken_secret_is_named_and_not_shown(spoil) -> None:  # type: ignore[no-untyped-def]
    secret = build_secret(new_authority(NOW), "unjucks-system")
    private = base64.b64decode(secret["data"]["ca.key"]).decode().splitlines()[1]
    spoil(secret["data"])
    with pytest.raises(Terminal) as caught:
        read_secret(secret)
    assert f"unjucks-system/{names.CA_SECRET}" in caught.value.message
    assert private not in str(caught.value)


def test_repr_shows_no_key() -> None:
    authority = new_authority(NOW)
    leaf = authority.issue_client(NOW)
    assert "PRIVATE" not in repr(authority) + repr(leaf)
    assert leaf.key.decode().splitlines()[1] not in repr(leaf)


def test_nothing_is_due_in_the_first_three_years() -> None:
    authority = new_authority(NOW)
    assert advance(authority, NOW + timedelta(days=3 * 365)) is authority


def test_rotation_runs_in_three_steps_and_ends() -> None:
    authority = new_authority(NOW)
    time = NOW + timedelta(days=4 * 365)
    trusting = advance(authority, time)
    assert trusting.successor is not None
    assert trusting.signer is authority.signer
    assert trusting.bundle.count(b"BEGIN CERTIFICATE") == 2
    assert advance(trusting, time + timedelta(days=6)) is trusting
    issuing = advance(trusting, time + ca.DISTRIBUTION)
    assert issuing.signer is trusting.successor
    assert issuing.predecessors == (authority.signer.certificate,)
    assert advance(issuing, time + ca.LEAF_LIFETIME) is issuing
    done = advance(issuing, time + ca.LEAF_LIFETIME + ca.DISTRIBUTION * 3)
    assert done.predecessors == ()
    assert done.bundle.count(b"BEGIN CERTIFICATE") == 1
    assert advance(done, time + timedelta(days=365)) is done
    for state in (trusting, issuing, done):
        assert read_secret(build_secret(state, "x")).bundle == state.bundle


def test_authority_that_has_ended_is_replaced_at_once() -> None:
    authority = new_authority(NOW)
    late = authority.signer.certificate.not_valid_after_utc + timedelta(days=30)
    state = advance(authority, late)
    while (following := advance(state, late)) is not state:
        state = following
    assert state.signer is not authority.signer
    assert state.issue_client(late).not_after > late
    assert state.predecessors == ()


def test_both_sides_understand_each_other_at_every_step_of_a_rotation() -> None:
    """Old and new leaves on both sides, with the bundles each of them came with."""
    # The steps are taken so that all certificates are valid at the machine's time, which TLS uses.
    now = datetime.now(UTC)
    before = new_authority(now - timedelta(days=4 * 365))
    old_server, old_client = before.issue_server(IDENTITY, now), before.issue_client(now)
    trusting = advance(before, now - ca.DISTRIBUTION)
    assert trusting.successor is not None
    mid_server, mid_client = trusting.issue_server(IDENTITY, now), trusting.issue_client(now)
    issuing = advance(trusting, now)
    assert issuing.signer is trusting.successor
    new_server, new_client = issuing.issue_server(IDENTITY, now), issuing.issue_client(now)
    for server, client in (
        (old_server, old_client),
        (old_server, mid_client),
        (mid_server, mid_client),
        (mid_server, new_client),
        (new_server, mid_client),
        (new_server, new_client),
    ):
        handshake(server, client, server.bundle)


@pytest.mark.parametrize("who", ["renderer calls", "operator serves", "other tenant serves", "other authority"])
def test_certificates_are_good_for_one_thing_only(who: str) -> None:
    now = datetime.now(UTC)
    authority = new_authority(now)
    server, client = authority.issue_server(IDENTITY, now), authority.issue_client(now)
    if who == "renderer calls":
        client = authority.issue_server(IDENTITY, now)
    elif who == "operator serves":
        server = authority.issue_client(now, IDENTITY)
    elif who == "other tenant serves":
        server = authority.issue_server(names.renderer_identity("someone-else"), now)
    else:
        client = new_authority(now).issue_client(now)
    with pytest.raises(ssl.SSLError):
        handshake(server, client, authority.bundle)


def test_renewal_is_due_after_two_thirds_or_when_nothing_is_known() -> None:
    end = NOW + timedelta(days=90)
    assert not renewal_due(end, timedelta(days=90), NOW + timedelta(days=59))
    assert renewal_due(end, timedelta(days=90), NOW + timedelta(days=60))
    assert renewal_due(None, timedelta(days=90), NOW)
