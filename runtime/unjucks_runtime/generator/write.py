"""Writes an outcome into a folder: all or nothing, never through a link. The only writing I/O of the generator.

Two ways. A folder that does not exist is built beside its place and appears with one rename. A folder that exists is changed
with a journal: all new contents are first written below ``.unjucks-journal-…`` in the folder itself and flushed; then one rename
of the journal (the commit) decides; then each file is moved to its place by a rename. A crash before the commit leaves the old
tree, one after it is finished by the next ``write_atomically`` or ``recover``: never a mix that stays. A failure that is no crash
is rolled back at once. Every folder is opened without following links, relative to the descriptor of the one above it.
Called by the command line.
"""

import errno
import fcntl
import json
import os
import secrets
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from unjucks_api.reasons import Reason
from unjucks_api.tree import PathRejectedError, check_collisions, check_path
from unjucks_runtime.generator.disk import open_folder, read_file
from unjucks_runtime.generator.errors import GenerationError
from unjucks_runtime.generator.result import File, Result, Status

PREFIX: Final = ".unjucks-journal-"
_PREPARED: Final = ".prepared"  # not committed: an interrupted one is thrown away
_COMMITTED: Final = ".committed"  # an interrupted one is finished
_RECORD: Final = "journal.json"
_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


def write_atomically(result: Result, folder: str | os.PathLike[str]) -> list[str]:
    """Writes the created and updated files of ``result`` below ``folder`` and removes the removed ones; returns their paths.

    Raises GenerationError Conflict when the result has conflicts, PathRejected when a link stands in the way, OutputCollision when
    a file stands where a folder is needed; OSError of the system otherwise (disk full, no permission). After any of them the
    folder is as it was.
    """
    if result.conflicts:
        names = ", ".join(file.path for file in result.conflicts[:5])
        raise GenerationError(
            Reason.CONFLICT, f"nothing is written, {len(result.conflicts)} files are in conflict: {names}"
        )
    return write_files([*result.changes, *result.removals], folder)


def write_files(files: Sequence[File], folder: str | os.PathLike[str]) -> list[str]:
    """As ``write_atomically``, for any files: their paths are checked again. Those with status removed are removed."""
    try:
        paths = [check_path(file.path) for file in files]
        check_collisions(paths)
    except PathRejectedError as error:
        raise GenerationError(Reason.PATH_REJECTED, str(error)) from None
    target = os.path.abspath(folder)
    if not os.path.lexists(target):
        if written := [file for file in files if file.status is not Status.REMOVED]:
            _create(written, target)
        return paths
    with _locked(target) as handle:
        _recover(handle)
        if files:
            _journal(files, handle)
    return paths


def recover(folder: str | os.PathLike[str]) -> bool:
    """Finishes or throws away what an interrupted write left in ``folder``; whether there was anything."""
    if not os.path.isdir(folder):
        return False
    with _locked(os.path.abspath(folder)) as handle:
        return _recover(handle)


@contextmanager
def _locked(target: str) -> Iterator[int]:
    """The folder's descriptor, held alone by this process: two generations into one folder wait for each other."""
    handle = os.open(target, _FOLDER)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield handle
    finally:
        os.close(handle)


# --- a new folder ------------------------------------------------------------------------------------------------------------
def _create(files: Sequence[File], target: str) -> None:
    parent, name = os.path.split(target)
    os.makedirs(parent, exist_ok=True)
    above = os.open(parent, _FOLDER)
    staging = f"{PREFIX}{secrets.token_hex(8)}.{name[:40]}"
    try:
        _clear_leftovers(above, name)
        os.mkdir(staging, 0o777, dir_fd=above)
        try:
            inside = open_folder(above, staging)
            try:
                fcntl.flock(inside, fcntl.LOCK_EX)
                for file in files:
                    _write(inside, file.path, file)
                _sync_folders(inside, [file.path for file in files])
            finally:
                os.close(inside)
            try:
                # Replaces an empty folder that somebody made meanwhile (it was empty), and fails for one with content.
                os.rename(staging, name, src_dir_fd=above, dst_dir_fd=above)
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                    raise
                raise GenerationError(Reason.CONFLICT, f"{target} appeared meanwhile; run again") from None
        except BaseException:
            shutil.rmtree(staging, dir_fd=above, ignore_errors=True)
            raise
        os.fsync(above)
    finally:
        os.close(above)


def _clear_leftovers(above: int, name: str) -> None:
    """Throws away what killed runs for the same folder left beside it; a run that still works holds its lock."""
    for entry in os.listdir(above):
        if not (entry.startswith(PREFIX) and entry.endswith("." + name[:40])):
            continue
        try:
            handle = open_folder(above, entry)
        except (OSError, GenerationError):
            continue
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            continue
        else:
            shutil.rmtree(entry, dir_fd=above, ignore_errors=True)
        finally:
            os.close(handle)


