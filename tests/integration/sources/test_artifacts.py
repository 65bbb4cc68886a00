"""OCI artifacts and buckets against real servers, and the promise that the same files are the same everywhere."""

import base64
from collections.abc import Iterator
from typing import Any

import orjson
import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from support.artifact_servers import BUCKET, S3, Registry, oci_registry, s3_server
from support.git_host import GitHost
from support.sources import FILES, HttpsServer, fetch, tar_gz, tree_of, zipped
from unjucks_api.courier_protocol import BucketSource, CourierLimits, GitSource, HttpSource, OciSource
from unjucks_api.reasons import Reason
from unjucks_api.render_protocol import AnalyzeRequest, AnalyzeResponse, SourceFile
from unjucks_runtime.courier.errors import CourierError
from unjucks_runtime.renderer.tasks import analyze

pytestmark = pytest.mark.integration
BYTES = {path: text.encode() for path, text in FILES.items()}


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    with oci_registry(tmp_path_factory.mktemp("oci")) as running:
        yield running


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3]:
    with s3_server(tmp_path_factory.mktemp("s3")) as running:
        yield running


def refused(source: Any, **fields: Any) -> CourierError:
    with pytest.raises(CourierError) as caught:
        fetch(source, **fields)
    return caught.value


def key_pair() -> tuple[ec.EllipticCurvePrivateKey, bytes]:
    key = ec.generate_private_key(ec.SECP256R1())
    public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    return key, public


def sign(registry: Registry, name: str, digest: str, key: ec.EllipticCurvePrivateKey, told: str = "") -> None:
    """As cosign does it: a payload that names the digest, its signature in an annotation, under a tag of the digest."""
    payload = orjson.dumps(
        {
            "critical": {
                "identity": {"docker-reference": name},
                "image": {"docker-manifest-digest": told or digest},
                "type": "cosign container image signature",
            },
            "optional": None,
        }
    )
    signature = base64.b64encode(key.sign(payload, ec.ECDSA(hashes.SHA256()))).decode()
    registry.push(
        name,
        digest.replace(":", "-") + ".sig",
        payload,
        media_type="application/vnd.dev.cosign.simplesigning.v1+json",
        annotations={"dev.cosignproject.cosign/signature": signature},
    )


def test_tags_versions_and_digests(registry: Registry) -> None:
    for tag in ("v1.0.0", "v1.3.0", "v2.0.0", "latest", "v1.9.0-debug"):
        digest = registry.push("acme/templates", tag, tar_gz(FILES | {"version.txt": tag}))
    url = f"{registry.url}/acme/templates"
    for fields, tag in (
        ({}, "latest"),
        ({"tag": "v1.0.0"}, "v1.0.0"),
        ({"semver": "1.x"}, "v1.3.0"),
        ({"semver": ">=1.0.0-0 <2", "semver_filter": "-debug$"}, "v1.9.0-debug"),
        ({"digest": digest, "tag": "v1.0.0"}, ""),
    ):
        found = fetch(OciSource(url=url, **fields), credentials=registry.credentials)
        assert found.revision == (f"{tag}@{found.digest}" if tag else digest)
        assert tree_of(found)["version.txt"].decode() == (tag or "v1.9.0-debug")
        assert fetch(OciSource(url=url, **fields), credentials=registry.credentials, known=found.revision).unchanged


def test_what_an_oci_source_refuses(registry: Registry) -> None:
    registry.push("acme/odd", "text", b"no archive")
    registry.push("acme/odd", "good", tar_gz(FILES))
    url = f"{registry.url}/acme/odd"
    login = registry.credentials
    wrong = {"ca.crt": registry.authority, "username": b"courier", "password": b"wrong-one"}
    nobody = {"ca.crt": registry.authority}
    for fields, credentials, reason in (
        ({"tag": "text"}, login, Reason.ARCHIVE_INVALID),
        ({"tag": "gone"}, login, Reason.REVISION_NOT_FOUND),
        ({"digest": "sha256:" + "0" * 64}, login, Reason.REVISION_NOT_FOUND),
        ({"semver": ">=9"}, login, Reason.REVISION_NOT_FOUND),
        ({"semver": "*", "semver_filter": "("}, login, Reason.URL_INVALID),
        ({"tag": "good", "media_type": "application/other"}, login, Reason.ARCHIVE_INVALID),
        ({"tag": "good"}, wrong, Reason.AUTHENTICATION_FAILED),
        ({"tag": "good"}, nobody, Reason.AUTHENTICATION_FAILED),
        ({"tag": "good"}, login | {".dockerconfigjson": b"{"}, Reason.AUTHENTICATION_FAILED),
        ({"tag": "good"}, login | {".dockerconfigjson": b'{"auths": {}}'}, Reason.AUTHENTICATION_FAILED),
    ):
        error = refused(OciSource(url=url, **fields), credentials=credentials)
        assert error.reason is reason, (fields, error)
        assert "wrong-one" not in error.message
    small = CourierLimits(wall_seconds=20, download_bytes=32)
    error = refused(OciSource(url=url, tag="good"), credentials=login, limits=small)
    assert error.reason is Reason.ARCHIVE_TOO_LARGE


