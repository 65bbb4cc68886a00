"""Unpacks a .tar.gz into a tree in memory, as if an enemy had packed it: bounded before anything is allocated, files only.

Links, devices, sparse and doubled entries, unsafe paths, truncated and trailing data are refused with the entry's name. Nothing
touches a disk. Called in a confined child (``renderer.tasks``) and by the command line.
"""

import io
import tarfile
import zlib
from dataclasses import dataclass

from unjucks_api.reasons import Reason
from unjucks_api.tree import PathRejectedError, check_collisions, check_path
from unjucks_runtime.failures import GenerationError, Place

_CHUNK = 64 * 1024
_BLOCK = 512
_GZIP = 31  # zlib: a gzip header and trailer, largest window


@dataclass(frozen=True, slots=True)
class ArchiveLimits:
    """Bounds of an archive. ``ratio``: unpacked to packed bytes, looked at beyond the first MiB; ``depth``: folders in a path."""

    bytes: int
    files: int
    ratio: int = 200
    depth: int = 32


def unpack_tar_gz(data: bytes, limits: ArchiveLimits) -> dict[str, tuple[bytes, int]]:
    """The regular files of the archive: path -> (content, 0o644 or 0o755). Folders are implied.

    Raises GenerationError: ArchiveTooLarge (which limit) or ArchiveInvalid or PathRejected (which entry and why).
    """
    raw = _decompress(data, limits)
    files: dict[str, tuple[bytes, int]] = {}
    entries = 0
    try:
        with tarfile.open(fileobj=io.BytesIO(raw), mode="r:") as archive:
            for entry in archive:
                entries += 1
                if entries > limits.files * 2:  # folders count too
                    raise _too_large(f"it has more than {limits.files * 2} entries", "files")
                path = _check_entry(entry, limits)
                if path is None:
                    continue
                if path in files:
                    raise _invalid("it is there twice", path)
                if len(files) >= limits.files:
                    raise _too_large(f"it has more than {limits.files} files", "files")
                source = archive.extractfile(entry)
                content = source.read() if source is not None else b""
                if len(content) != entry.size:
                    raise _invalid("its content is cut short", path)
                files[path] = (content, 0o755 if entry.mode & 0o100 else 0o644)
                if sum_over(files, limits.bytes):
                    raise _too_large(f"its files are larger than {limits.bytes} bytes together", "source")
            _check_end(raw, archive.offset)
    except (tarfile.TarError, EOFError, UnicodeError, ValueError, OverflowError) as error:
        raise _invalid(f"the archive cannot be read: {error}") from None
    try:
        check_collisions(files)
    except PathRejectedError as error:
        raise GenerationError(Reason.ARCHIVE_INVALID, str(error)) from None
    return files


def sum_over(files: dict[str, tuple[bytes, int]], bound: int) -> bool:
    """Whether the contents together are larger than ``bound``."""
    return sum(len(content) for content, _ in files.values()) > bound


def _decompress(data: bytes, limits: ArchiveLimits) -> bytes:
    """The tar stream, bounded by what the files may have plus a tar's own overhead for each entry."""
    bound = limits.bytes + limits.files * 2 * 3 * _BLOCK + 64 * 1024
    by_ratio = max(1 << 20, len(data) * limits.ratio)
    if not data:
        raise _invalid("the archive is empty")
    out = bytearray()
    position = 0
    while position < len(data):
        if out and not any(data[position:]):
            break  # padding after the last member
        member = zlib.decompressobj(_GZIP)
        pending = b""
        while not member.eof:
            if not pending:
                pending = data[position : position + _CHUNK]
                position += len(pending)
            try:
                more = member.decompress(pending, _CHUNK)
            except zlib.error as error:
                what = "is damaged" if out else "is no .tar.gz"
                raise _invalid(f"the archive {what} ({error})") from None
            if not more and not pending and not member.eof:
                raise _invalid("the archive is cut short")
            pending = member.unconsumed_tail
            out += more
            if len(out) > bound:
                raise _too_large(f"it unpacks to more than {bound} bytes", "source")
            if len(out) > by_ratio:
                raise _too_large(f"it unpacks to more than {limits.ratio} times its size", "ratio")
        position -= len(member.unused_data)
    return bytes(out)


def _check_entry(entry: tarfile.TarInfo, limits: ArchiveLimits) -> str | None:
    """The path of a regular file, None for a folder; raises for everything else."""
    name = entry.name
    while name.startswith("./"):
        name = name[2:]
    if entry.isdir() and name.rstrip("/") in ("", "."):
        return None
    try:
        path = check_path(name.rstrip("/") if entry.isdir() else name)
    except PathRejectedError as error:
        raise GenerationError(Reason.PATH_REJECTED, f"archive: {error}") from None
    if path.count("/") > limits.depth:
        raise _too_large(f"{path!r} is deeper than {limits.depth} folders", "depth")
    if entry.isdir():
        return None
    if entry.issparse():
        raise _invalid("it is a sparse file", path)
    if not entry.isreg():
        kind = {tarfile.SYMTYPE: "symbolic link", tarfile.LNKTYPE: "hard link", tarfile.FIFOTYPE: "pipe"}.get(
            entry.type, "device"
        )
        raise _invalid(f"it is a {kind}; only files and folders are taken", path)
    if entry.size > limits.bytes:
        raise _too_large(f"{path!r} is larger than {limits.bytes} bytes", "source")
    return path


def _check_end(raw: bytes, offset: int) -> None:
    """tarfile takes a damaged header for the end; a real end is a block of zeros, and nothing follows but zeros."""
    rest = raw[offset:]
    if len(rest) < _BLOCK:
        raise _invalid("the archive is cut short: its end mark is missing")
    if rest.strip(b"\0"):
        raise _invalid(f"the archive is damaged after {offset} bytes")


def _invalid(why: str, path: str = "") -> GenerationError:
    return GenerationError(Reason.ARCHIVE_INVALID, f"archive entry {path!r}: {why}" if path else why, Place(path))


def _too_large(why: str, limit: str) -> GenerationError:
    return GenerationError(Reason.ARCHIVE_TOO_LARGE, f"the archive is too large: {why}", limit=limit)