def _write(root: int, path: str, file: File, permissions: int | None = None) -> None:
    with _parent(root, path, make=True) as (folder, name):
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        handle = os.open(name, flags, 0o777 if file.mode & 0o100 else 0o666, dir_fd=folder)
        try:
            view = memoryview(file.content)
            while view:
                view = view[os.write(handle, view) :]
            if permissions is not None:
                os.fchmod(handle, permissions)
            os.fsync(handle)
        finally:
            os.close(handle)


@contextmanager
def _parent(root: int, path: str, *, make: bool) -> Iterator[tuple[int, str]]:
    """(descriptor of the folder that holds ``path``, last segment); folders are made on the way when asked."""
    *folders, name = path.split("/")
    handle = os.dup(root)
    try:
        for folder in folders:
            if make:
                try:
                    os.mkdir(folder, 0o777, dir_fd=handle)
                except FileExistsError:
                    pass
            try:
                inner = open_folder(handle, folder)
            except NotADirectoryError:
                raise GenerationError(
                    Reason.OUTPUT_COLLISION, f"a file stands where {path!r} needs the folder {folder!r}"
                ) from None
            except GenerationError as error:
                raise GenerationError(error.reason, f"{path}: {error.message}") from None
            os.close(handle)
            handle = inner
        yield handle, name
    finally:
        os.close(handle)


def _sync_folders(root: int, paths: Sequence[str]) -> None:
    folders = {""}
    for path in paths:
        while "/" in path:
            path = path.rpartition("/")[0]
            folders.add(path)
    for folder in sorted(folders, reverse=True):
        with _parent(root, f"{folder}/x" if folder else "x", make=False) as (handle, _):
            os.fsync(handle)


# --- an existing folder ------------------------------------------------------------------------------------------------------
def _journal(files: Sequence[File], root: int) -> None:
    permissions = [_check_target(root, file) for file in files]
    gone = [index for index, file in enumerate(files) if file.status is Status.REMOVED]
    folders = _missing_folders(root, [file.path for file in files if file.status is not Status.REMOVED])
    stem = PREFIX + secrets.token_hex(8)
    prepared, committed = stem + _PREPARED, stem + _COMMITTED
    os.mkdir(prepared, 0o700, dir_fd=root)
    try:
        inside = open_folder(root, prepared)
        try:
            with _parent(inside, "new/x", make=True):
                pass  # also when files are only removed
            for index, file in enumerate(files):
                if index not in gone:
                    _write(inside, f"new/{index}", file, permissions[index])
                _keep_old(root, inside, file.path, index)
            record = {
                "paths": [file.path for file in files],
                "folders": folders,
                "gone": [files[index].path for index in gone],
            }
            content = json.dumps(record).encode()
            _write(inside, _RECORD, File(_RECORD, Status.CREATED, content, 0o644, ""))
            _sync_folders(inside, [_RECORD, "new/0"])
        finally:
            os.close(inside)
        os.rename(prepared, committed, src_dir_fd=root, dst_dir_fd=root)
        os.fsync(root)
    except BaseException:
        shutil.rmtree(prepared, dir_fd=root, ignore_errors=True)
        raise
    try:
        _apply(root, committed)
    except Exception:
        _roll_back(root, committed)
        raise
    _remove(root, committed)


def _check_target(root: int, file: File) -> int | None:
    """Finds what can be known before the commit (links and files in the way); the permissions that an existing file keeps."""
    path = file.path
    try:
        with _parent(root, path, make=False) as (folder, name):
            try:
                if read_file(folder, name, limit=1 << 62) is None:
                    return None
            except GenerationError as error:
                raise GenerationError(error.reason, f"{path}: {error.message}") from None
            kept = os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode & 0o777
            return kept | (kept & 0o444) >> 2 if file.mode & 0o100 else kept & ~0o111
    except FileNotFoundError:
        return None  # a folder on the way is missing: it will be made


def _missing_folders(root: int, paths: Sequence[str]) -> list[str]:
    """The folders that the writing will make, outer ones first: a failure takes them away again."""
    wanted = {path[:index] for path in paths for index, char in enumerate(path) if char == "/"}
    return sorted(folder for folder in wanted if not _exists_path(root, folder))


