"""Signed tags: the name that counts is the reference's, and the server's word about a tag's commit is compared."""

import base64
import hashlib
import struct
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from dulwich.object_store import MemoryObjectStore
from dulwich.objects import Blob, Commit, Tag, Tree

from support.sources import LOOPBACK, fetch
from unjucks_api.courier_protocol import FetchResponse, GitSource, GitVerify
from unjucks_api.reasons import Reason
from unjucks_runtime.courier.errors import CourierError
from unjucks_runtime.sources import git as git_source

KEY = Ed25519PrivateKey.generate()
SIGNER = KEY.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)


def packed(*parts: bytes) -> bytes:
    return b"".join(struct.pack(">I", len(part)) + part for part in parts)


def signature(payload: bytes) -> bytes:
    public = packed(b"ssh-ed25519", KEY.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw))
    made = KEY.sign(b"SSHSIG" + packed(b"git", b"", b"sha512", hashlib.sha512(payload).digest()))
    blob = b"SSHSIG" + struct.pack(">I", 1) + packed(public, b"git", b"", b"sha512", packed(b"ssh-ed25519", made))
    return b"-----BEGIN SSH SIGNATURE-----\n" + base64.encodebytes(blob) + b"-----END SSH SIGNATURE-----\n"


def served(monkeypatch: pytest.MonkeyPatch, ref: str, *, claimed: bytes = b"", **source: Any) -> FetchResponse:
    """A server whose reference leads to the signed tag v1, and that says ``claimed`` about its commit."""
    store, tree, commit, tag = MemoryObjectStore(), Tree(), Commit(), Tag()
    blob = Blob.from_string(b"a")
    tree.add(b"a.txt", 0o100644, blob.id)
    commit.tree, commit.author, commit.committer, commit.message = tree.id, b"a <a@b>", b"a <a@b>", b"m"
    commit.author_time = commit.commit_time = commit.author_timezone = commit.commit_timezone = 0
    tag.name, tag.object, tag.message, tag.tagger = b"v1", (Commit, commit.id), b"m\n", b"a <a@b>"
    tag.tag_time = tag.tag_timezone = 0
    tag.signature = signature(tag.as_raw_string())
    for item in (blob, tree, commit, tag):
        store.add_object(item)
    refs = {ref.encode(): bytes(tag.id), ref.encode() + b"^{}": claimed or bytes(commit.id)}
    # What a server would say; that real ones are understood is tried in the integration tests.
    monkeypatch.setattr(git_source.Repository, "refs", lambda _: refs)
    monkeypatch.setattr(git_source.Repository, "fetch", lambda *_: store)
    return fetch(
        GitSource(url="https://own.example/t.git", verify=GitVerify.TAG, **source),
        signers={"s": SIGNER},
        allow=LOOPBACK,
    )


@pytest.mark.parametrize("source", [{"tag": "v1"}, {"name": "refs/tags/v1"}, {"semver": "1.x"}])
def test_a_signed_tag_by_any_way_of_naming_it(monkeypatch: pytest.MonkeyPatch, source: dict[str, str]) -> None:
    assert served(monkeypatch, "refs/tags/v1", **source).verified_by.startswith("tag by SSH key")


@pytest.mark.parametrize("tag", ["v2", "v1@v2", "v1@sha1"])
def test_the_signed_tag_of_another_name_is_refused(monkeypatch: pytest.MonkeyPatch, tag: str) -> None:
    with pytest.raises(CourierError, match="another name") as caught:
        served(monkeypatch, f"refs/tags/{tag}", tag=tag)
    assert caught.value.reason is Reason.VERIFICATION_FAILED


def test_a_server_that_names_another_commit_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(CourierError, match="leads to") as caught:
        served(monkeypatch, "refs/tags/v1", tag="v1", claimed=b"1" * 40)
    assert caught.value.reason is Reason.VERIFICATION_FAILED
