"""A corpus of hostile sources, archives, URLs, names and answers: each ends in a typed reason, nothing is dialled, nothing escapes.

Everything goes through the same door as in a courier (``run_fetch``); the resolver is a stand-in and the connector fails the test
when anything is dialled that must not be.
"""

import io
import socket
import stat
import struct
import tarfile
import zipfile
from collections.abc import Callable
from typing import Any

import pytest

from support.sources import fetch, tar_gz, zipped
from unjucks_api.courier_protocol import Allow, BucketSource, CourierLimits, GitSource, HttpSource, OciSource, Service
from unjucks_api.reasons import Reason
from unjucks_runtime.courier.errors import CourierError
from unjucks_runtime.courier.net import AddressPolicy, printable_url
from unjucks_runtime.failures import GenerationError
from unjucks_runtime.sources import http
from unjucks_runtime.sources.model import Job
from unjucks_runtime.sources.select import Selection

SOME = {"a.txt": "a"}
SMALL = CourierLimits(source_bytes=64 * 1024, files=50)


# --- archives ------------------------------------------------------------------------------------------------------------
def entry(name: str, kind: bytes = tarfile.REGTYPE, **fields: Any) -> Callable[[tarfile.TarFile], None]:
    def add(archive: tarfile.TarFile) -> None:
        info = tarfile.TarInfo(name)
        info.type = kind
        for key, value in fields.items():
            setattr(info, key, value)
        archive.addfile(info, io.BytesIO(b"x" * info.size) if info.size else None)

    return add


def zip_entry(name: str, mode: int = stat.S_IFREG | 0o644, content: bytes = b"x") -> Callable[[zipfile.ZipFile], None]:
    def add(archive: zipfile.ZipFile) -> None:
        info = zipfile.ZipInfo(name)
        info.external_attr = mode << 16
        archive.writestr(info, content)

    return add


def twice(archive: zipfile.ZipFile) -> None:
    with pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("a.txt", "other")


def encrypted(data: bytes) -> bytes:
    flagged = bytearray(data)
    for magic, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        place = flagged.find(magic)
        flagged[place + offset] |= 1
    return bytes(flagged)


def lying_size(data: bytes) -> bytes:
    place = data.find(b"PK\x01\x02")
    return data[: place + 24] + struct.pack("<I", 1) + data[place + 28 :]


def overlapping() -> bytes:
    """Two entries of the directory that are one place of the file."""
    data = zipped({"a.txt": "a" * 100})
    start, end = data.find(b"PK\x01\x02"), data.find(b"PK\x05\x06")
    central = data[start:end]
    second = central.replace(b"a.txt", b"b.txt")
    tail = bytearray(data[end:])
    tail[8:12] = struct.pack("<HH", 2, 2)
    tail[12:16] = struct.pack("<I", len(central) * 2)
    return data[:start] + central + second + bytes(tail)


