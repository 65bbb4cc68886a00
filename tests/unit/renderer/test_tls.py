"""The server's certificates: what is loaded, and what is refused where somebody can see it."""

import os
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from support.renderer import write_certificates
from unjucks_api import names
from unjucks_operator.renderers.ca import new_authority
from unjucks_operator.renderers.certificates import Leaf
from unjucks_runtime.renderer import tls

NOW = datetime.now(UTC)
AUTHORITY = new_authority(NOW - timedelta(days=200))
IDENTITY = names.renderer_identity("uid")


def mounted(folder: Path, leaf: Leaf) -> Path:
    write_certificates(folder, leaf)
    return folder


def test_good_certificates(tmp_path: Path) -> None:
    leaf = AUTHORITY.issue_server(IDENTITY, NOW)
    identity = tls.load(mounted(tmp_path, leaf), server_name=IDENTITY)
    assert identity.not_after == leaf.not_after
    assert identity.context.minimum_version is ssl.TLSVersion.TLSv1_3
    assert identity.context.verify_mode is ssl.CERT_REQUIRED
    assert identity.fingerprint == tls.fingerprint(tmp_path)


@pytest.mark.parametrize(
    ("leaf", "text"),
    [
        (AUTHORITY.issue_server(names.renderer_identity("other"), NOW), "mismatch"),
        (AUTHORITY.issue_client(NOW, IDENTITY), "purpose"),
        (AUTHORITY.issue_server(IDENTITY, NOW - timedelta(days=91)), "expired"),
        (AUTHORITY.issue_server(IDENTITY, NOW + timedelta(days=1)), "not yet valid"),
    ],
    ids=["name", "purpose", "expired", "future"],
)
def test_certificates_that_no_caller_would_take(leaf: Leaf, text: str, tmp_path: Path) -> None:
    with pytest.raises(tls.CertificatesError, match=text) as caught:
        tls.load(mounted(tmp_path, leaf), server_name=IDENTITY)
    assert "tls.crt" in str(caught.value)


@pytest.mark.parametrize("name", ["tls.crt", "tls.key", "ca.crt"])
@pytest.mark.parametrize("content", [None, b"", b"rubbish"])
def test_broken_files_are_named(name: str, content: bytes | None, tmp_path: Path) -> None:
    path = mounted(tmp_path, AUTHORITY.issue_server(IDENTITY, NOW)) / name
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(tls.CertificatesError, match=name):
        tls.load(tmp_path, server_name=IDENTITY)


def test_key_of_another_certificate(tmp_path: Path) -> None:
    mounted(tmp_path, AUTHORITY.issue_server(IDENTITY, NOW))
    os.unlink(tmp_path / "tls.key")
    (tmp_path / "tls.key").write_bytes(AUTHORITY.issue_server(IDENTITY, NOW).key)
    with pytest.raises(tls.CertificatesError, match="KEY_VALUES_MISMATCH"):
        tls.load(tmp_path, server_name=IDENTITY)


def test_authority_of_somebody_else(tmp_path: Path) -> None:
    mounted(tmp_path, AUTHORITY.issue_server(IDENTITY, NOW))
    os.unlink(tmp_path / "ca.crt")
    (tmp_path / "ca.crt").write_bytes(new_authority(NOW).bundle)
    with pytest.raises(tls.CertificatesError, match=r"tls\.crt"):
        tls.load(tmp_path, server_name=IDENTITY)
