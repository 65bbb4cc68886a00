"""Reading trees from a disk: never through links, never outside the folder, with bounds. The only reading I/O of the generator.

Called by the command line (template sets, existing output) and by whoever publishes into a folder. Folders that are no source
(``.git``, ``node_modules`` …) are left out.
"""

import errno
import os
import stat
from collections.abc import Iterator, Mapping
from typing import Final

from unjucks_api.reasons import Reason
from unjucks_api.tree import PathRejectedError, check_path
from unjucks_runtime.generator.errors import GenerationError

MAX_FILES: Final = 10_000
MAX_BYTES: Final = 64 * 1024 * 1024
IGNORED: Final = frozenset(
    {".git", ".hg", ".svn", "node_modules", "__pycache__", ".venv", ".mypy_cache", ".ruff_cache", ".tox"}
)
_FOLDER_FLAGS: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE_FLAGS: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK


def open_folder(parent: int, name: str) -> int:
    """A descriptor of the folder ``name`` below the descriptor ``parent``; a link in its place is refused with a clear error."""
    try:
        return os.open(name, _FOLDER_FLAGS, dir_fd=parent)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENOTDIR) and _is_link(parent, name):
            raise GenerationError(Reason.PATH_REJECTED, f"{name!r} is a link; links are not followed") from None
        raise


def _is_link(parent: int, name: str) -> bool:
    try:
        return stat.S_ISLNK(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode)
    except OSError:
        return False


def read_file(parent: int, name: str, limit: int = MAX_BYTES) -> tuple[bytes, int] | None:
    """(content, mode) of a regular file below a descriptor; None when absent; GenerationError for links and special files."""
    try:
        handle = os.open(name, _FILE_FLAGS, dir_fd=parent)
    except FileNotFoundError:
        return None
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise GenerationError(Reason.PATH_REJECTED, f"{name!r} is a link; links are not followed") from None
        raise
    try:
        facts = os.fstat(handle)
        if not stat.S_ISREG(facts.st_mode):
            raise GenerationError(Reason.PATH_REJECTED, f"{name!r} is no regular file")
        if facts.st_size > limit:
            raise GenerationError(Reason.LIMIT_EXCEEDED, f"{name!r} is larger than {limit} bytes", limit="source_bytes")
        with os.fdopen(handle, "rb", closefd=False) as stream:
            content = stream.read(facts.st_size)
        return content, 0o755 if facts.st_mode & 0o100 else 0o644
    finally:
        os.close(handle)


def read_tree(folder: str | os.PathLike[str], *, only: str = "") -> dict[str, tuple[bytes, int]]:
    """Every regular file below ``folder``, by relative path; links are refused. ``only`` limits it to one folder inside."""
    files: dict[str, tuple[bytes, int]] = {}
    total = 0
    root = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for path, parent, name in _walk(root, ""):
            if only and not path.startswith(only + "/"):
                continue
            try:
                item = read_file(parent, name)
            except GenerationError as error:
                raise GenerationError(error.reason, f"{path}: {error.message}") from None
            if item is None:
                continue
            files[path] = item
            total += len(item[0])
            if len(files) > MAX_FILES or total > MAX_BYTES:
                raise GenerationError(
                    Reason.ARCHIVE_TOO_LARGE,
                    f"{os.fspath(folder)} holds more than {MAX_FILES} files or {MAX_BYTES} bytes; is it the right folder?",
                )
    finally:
        os.close(root)
    return files


def _walk(parent: int, prefix: str) -> Iterator[tuple[str, int, str]]:
    for entry in sorted(os.scandir(parent), key=lambda item: os.fsencode(item.name)):
        path = prefix + entry.name
        if entry.is_dir(follow_symlinks=False):
            if entry.name in IGNORED:
                continue
            inner = open_folder(parent, entry.name)
            try:
                yield from _walk(inner, path + "/")
            finally:
                os.close(inner)
        else:
            yield path, parent, entry.name


class FolderTree(Mapping[str, tuple[bytes, int]]):
    """An existing folder as a base tree, read on demand: a generation into a large repository reads only what it touches.

    Close it (or use it with ``with``) when done. A folder that does not exist is an empty tree.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = os.fspath(folder)
        self.cache: dict[str, tuple[bytes, int] | None] = {}
        try:
            self.handle = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:
            self.handle = -1

    def __enter__(self) -> "FolderTree":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Gives the folder's descriptor back."""
        if self.handle >= 0:
            os.close(self.handle)
            self.handle = -1

    def __getitem__(self, path: str) -> tuple[bytes, int]:
        if path not in self.cache:
            self.cache[path] = self._read(path)
        item = self.cache[path]
        if item is None:
            raise KeyError(path)
        return item

    def _read(self, path: str) -> tuple[bytes, int] | None:
        if self.handle < 0:
            return None
        try:
            *folders, name = check_path(path).split("/")
        except PathRejectedError as error:
            raise GenerationError(Reason.PATH_REJECTED, str(error)) from None
        handle = os.dup(self.handle)
        try:
            for folder in folders:
                try:
                    inner = open_folder(handle, folder)
                except FileNotFoundError:
                    return None
                except NotADirectoryError:
                    return None  # a file where a folder is wanted: found when the parents are checked
                os.close(handle)
                handle = inner
            if _is_folder(handle, name):
                raise GenerationError(
                    Reason.OUTPUT_COLLISION, f"{path!r} is a folder; a file of that name cannot be written"
                )
            return read_file(handle, name)
        finally:
            os.close(handle)

    def __iter__(self) -> Iterator[str]:
        if self.handle < 0:
            return
        for path, _, _ in _walk(self.handle, ""):
            yield path

    def __len__(self) -> int:
        return sum(1 for _ in self)


def _is_folder(parent: int, name: str) -> bool:
    try:
        return stat.S_ISDIR(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode)
    except OSError:
        return False