INVALID, LARGE, REJECTED = Reason.ARCHIVE_INVALID, Reason.ARCHIVE_TOO_LARGE, Reason.PATH_REJECTED
BAD_NAMES = {
    "up": "../evil",
    "up-inside": "a/../../evil",
    "absolute": "/etc/passwd",
    "backslash": "a\\..\\evil",
    "drive": "C:/evil",
    "git": ".git/config",
    "git-hfs": ".g\u200cit/config",
    "git-case": ".GIT/hooks/post-checkout",
    "git-ntfs": "git~1/config",
    "device": "con.txt",
    "control": "a\nb",
    "bidi": "a\u202etxt.exe",
    "long-segment": "a" * 256,
    "long-path": "/".join(["abcdefgh"] * 140),
    "dot-end": "evil.",
}
ARCHIVES: dict[str, tuple[bytes, Reason | tuple[Reason, ...]]] = {
    "empty": (b"", INVALID),
    "text": (b"hello", INVALID),
    "bare-tar": (tar_gz(SOME)[:2] + b"\0" * 20, INVALID),
    "html": (b"<html>Sign in</html>", INVALID),
    "tar-cut": (tar_gz(SOME)[:-20], INVALID),
    "tar-flipped": (tar_gz(SOME)[:30] + b"\xff" + tar_gz(SOME)[31:], INVALID),
    "tar-trailing": (tar_gz(SOME) + b"more", INVALID),
    "tar-bomb-ratio": (tar_gz({"a": b"\0" * (3 << 20)}), LARGE),
    "tar-bomb-files": (tar_gz({f"f{number}": "x" for number in range(200)}), LARGE),
    "tar-bomb-bytes": (tar_gz({"a": bytes(range(256)) * 300}), LARGE),
    "tar-deep": (tar_gz({"d/" * 40 + "a": "x"}), LARGE),
    "tar-symlink": (tar_gz(SOME, entry("l", tarfile.SYMTYPE, linkname="/etc/passwd")), INVALID),
    "tar-symlink-inside": (tar_gz(SOME, entry("l", tarfile.SYMTYPE, linkname="a.txt")), INVALID),
    "tar-hardlink": (tar_gz(SOME, entry("l", tarfile.LNKTYPE, linkname="a.txt")), INVALID),
    "tar-device": (tar_gz(SOME, entry("d", tarfile.CHRTYPE)), INVALID),
    "tar-block": (tar_gz(SOME, entry("d", tarfile.BLKTYPE)), INVALID),
    "tar-fifo": (tar_gz(SOME, entry("f", tarfile.FIFOTYPE)), INVALID),
    "tar-twice": (tar_gz(SOME, entry("a.txt")), INVALID),
    "tar-file-and-folder": (tar_gz({"a": "x", "a/b": "x"}), INVALID),
    "tar-case": (tar_gz({"A.txt": "x", "a.txt": "y"}), INVALID),
    "zip-cut": (zipped(SOME)[:-10], INVALID),
    "zip-before": (b"PK\x03\x04#!/bin/sh\n" + zipped(SOME), INVALID),
    "zip-bomb-ratio": (zipped({"a": b"\0" * (3 << 20)}), LARGE),
    "zip-bomb-files": (zipped({f"f{number}": "x" for number in range(200)}), LARGE),
    "zip-bomb-bytes": (zipped({"a": bytes(range(256)) * 300}), LARGE),
    "zip-bomb-sum": (zipped({f"f{number}": bytes(range(256)) * 20 for number in range(20)}), LARGE),
    "zip-symlink": (zipped(SOME, zip_entry("l", stat.S_IFLNK | 0o777, b"/etc/passwd")), INVALID),
    "zip-device": (zipped(SOME, zip_entry("d", stat.S_IFCHR | 0o600)), INVALID),
    "zip-fifo": (zipped(SOME, zip_entry("f", stat.S_IFIFO | 0o600)), INVALID),
    "zip-twice": (zipped(SOME, twice), INVALID),
    "zip-encrypted": (encrypted(zipped(SOME)), INVALID),
    "zip-lying-size": (lying_size(zipped({"a": "long enough to be cut"})), INVALID),
    "zip-overlap": (overlapping(), INVALID),
    "zip-deep": (zipped({"d/" * 40 + "a": "x"}), LARGE),
    "zip-nul": (zipped({"aXb": "x"}).replace(b"aXb", b"a\0b"), REJECTED),
    "zip-empty": (zipped({}), Reason.PATH_NOT_FOUND),
    "zip-folder-as-file": (zipped(SOME, zip_entry("d", stat.S_IFDIR | 0o755)), INVALID),
    **{f"tar-name-{key}": (tar_gz(SOME | {name: "x"}), (REJECTED, INVALID)) for key, name in BAD_NAMES.items()},
    **{f"zip-name-{key}": (zipped(SOME, zip_entry(name)), (REJECTED, INVALID)) for key, name in BAD_NAMES.items()},
}


@pytest.mark.parametrize("name", ARCHIVES)
def test_a_hostile_archive_is_refused_with_its_reason(name: str) -> None:
    data, expected = ARCHIVES[name]
    job = Job(network=None, limits=SMALL, selection=Selection(".", "", SMALL))  # type: ignore[arg-type]  # nothing is dialled
    with pytest.raises((CourierError, GenerationError)) as caught:
        http.unpack(data, job)
    assert caught.value.reason in (expected if isinstance(expected, tuple) else (expected,)), caught.value
    assert "\n" not in caught.value.message
    assert "\x00" not in caught.value.message


