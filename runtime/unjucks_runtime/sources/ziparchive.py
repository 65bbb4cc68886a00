"""Unpacks a .zip into a tree in memory, as if an enemy had packed it: bounded before anything is allocated, files only.

Links, devices, encrypted, doubled and overlapping entries, unsafe paths, other compressions than deflate, truncated data and
anything before the archive are refused with the entry's name. Nothing touches a disk. Called in a courier's child.
"""

import io
import itertools
import stat
import zipfile
import zlib

from unjucks_api.reasons import Reason
from unjucks_api.tree import PathRejectedError, check_collisions, check_path
from unjucks_runtime.failures import GenerationError, Place
from unjucks_runtime.sources.archive import ArchiveLimits

_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_ENCRYPTED = 0x1


def unpack_zip(data: bytes, limits: ArchiveLimits) -> dict[str, tuple[bytes, int]]:
    """The regular files of the archive: path -> (content, 0o644 or 0o755). Raises GenerationError as ``unpack_tar_gz`` does."""
    files: dict[str, tuple[bytes, int]] = {}
    left = limits.bytes
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            entries = archive.infolist()
            if len(entries) > limits.files * 2:
                raise _too_large(f"it has more than {limits.files * 2} entries", "files")
            if entries and min(entry.header_offset for entry in entries) != 0:
                raise _invalid("there is something before the archive's first entry")
            spans = sorted((entry.header_offset, entry.header_offset + entry.compress_size) for entry in entries)
            if any(end > start for (_, end), (start, _) in itertools.pairwise(spans)):
                raise _invalid("its entries lie over each other")
            for entry in entries:
                path = _check_entry(entry, limits)
                if path is None:
                    continue
                if path in files:
                    raise _invalid("it is there twice", path)
                if len(files) >= limits.files:
                    raise _too_large(f"it has more than {limits.files} files", "files")
                content = _read(archive, entry, path, left, limits)
                left -= len(content)
                files[path] = content, 0o755 if (entry.external_attr >> 16) & 0o100 else 0o644
    except (zipfile.BadZipFile, zlib.error, EOFError, UnicodeError, ValueError, NotImplementedError, OSError) as error:
        raise _invalid(f"the archive cannot be read: {type(error).__name__}") from None
    try:
        check_collisions(files)
    except PathRejectedError as error:
        raise GenerationError(Reason.ARCHIVE_INVALID, str(error)) from None
    return files


def _read(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, path: str, left: int, limits: ArchiveLimits) -> bytes:
    bound = min(left, max(1 << 20, entry.compress_size * limits.ratio))
    with archive.open(entry) as source:
        content = source.read(bound + 1)
        if len(content) > left:
            raise _too_large(f"its files are larger than {limits.bytes} bytes together", "source")
        if len(content) > bound:
            raise _too_large(f"it unpacks to more than {limits.ratio} times its size", "ratio")
        if source.read(1) or len(content) != entry.file_size:
            raise _invalid("its size is not what the archive says", path)
    return content


def _check_entry(entry: zipfile.ZipInfo, limits: ArchiveLimits) -> str | None:
    """The path of a regular file, None for a folder; raises for everything else."""
    name = entry.orig_filename.removeprefix("./")
    try:
        if name.endswith("/"):
            if name.rstrip("/") in ("", "."):
                return None
            path = check_path(name.rstrip("/"))
        else:
            path = check_path(name)
    except PathRejectedError as error:
        raise GenerationError(Reason.PATH_REJECTED, f"archive entry: {error}") from None
    if path.count("/") + 1 > limits.depth:
        raise _too_large(f"{path!r} is deeper than {limits.depth} folders", "depth")
    if entry.flag_bits & _ENCRYPTED:
        raise _invalid("it is encrypted", path)
    kind = stat.S_IFMT(entry.external_attr >> 16)
    if kind == stat.S_IFLNK:
        raise _invalid("it is a link; links are not followed", path)
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise _invalid("it is neither a file nor a folder", path)
    if name.endswith("/"):
        return None
    if kind == stat.S_IFDIR:
        raise _invalid("it is a folder by its mode and a file by its name", path)
    if entry.compress_type not in _METHODS:
        raise _invalid("its compression is none that is supported (stored, deflated)", path)
    return path


def _invalid(why: str, path: str = "") -> GenerationError:
    text = f"archive entry {path!r}: {why}" if path else why
    return GenerationError(Reason.ARCHIVE_INVALID, text, Place(path))


def _too_large(why: str, limit: str) -> GenerationError:
    return GenerationError(Reason.ARCHIVE_TOO_LARGE, f"the archive is too large: {why}", limit=limit)
