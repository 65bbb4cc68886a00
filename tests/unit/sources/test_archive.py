"""Archives as an enemy packs them: everything but plain files is refused, and no limit is noticed only after the memory is gone."""

import gzip
import os
import random
import tarfile
import tracemalloc
from collections.abc import Callable

import pytest

from support.archives import member, packed, tar
from unjucks_api.reasons import Reason
from unjucks_runtime.generator.errors import GenerationError
from unjucks_runtime.sources.archive import ArchiveLimits, unpack_tar_gz

LIMITS = ArchiveLimits(bytes=100_000, files=20)


def refused(data: bytes, limits: ArchiveLimits = LIMITS) -> GenerationError:
    with pytest.raises(GenerationError) as caught:
        unpack_tar_gz(data, limits)
    return caught.value


@pytest.mark.parametrize("style", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT])
def test_plain_files_and_folders(style: int) -> None:
    data = tar(
        member("./", kind=tarfile.DIRTYPE),
        member("./_templates", kind=tarfile.DIRTYPE),
        member("./_templates/a b/run.sh", b"#!/bin/sh\n", mode=0o6755),
        member("_templates/ünï.txt", "ö".encode(), mode=0o600),
        member("deep/" * 20 + "leaf", b""),
        style=style,
    )
    assert unpack_tar_gz(gzip.compress(data), LIMITS) == {
        "_templates/a b/run.sh": (b"#!/bin/sh\n", 0o755),
        "_templates/ünï.txt": ("ö".encode(), 0o644),
        "deep/" * 20 + "leaf": (b"", 0o644),
    }


def test_several_gzip_members_and_zero_padding_are_one_stream() -> None:
    data = tar(member("a", b"1"))
    assert unpack_tar_gz(gzip.compress(data[:700]) + gzip.compress(data[700:]) + b"\0" * 100, LIMITS) == {
        "a": (b"1", 0o644)
    }


@pytest.mark.parametrize(
    ("bad", "text"),
    [
        (member("l", kind=tarfile.SYMTYPE, link="/etc/passwd"), "symbolic link"),
        (member("l", kind=tarfile.SYMTYPE, link="a"), "symbolic link"),
        (member("l", kind=tarfile.LNKTYPE, link="a"), "hard link"),
        (member("p", kind=tarfile.FIFOTYPE), "pipe"),
        (member("d", kind=tarfile.CHRTYPE), "device"),
        (member("d", kind=tarfile.BLKTYPE), "device"),
        (member("a"), "twice"),
        (member("./a"), "twice"),
        (member("A"), "one file"),
        (member("a/b"), "both a file and the folder"),
    ],
)
@pytest.mark.isolation("T-registry-symlink")
def test_what_is_no_plain_file_is_refused_by_name(bad: tuple[tarfile.TarInfo, bytes], text: str) -> None:
    error = refused(packed(member("a"), bad))
    assert error.reason is Reason.ARCHIVE_INVALID
    assert text in error.message


@pytest.mark.parametrize(
    "name",
    [
        "../a",
        "a/../../b",
        "/etc/passwd",
        "a\\b",
        "C:/x",
        "a/.git/config",
        ".GIT/hooks/x",
        "con",
        "a\nb",
        "a/./b",
        "\u202etxt.a",
        "x/ y",
    ],
)
@pytest.mark.isolation("T-registry-traversal")
def test_unsafe_paths_are_refused(name: str) -> None:
    error = refused(packed(member(name)))
    assert error.reason is Reason.PATH_REJECTED
    assert len(error.message) < 400


@pytest.mark.isolation("T-registry-traversal")
def test_unsafe_folders_are_refused_too() -> None:
    assert refused(packed(member("../up/", kind=tarfile.DIRTYPE))).reason is Reason.PATH_REJECTED


def test_names_that_are_no_unicode_are_refused() -> None:
    data = tar(member("aXb"), style=tarfile.USTAR_FORMAT).replace(b"aXb", b"a\xffb", 1)
    header = bytearray(data[:512])
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    assert refused(gzip.compress(bytes(header) + data[512:])).reason is Reason.PATH_REJECTED


def test_sparse_files_are_refused() -> None:
    info, content = member("s", b"1\n0\n5\nhello")
    info.pax_headers = {
        "GNU.sparse.major": "1",
        "GNU.sparse.minor": "0",
        "GNU.sparse.realsize": "999999999",
        "GNU.sparse.name": "s",
    }
    assert refused(packed((info, content))).reason in (Reason.ARCHIVE_INVALID, Reason.ARCHIVE_TOO_LARGE)