# --- URLs and addresses --------------------------------------------------------------------------------------------------
URL, EGRESS = Reason.URL_INVALID, Reason.EGRESS_REFUSED
URLS: dict[str, tuple[Any, Reason]] = {
    **{
        f"http-{number}": (HttpSource(url=url), reason)
        for number, (url, reason) in enumerate(
            [
                ("http://public.example.test/t", URL),
                ("ftp://public.example.test/t", URL),
                ("file:///etc/passwd", URL),
                ("https:///t", URL),
                ("https://user:pw@public.example.test/t", URL),
                ("https://token@public.example.test/t", URL),
                ("https://public.example.test:0/t", URL),
                ("https://public.example.test:99999/t", URL),
                ("https://public.example.test/a b", URL),
                ("https://public.example.test/\r\nX: y", URL),
                ("https://public.example.test\\@10.0.0.1/t", URL),
                ("https://[::1/t", URL),
                ("https://127.0.0.1/t", EGRESS),
                ("https://127.1.2.3/t", EGRESS),
                ("https://[::1]/t", EGRESS),
                ("https://[::ffff:127.0.0.1]/t", EGRESS),
                ("https://[::ffff:169.254.169.254]/t", EGRESS),
                ("https://[64:ff9b::a9fe:a9fe]/t", EGRESS),
                ("https://[64:ff9b::a00:1]/t", EGRESS),
                ("https://translated.example.test/t", EGRESS),
                ("https://[2002:a9fe:a9fe::1]/t", EGRESS),
                ("https://[fd00:ec2::254]/t", EGRESS),
                ("https://[fe80::1]/t", EGRESS),
                ("https://[fe80::1%25eth0]/t", EGRESS),
                ("https://[ff02::1]/t", EGRESS),
                ("https://169.254.169.254/t", EGRESS),
                ("https://100.100.100.200/t", EGRESS),
                ("https://168.63.129.16/t", EGRESS),
                ("https://0.0.0.0/t", EGRESS),
                ("https://0/t", EGRESS),
                ("https://2130706433/t", EGRESS),
                ("https://0x7f000001/t", EGRESS),
                ("https://127.1/t", EGRESS),
                ("https://255.255.255.255/t", EGRESS),
                ("https://224.0.0.1/t", EGRESS),
                ("https://10.0.0.1/t", EGRESS),
                ("https://172.16.0.1/t", EGRESS),
                ("https://192.168.0.1/t", EGRESS),
                ("https://100.64.0.1/t", EGRESS),
                ("https://10.96.0.1/t", EGRESS),  # the API server's Service
                ("https://93.184.216.34/t", EGRESS),  # public, and nobody allowed it
                ("https://metadata.example.test/t", EGRESS),
                ("https://cluster.example.test/t", EGRESS),
                ("https://mixed.example.test/t", EGRESS),
                ("https://mapped.example.test/t", EGRESS),
                ("https://stranger.example.org/t", EGRESS),
                ("https://example.test.evil.org/t", EGRESS),
            ]
        )
    },
    "git-http": (GitSource(url="http://public.example.test/t.git"), URL),
    "git-file": (GitSource(url="file:///srv/t.git"), URL),
    "git-ext": (GitSource(url="ext::sh -c id"), URL),
    "git-scp": (GitSource(url="git@public.example.test:t.git"), URL),
    "git-daemon": (GitSource(url="git://public.example.test/t.git"), URL),
    "git-password": (GitSource(url="https://u:p@public.example.test/t.git"), URL),
    "git-ssh-password": (GitSource(url="ssh://git:p@public.example.test/t.git"), URL),
    "git-metadata": (GitSource(url="https://169.254.169.254/t.git"), EGRESS),
    "git-ssh-no-hosts": (GitSource(url="ssh://git@127.0.0.1/t.git"), Reason.AUTHENTICATION_FAILED),
    "oci-http": (OciSource(url="http://public.example.test/t"), URL),
    "oci-metadata": (OciSource(url="oci://169.254.169.254/t"), EGRESS),
    "oci-password": (OciSource(url="oci://u:p@public.example.test/t"), URL),
    "bucket-http": (BucketSource(endpoint="http://public.example.test", bucket="abc"), URL),
    "bucket-metadata": (BucketSource(endpoint="https://169.254.169.254", bucket="abc"), EGRESS),
    "flux-elsewhere": (HttpSource(url="http://10.0.0.9/t", flux=True), EGRESS),
}
NAMES = {
    "public.example.test": ["203.0.113.9"],
    "metadata.example.test": ["169.254.169.254"],
    "cluster.example.test": ["10.96.0.1"],
    "mixed.example.test": ["93.184.216.34", "10.96.0.1"],
    "mapped.example.test": ["::ffff:10.96.0.1"],
    "translated.example.test": ["::ffff:0:a9fe:a9fe"],  # with the metadata service inside
    "stranger.example.org": ["93.184.216.34"],
    "example.test.evil.org": ["93.184.216.34"],
}
ALLOW = Allow(
    hosts=["*.example.test", "public.example.test"],
    closed=["10.96.0.0/12", "10.244.0.0/16"],
    services=[Service(host="source-controller.flux-system.svc", port=80)],
)


