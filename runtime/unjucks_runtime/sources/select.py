"""Which files of a source are taken: below the folder, not ignored, with safe paths, within the limits. Pure.

Everything that a source delivers goes through here, whatever it is, so the same files make the same tree. Paths stay as they are in
the source; the folder becomes the root later, in the renderer. Called by the sources.
"""

from collections.abc import Iterable, Mapping

import pathspec

from unjucks_api.courier_protocol import CourierLimits
from unjucks_api.reasons import Reason
from unjucks_api.tree import PathRejectedError, check_collisions, check_path
from unjucks_runtime.courier.errors import CourierError

MAX_PATTERNS = 200


class Selection:
    """``folder``: relative to the source's root, ``.`` for all. ``ignore``: gitignore lines, relative to the source's root."""

    def __init__(self, folder: str, ignore: str, limits: CourierLimits) -> None:
        self._limits = limits
        cleaned = folder.removeprefix("./").strip("/")
        try:
            self.folder = "" if cleaned in ("", ".") else check_path(cleaned)
        except PathRejectedError as error:
            raise CourierError(Reason.PATH_REJECTED, f"spec.path: {error}") from None
        lines = [line for line in ignore.splitlines() if line.strip() and not line.startswith("#")]
        if len(lines) > MAX_PATTERNS:
            raise CourierError(
                Reason.PATH_REJECTED, f"spec.ignore has {len(lines)} patterns; {MAX_PATTERNS} are allowed"
            )
        try:
            self._ignore = pathspec.GitIgnoreSpec.from_lines(lines) if lines else None
        except ValueError:
            raise CourierError(Reason.PATH_REJECTED, "spec.ignore has a line that is no gitignore pattern") from None

    def wants(self, path: str) -> bool:
        """Whether a file at this path of the source is taken. The path may be anything; a bad one is refused later."""
        if self.folder and not path.startswith(self.folder + "/"):
            return False
        return self._ignore is None or not self._ignore.match_file(path)

    def may_hold(self, folder: str) -> bool:
        """Whether files below this folder may be taken, by its place alone."""
        return (
            not self.folder
            or folder == self.folder
            or self.folder.startswith(folder + "/")
            or folder.startswith(self.folder + "/")
        )

    def collect(self, files: Iterable[tuple[str, bytes, int]]) -> dict[str, tuple[bytes, int]]:
        """(path, content, mode) of the files that are wanted, as a tree. Raises CourierError."""
        tree: dict[str, tuple[bytes, int]] = {}
        total = 0
        try:
            for name, content, mode in files:
                path = check_path(name)
                if path in tree:
                    raise CourierError(Reason.ARCHIVE_INVALID, f"{path!r} is there twice", path=path)
                total += len(content)
                if len(tree) >= self._limits.files:
                    raise self.too_many()
                if total > self._limits.source_bytes:
                    raise self.too_big()
                tree[path] = content, 0o755 if mode & 0o100 else 0o644
            check_collisions(tree)
        except PathRejectedError as error:
            raise CourierError(Reason.PATH_REJECTED, str(error)) from None
        if not tree:
            where = f"no folder {self.folder!r} with files" if self.folder else "nothing"
            raise CourierError(Reason.PATH_NOT_FOUND, f"there is {where} in the source that spec.ignore leaves")
        return tree

    def filter(self, tree: Mapping[str, tuple[bytes, int]]) -> dict[str, tuple[bytes, int]]:
        """The wanted part of a tree that was unpacked from an archive."""
        return self.collect((path, content, mode) for path, (content, mode) in tree.items() if self.wants(path))

    def too_many(self) -> CourierError:
        """More files than are allowed."""
        return CourierError(
            Reason.ARCHIVE_TOO_LARGE, f"the source has more than {self._limits.files} files", limit="files"
        )

    def too_big(self) -> CourierError:
        """More bytes than are allowed."""
        return CourierError(
            Reason.ARCHIVE_TOO_LARGE,
            f"the files are larger than {self._limits.source_bytes} bytes together",
            limit="source",
        )
