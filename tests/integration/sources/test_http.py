"""HTTP archives against a real TLS server: digests, redirects, broken and slow answers, addresses that must not be called."""

import hashlib
import socket
import ssl
import threading
import time
from http.server import BaseHTTPRequestHandler
from typing import Any

import pytest

from support.sources import FILES, LOOPBACK, HttpsServer, fetch, tar_gz, tree_of, zipped
from unjucks_api.courier_protocol import Allow, CourierLimits, HttpSource, Service
from unjucks_api.reasons import Reason
from unjucks_runtime.courier.errors import CourierError
from unjucks_runtime.generator.errors import GenerationError

pytestmark = pytest.mark.integration

ARCHIVE = tar_gz(FILES)


def sha256(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def ok(body: bytes, **headers: str) -> tuple[int, dict[str, str], bytes]:
    return 200, headers, body


def redirect(target: str, status: int = 302) -> tuple[int, dict[str, str], bytes]:
    return status, {"Location": target}, b""


def get(server: HttpsServer, path: str, **fields: Any) -> Any:
    source = HttpSource(url=server.url + path, digest=fields.pop("digest", ""))
    credentials = {"ca.crt": server.authority} | fields.pop("credentials", {})
    return fetch(source, credentials=credentials, **fields)


def refused(server: HttpsServer, path: str, **fields: Any) -> CourierError | GenerationError:
    with pytest.raises((CourierError, GenerationError)) as caught:
        get(server, path, **fields)
    return caught.value


@pytest.mark.parametrize("packed", [ARCHIVE, zipped(FILES)], ids=["tar.gz", "zip"])
def test_an_archive_with_its_digest(https: HttpsServer, packed: bytes) -> None:
    https.routes["/t"] = ok(packed)
    found = get(https, "/t", digest=sha256(packed))
    assert tree_of(found) == {path: text.encode() for path, text in FILES.items()}
    assert (found.revision, found.verified_by) == (sha256(packed), "digest")
    seen = len(https.seen)
    again = get(https, "/t", digest=sha256(packed), known=found.revision)
    assert again.unchanged
    assert len(https.seen) == seen  # a digest names one content: nobody is asked
    assert get(https, "/t", known=found.revision).unchanged


def test_another_digest_is_refused(https: HttpsServer) -> None:
    https.routes["/t"] = ok(ARCHIVE)
    assert refused(https, "/t", digest=sha256(b"other")).reason is Reason.VERIFICATION_FAILED


def test_credentials_are_sent_and_stay_with_their_host(https: HttpsServer, tmp_path: Any) -> None:
    other = HttpsServer(tmp_path / "other")
    try:
        other.routes["/t"] = ok(ARCHIVE)
        https.routes["/here"] = redirect("/t")
        https.routes["/there"] = redirect(f"{other.url}/t")
        https.routes["/t"] = ok(ARCHIVE)
        login = {"username": b"u", "password": b"p", "ca.crt": https.authority + other.authority}
        get(https, "/here", credentials=login)
        assert https.seen[-1][1]["Authorization"].startswith("Basic ")
        get(https, "/there", credentials=login)
        assert "Authorization" not in other.seen[-1][1]
        get(https, "/t", credentials={"bearerToken": b"abc\n"})
        assert https.seen[-1][1]["Authorization"] == "Bearer abc"
    finally:
        other.close()


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (401, Reason.AUTHENTICATION_FAILED),
        (403, Reason.AUTHENTICATION_FAILED),
        (404, Reason.SOURCE_NOT_FOUND),
        (429, Reason.FETCH_FAILED),
        (500, Reason.FETCH_FAILED),
        (204, Reason.FETCH_FAILED),
    ],
)
def test_what_a_status_means(https: HttpsServer, status: int, reason: Reason) -> None:
    https.routes["/s"] = (status, {}, b"")
    error = refused(https, "/s", credentials={"bearerToken": b"s3cret-token"})
    assert error.reason is reason
    assert "s3cret" not in error.message


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("http://localhost/t", Reason.EGRESS_REFUSED),  # a downgrade
        ("https://169.254.169.254/latest/meta-data", Reason.EGRESS_REFUSED),
        ("https://[fd00:ec2::254]/latest", Reason.EGRESS_REFUSED),
        ("https://10.0.0.1/t", Reason.EGRESS_REFUSED),
        ("https://2852039166/t", Reason.EGRESS_REFUSED),
        ("https://0x7f000001/t", Reason.EGRESS_REFUSED),
        ("file:///etc/passwd", Reason.EGRESS_REFUSED),
        ("https://user:hunter2@localhost/t", Reason.URL_INVALID),
        ("//metadata.example.test/t", Reason.EGRESS_REFUSED),
    ],
)
def test_redirects_to_where_nobody_may_go(https: HttpsServer, target: str, reason: Reason) -> None:
    https.routes["/r"] = redirect(target)
    dialled: list[str] = []

    def resolve(host: str, port: int) -> list[str]:
        return {"localhost": ["127.0.0.1"], "metadata.example.test": ["169.254.169.254"]}[host]

    def connect(address: str, port: int, seconds: float) -> socket.socket:
        dialled.append(address)
        return socket.create_connection((address, port), seconds)

    error = refused(https, "/r", resolve=resolve, connect=connect)
    assert error.reason is reason
    assert dialled == ["127.0.0.1"]
    assert "hunter2" not in error.message