def _keep_old(root: int, inside: int, path: str, index: int) -> None:
    """A second name for the file that will be replaced, for the way back. Where the file system has no links: a copy."""
    try:
        with _parent(root, path, make=False) as (folder, name):
            old = read_file(folder, name, limit=1 << 62)
            if old is None:
                return
            with _parent(inside, f"old/{index}", make=True) as (target, own):
                try:
                    os.link(name, own, src_dir_fd=folder, dst_dir_fd=target, follow_symlinks=False)
                    return
                except OSError:  # EPERM, EMLINK, EXDEV: no links here
                    pass
            _write(inside, f"old/{index}", File(path, Status.UPDATED, old[0], old[1], ""))
    except FileNotFoundError:
        return


def _record(inside: int, key: str) -> list[str]:
    item = read_file(inside, _RECORD)
    if item is None:
        raise GenerationError(Reason.PUBLISH_FAILED, "a committed journal has no record; remove its folder by hand")
    return [check_path(str(path)) for path in json.loads(item[0]).get(key, [])]


def _apply(root: int, committed: str) -> None:
    """Moves each new content to its place; what is moved already is passed over. May be repeated after a crash."""
    inside = open_folder(root, committed)
    try:
        paths, gone = _record(inside, "paths"), _record(inside, "gone")
        made = False
        for index, path in enumerate(paths):
            if path in gone:
                _unlink(root, path)
                continue
            with (
                _parent(root, path, make=True) as (folder, name),
                _parent(inside, f"new/{index}", make=False) as (new, own),
            ):
                try:
                    os.rename(own, name, src_dir_fd=new, dst_dir_fd=folder)
                    made = True
                except FileNotFoundError:
                    continue
        if made:
            _sync_folders(root, [path for path in paths if path not in gone])
        _remove_empty(root, gone)
    finally:
        os.close(inside)


def _unlink(root: int, path: str) -> None:
    try:
        with _parent(root, path, make=False) as (folder, name):
            os.unlink(name, dir_fd=folder)
            os.fsync(folder)
    except FileNotFoundError:
        pass  # gone already


def _remove_empty(root: int, gone: Sequence[str]) -> None:
    """Takes away the folders that a removal left empty, inner ones first."""
    folders = {path[:index] for path in gone for index, char in enumerate(path) if char == "/"}
    for folder in sorted(folders, key=lambda path: path.count("/"), reverse=True):
        try:
            with _parent(root, folder, make=False) as (above, name):
                os.rmdir(name, dir_fd=above)
        except (OSError, GenerationError):
            continue  # not empty, or not there


def _roll_back(root: int, committed: str) -> None:
    """The way back after a failure in ``_apply``: old contents to their places, new files away."""
    inside = open_folder(root, committed)
    try:
        gone = _record(inside, "gone")
        for index, path in enumerate(_record(inside, "paths")):
            if path in gone:
                if not _exists_path(root, path) and _exists_path(inside, f"old/{index}"):
                    with (
                        _parent(root, path, make=True) as (folder, name),
                        _parent(inside, f"old/{index}", make=False) as (old, kept),
                    ):
                        os.rename(kept, name, src_dir_fd=old, dst_dir_fd=folder)
                continue
            with _parent(inside, f"new/{index}", make=False) as (new, own):
                if _exists(new, own):
                    continue  # never moved
            # Only what was moved is undone: its folder exists.
            with _parent(root, path, make=False) as (folder, name):
                if _exists_path(inside, f"old/{index}"):
                    with _parent(inside, f"old/{index}", make=False) as (old, kept):
                        os.rename(kept, name, src_dir_fd=old, dst_dir_fd=folder)
                else:
                    os.unlink(name, dir_fd=folder)
        for path in reversed(_record(inside, "folders")):
            try:
                with _parent(root, path, make=False) as (folder, name):
                    os.rmdir(name, dir_fd=folder)
            except OSError:  # never made, or somebody put something into it
                pass
    finally:
        os.close(inside)
    _remove(root, committed)


def _exists(folder: int, name: str) -> bool:
    try:
        os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def _exists_path(root: int, path: str) -> bool:
    try:
        with _parent(root, path, make=False) as (folder, name):
            return _exists(folder, name)
    except FileNotFoundError:
        return False


def _remove(root: int, name: str) -> None:
    # First out of sight of a recovery, by one rename; then at leisure.
    done = name.removesuffix(_COMMITTED) + _PREPARED
    os.rename(name, done, src_dir_fd=root, dst_dir_fd=root)
    shutil.rmtree(done, dir_fd=root, ignore_errors=True)


def _recover(root: int) -> bool:
    found = False
    for name in sorted(os.listdir(root)):
        if not name.startswith(PREFIX):
            continue
        if name.endswith(_COMMITTED):
            _apply(root, name)
            _remove(root, name)
            found = True
        elif name.endswith(_PREPARED):
            shutil.rmtree(name, dir_fd=root, ignore_errors=True)
            found = True
    return found