def never(address: str, port: int, seconds: float) -> socket.socket:
    raise AssertionError(f"{address}:{port} was dialled")


@pytest.mark.parametrize("name", URLS)
def test_a_hostile_url_is_refused_before_any_connection(name: str) -> None:
    source, reason = URLS[name]
    with pytest.raises(CourierError) as caught:
        fetch(source, allow=ALLOW, resolve=lambda host, port: NAMES[host], connect=never)
    assert caught.value.reason is reason, caught.value
    assert ":p@" not in caught.value.message
    assert "pw" not in caught.value.message


# --- specs and Secrets ---------------------------------------------------------------------------------------------------
TASKS: dict[str, tuple[dict[str, Any], Reason]] = {
    "path-up": ({"path": "../x"}, REJECTED),
    "path-git": ({"path": ".git"}, REJECTED),
    "ignore-many": ({"ignore": "a\n" * 300}, REJECTED),
    "user-only": ({"credentials": {"username": b"u"}}, Reason.AUTHENTICATION_FAILED),
    "token-lines": ({"credentials": {"bearerToken": b"a\nX-Evil: 1"}}, Reason.AUTHENTICATION_FAILED),
    "token-binary": ({"credentials": {"bearerToken": b"\xff\xfe"}}, Reason.AUTHENTICATION_FAILED),
    "value-huge": ({"credentials": {"ca.crt": b"x" * 100_000}}, Reason.AUTHENTICATION_FAILED),
    "ca-nonsense": ({"credentials": {"ca.crt": b"nonsense"}}, Reason.AUTHENTICATION_FAILED),
    "half-a-pair": ({"certificates": {"tls.crt": b"x"}}, Reason.AUTHENTICATION_FAILED),
}


@pytest.mark.parametrize("name", TASKS)
def test_a_hostile_task_is_refused(name: str) -> None:
    fields, reason = TASKS[name]
    with pytest.raises(CourierError) as caught:
        fetch(
            HttpSource(url="https://public.example.test/t"),
            allow=Allow(cidrs=["203.0.113.0/24"]),
            resolve=lambda host, port: NAMES[host],
            connect=never,
            **fields,
        )
    assert caught.value.reason is reason


def test_the_corpus_is_large() -> None:
    assert len(ARCHIVES) + len(URLS) + len(TASKS) >= 120


def test_what_is_allowed_is_allowed() -> None:
    from ipaddress import ip_address

    policy = AddressPolicy(ALLOW.model_copy(update={"cidrs": ["10.1.0.0/16", "127.0.0.0/8"]}))
    for host, port, address in (
        ("public.example.test", 443, "93.184.216.34"),
        ("anything", 22, "10.1.2.3"),
        ("source-controller.flux-system.svc.", 80, "10.96.1.1"),
        ("localhost", 443, "127.0.0.1"),
    ):
        assert policy.refusal(host, port, ip_address(address)) == ""
    assert policy.refusal("source-controller.flux-system.svc", 81, ip_address("10.96.1.1"))
    assert policy.refusal("source-controller.flux-system.svc", 80, ip_address("169.254.169.254"))


def test_urls_are_shown_without_what_is_secret() -> None:
    assert printable_url("https://u:p@host:8443/a?token=s#f") == "https://host:8443/a"
    assert printable_url("https://[bad") == "(no readable URL)"