def test_endless_redirects_end(https: HttpsServer) -> None:
    https.routes["/loop"] = redirect("/loop", 301)
    before = len(https.seen)
    assert refused(https, "/loop").reason is Reason.FETCH_FAILED
    assert len(https.seen) - before == 6


def test_a_name_that_leads_elsewhere_the_second_time_changes_nothing(https: HttpsServer) -> None:
    https.routes["/t"] = ok(ARCHIVE)
    answers = iter([["127.0.0.1"], ["169.254.169.254"], ["169.254.169.254"]])
    dialled: list[str] = []

    def connect(address: str, port: int, seconds: float) -> socket.socket:
        dialled.append(address)
        return socket.create_connection((address, port), seconds)

    found = get(https, "/t", resolve=lambda host, port: next(answers), connect=connect)
    assert not found.unchanged
    assert dialled == ["127.0.0.1"]  # resolved once, and that very address was dialled
    error = refused(https, "/t", resolve=lambda host, port: next(answers), connect=connect)
    assert error.reason is Reason.EGRESS_REFUSED
    assert dialled == ["127.0.0.1"]


def test_one_forbidden_address_among_many_forbids_all(https: HttpsServer) -> None:
    error = refused(https, "/t", resolve=lambda host, port: ["127.0.0.1", "10.1.2.3"])
    assert error.reason is Reason.EGRESS_REFUSED


def test_certificates_are_checked(https: HttpsServer) -> None:
    https.routes["/t"] = ok(ARCHIVE)
    with pytest.raises(CourierError) as caught:
        fetch(HttpSource(url=https.url + "/t"))
    assert caught.value.reason is Reason.FETCH_FAILED
    assert "not trusted" in caught.value.message
    wrong_name = HttpSource(url=f"https://other.example.test:{https.port}/t")
    with pytest.raises(CourierError) as caught:
        fetch(wrong_name, credentials={"ca.crt": https.authority}, resolve=lambda host, port: ["127.0.0.1"])
    assert "not trusted" in caught.value.message
    with pytest.raises(CourierError) as caught:
        fetch(HttpSource(url=https.url + "/t"), credentials={"ca.crt": b"no certificate"})
    assert caught.value.reason is Reason.AUTHENTICATION_FAILED