def test_cosign_signatures(registry: Registry) -> None:
    key, public = key_pair()
    stranger, _ = key_pair()
    name = "acme/signed"
    url = f"{registry.url}/{name}"
    signed = registry.push(name, "signed", tar_gz(FILES))
    sign(registry, name, signed, key)
    found = fetch(
        OciSource(url=url, tag="signed", verify=True), credentials=registry.credentials, signers={"cosign.pub": public}
    )
    assert found.verified_by == "cosign key cosign.pub"
    registry.push(name, "plain", tar_gz(FILES | {"a": "plain"}))
    by_stranger = registry.push(name, "stranger", tar_gz(FILES | {"a": "stranger"}))
    sign(registry, name, by_stranger, stranger)
    moved = registry.push(name, "moved", tar_gz(FILES | {"a": "moved"}))
    sign(registry, name, moved, key, told=signed)  # a true signature, of another artifact
    for tag in ("plain", "stranger", "moved"):
        error = refused(
            OciSource(url=url, tag=tag, verify=True), credentials=registry.credentials, signers={"k": public}
        )
        assert error.reason is Reason.VERIFICATION_FAILED, tag
    for signers in ({}, {"k": b"-----BEGIN PUBLIC KEY-----\nnonsense\n-----END PUBLIC KEY-----\n"}):
        error = refused(
            OciSource(url=url, tag="signed", verify=True), credentials=registry.credentials, signers=signers
        )
        assert error.reason is Reason.VERIFICATION_FAILED


def test_a_bucket_and_its_prefix(s3: S3) -> None:
    s3.put({f"sets/one/{path}": content for path, content in BYTES.items()} | {"other/x.txt": b"x"})
    source = BucketSource(endpoint=s3.endpoint, bucket=BUCKET, prefix="sets/one/")
    found = fetch(source, credentials=s3.credentials)
    assert tree_of(found) == BYTES
    assert fetch(source, credentials=s3.credentials, known=found.revision).unchanged
    s3.put({"sets/one/more.txt": b"more"})
    assert not fetch(source, credentials=s3.credentials, known=found.revision).unchanged
    ignored = fetch(source, credentials=s3.credentials, known=found.revision, ignore="more.txt")
    assert ignored.unchanged  # what is left out is no news


def test_what_a_bucket_refuses(s3: S3) -> None:
    s3.put({"bad/.git/config": b"x"})
    s3.put({"big/a": b"x" * 4096})
    source = BucketSource(endpoint=s3.endpoint, bucket=BUCKET)
    for fields, changes, reason in (
        ({}, {"secretkey": b"wrong-one"}, Reason.AUTHENTICATION_FAILED),
        ({}, {"accesskey": b"AKIANOBODY"}, Reason.AUTHENTICATION_FAILED),
        ({}, {"accesskey": b""}, Reason.AUTHENTICATION_FAILED),
        ({"bucket": "nothing"}, {}, Reason.SOURCE_NOT_FOUND),
        ({"prefix": "nothing/"}, {}, Reason.PATH_NOT_FOUND),
        ({"prefix": "bad/"}, {}, Reason.PATH_REJECTED),
        ({"endpoint": "http://localhost"}, {}, Reason.URL_INVALID),
    ):
        error = refused(source.model_copy(update=fields), credentials=s3.credentials | changes)
        assert error.reason is reason, (fields, error)
        assert "wrong-one" not in error.message
    small = CourierLimits(wall_seconds=20, source_bytes=1024)
    error = refused(source.model_copy(update={"prefix": "big/"}), credentials=s3.credentials, limits=small)
    assert error.reason is Reason.ARCHIVE_TOO_LARGE


def test_the_same_files_from_anywhere_are_the_same_tree(
    registry: Registry, s3: S3, git_host: GitHost, https: HttpsServer
) -> None:
    files = {f"sub/{path}": text for path, text in FILES.items()}
    git_host.create("acme/same", files | {"outside.md": "not taken"})
    registry.push("acme/same", "latest", tar_gz(files))
    s3.put({f"same/{path}": text.encode() for path, text in files.items()})
    https.routes["/same.tgz"] = (200, {}, tar_gz(files))
    https.routes["/same.zip"] = (200, {}, zipped(files))
    authority = {"ca.crt": https.authority}
    fetched = [
        fetch(GitSource(url=f"{git_host.url}/acme/same.git"), credentials=git_host.secret, path="sub"),
        fetch(OciSource(url=f"{registry.url}/acme/same"), credentials=registry.credentials, path="./sub"),
        fetch(HttpSource(url=https.url + "/same.tgz"), credentials=authority, path="sub"),
        fetch(HttpSource(url=https.url + "/same.zip"), credentials=authority, path="sub/"),
        fetch(BucketSource(endpoint=s3.endpoint, bucket=BUCKET, prefix="same"), credentials=s3.credentials, path="sub"),
    ]
    inline = [SourceFile(path=path, content=base64.b64encode(text.encode()).decode()) for path, text in files.items()]
    requests = [AnalyzeRequest(files=response.files, path="sub") for response in fetched]
    requests.append(AnalyzeRequest(files=inline, path="sub"))
    requests.append(AnalyzeRequest(archive=base64.b64encode(tar_gz(files)).decode(), path="sub"))  # a ConfigMap's
    digests = {
        AnalyzeResponse.model_validate_json(analyze(request.model_dump_json().encode())).digest for request in requests
    }
    assert len(digests) == 1