@pytest.mark.parametrize(
    ("make", "limit"),
    [
        (lambda: packed(member("a", os.urandom(100_001))), "source"),
        (lambda: packed(*(member(f"f{i}", b"x" * 9_000) for i in range(12))), "source"),
        (lambda: packed(*(member(f"f{i}") for i in range(21))), "files"),
        (lambda: packed(*(member(f"d{i}", kind=tarfile.DIRTYPE) for i in range(41))), "files"),
        (lambda: packed(member("d/" * 40 + "x")), "depth"),
        (lambda: gzip.compress(bytes(50_000_000)), "source"),
    ],
    ids=["one file", "together", "count", "folders", "depth", "bomb"],
)
@pytest.mark.isolation("T-registry-bomb")
def test_limits_are_named(make: Callable[[], bytes], limit: str) -> None:
    error = refused(make())
    assert error.reason is Reason.ARCHIVE_TOO_LARGE
    assert error.limit == limit


@pytest.mark.isolation("T-registry-bomb")
def test_ratio_is_limited_before_the_size_is() -> None:
    wide = ArchiveLimits(bytes=1 << 30, files=20, ratio=50)
    data = packed(member("a", bytes(20_000_000)))
    assert refused(data, wide).limit == "ratio"


@pytest.mark.isolation("T-registry-bomb")
def test_a_bomb_takes_little_memory() -> None:
    data = gzip.compress(bytes(200_000_000))
    tracemalloc.start()
    try:
        refused(data)
        assert tracemalloc.get_traced_memory()[1] < 3_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.isolation("T-registry-longname")
def test_a_long_extension_header_is_inside_the_bound() -> None:
    info, content = member("a")
    info.pax_headers = {"comment": "x" * 5_000_000}
    assert refused(packed((info, content))).reason is Reason.ARCHIVE_TOO_LARGE


def test_a_header_that_promises_more_than_there_is() -> None:
    info, _ = member("a", b"x" * 50_000)
    data = info.tobuf() + b"x" * 600
    assert refused(gzip.compress(data)).reason is Reason.ARCHIVE_INVALID


def test_every_cut_of_an_archive_is_noticed() -> None:
    data = packed(member("a", random.Random(1).randbytes(3000)), member("b", b"y" * 900))
    whole = unpack_tar_gz(data, LIMITS)
    assert len(whole) == 2
    for end in range(0, len(data) - 1, 13):
        assert refused(data[:end]).reason is Reason.ARCHIVE_INVALID


def test_a_cut_tar_in_a_whole_gzip_is_noticed() -> None:
    raw = tar(member("a", b"x" * 900), member("b", b"y" * 900))
    for end in (512, 1000, 1024, 1536, 2048, 2560, 3072):
        assert refused(gzip.compress(raw[:end])).reason is Reason.ARCHIVE_INVALID, end


def test_damage_in_the_middle_is_not_taken_for_the_end() -> None:
    raw = bytearray(tar(member("a"), member("b"), member("c")))
    raw[1024 + 150] ^= 0xFF  # the checksum of the second header
    assert refused(gzip.compress(bytes(raw))).reason is Reason.ARCHIVE_INVALID


@pytest.mark.parametrize("data", [b"", b"hello", b"PK\x03\x04" + bytes(100), gzip.compress(b"no tar at all" * 100)])
def test_what_is_no_archive(data: bytes) -> None:
    assert refused(data).reason is Reason.ARCHIVE_INVALID


def test_random_damage_never_gives_another_error() -> None:
    generator = random.Random(7)
    good = packed(member("a", b"hello" * 50), member("b/c", b"x"), member("d", b"z" * 700))
    raw = gzip.decompress(good)
    for _ in range(400):
        damaged = bytearray(raw)
        for _ in range(generator.randint(1, 6)):
            damaged[generator.randrange(len(damaged))] = generator.randrange(256)
        outcome = reason_of(gzip.compress(bytes(damaged), 1))
        assert outcome in (None, Reason.ARCHIVE_INVALID, Reason.ARCHIVE_TOO_LARGE, Reason.PATH_REJECTED)


def reason_of(data: bytes) -> Reason | None:
    try:
        unpack_tar_gz(data, LIMITS)
    except GenerationError as error:
        return error.reason
    return None