def test_bodies_that_are_cut_too_long_or_lie(https: HttpsServer) -> None:
    def cut(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(ARCHIVE)))
        handler.end_headers()
        handler.wfile.write(ARCHIVE[: len(ARCHIVE) // 2])
        handler.close_connection = True

    https.routes["/cut"] = cut
    error = refused(https, "/cut")
    assert (error.reason, getattr(error, "retryable", False)) == (Reason.FETCH_FAILED, True)
    https.routes["/half"] = ok(ARCHIVE[: len(ARCHIVE) // 2])
    assert refused(https, "/half").reason is Reason.ARCHIVE_INVALID
    small = CourierLimits(wall_seconds=20, download_bytes=16)
    https.routes["/t"] = ok(ARCHIVE)
    assert refused(https, "/t", limits=small).reason is Reason.ARCHIVE_TOO_LARGE

    def endless(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.end_headers()
        handler.close_connection = True
        while True:
            handler.wfile.write(b"\0" * 4096)

    https.routes["/endless"] = endless
    bounded = CourierLimits(wall_seconds=20, download_bytes=1 << 20)
    assert refused(https, "/endless", limits=bounded).reason is Reason.ARCHIVE_TOO_LARGE
    https.routes["/gzipped"] = (200, {"Content-Encoding": "gzip"}, ARCHIVE)
    assert refused(https, "/gzipped").reason is Reason.FETCH_FAILED


def test_a_server_that_drips_is_left(https: HttpsServer) -> None:
    stop = threading.Event()

    def drip(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.end_headers()
        handler.close_connection = True
        while not stop.wait(0.2):
            handler.wfile.write(b"\x1f")
            handler.wfile.flush()

    https.routes["/drip"] = drip
    began = time.monotonic()
    try:
        error = refused(https, "/drip", limits=CourierLimits(wall_seconds=2, read_seconds=1))
    finally:
        stop.set()
    assert error.reason is Reason.FETCH_FAILED
    assert "2 s" in error.message
    assert time.monotonic() - began < 60  # not for ever; the machine may be busy


def test_a_server_that_never_answers_is_left() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        url = f"https://localhost:{silent.getsockname()[1]}/t"
        with pytest.raises(CourierError) as caught:
            fetch(HttpSource(url=url), limits=CourierLimits(wall_seconds=3, connect_seconds=1, read_seconds=1))
    assert (caught.value.reason, caught.value.retryable) == (Reason.FETCH_FAILED, True)


def test_an_artifact_of_flux_may_lie_in_the_cluster_and_only_there(https: HttpsServer) -> None:
    https.routes["/flux"] = ok(ARCHIVE)
    closed = Allow(closed=["127.0.0.0/8"], cidrs=["127.0.0.0/8"], services=[Service(host="localhost", port=https.port)])
    source = HttpSource(url=https.url + "/flux", digest=sha256(ARCHIVE), flux=True, revision="main@sha1:abc")
    found = fetch(source, credentials={"ca.crt": https.authority}, allow=closed)
    assert found.revision == "main@sha1:abc"
    https.routes["/away"] = redirect("/flux")
    with pytest.raises(CourierError) as caught:
        fetch(source.model_copy(update={"url": https.url + "/away"}), credentials={"ca.crt": https.authority})
    assert caught.value.reason is Reason.FETCH_FAILED  # redirects of Flux are not followed


def test_old_tls_is_not_spoken(tmp_path: Any) -> None:
    server = HttpsServer(tmp_path / "old")
    try:
        server.routes["/t"] = ok(ARCHIVE)
        context = server._server.socket.context  # type: ignore[attr-defined]
        with pytest.warns(DeprecationWarning, match="TLSv1_1"):
            context.maximum_version = ssl.TLSVersion.TLSv1_1
        assert refused(server, "/t").reason is Reason.FETCH_FAILED
    finally:
        server.close()


def test_loopback_is_closed_unless_a_range_names_it(https: HttpsServer) -> None:
    assert refused(https, "/t", allow=Allow(hosts=["*"])).reason is Reason.EGRESS_REFUSED
    assert LOOPBACK.cidrs
