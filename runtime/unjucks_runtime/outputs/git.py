"""A Git branch as an output: at most one commit for a run, by compare-and-set on the branch; a commit of others is never lost.

The tips of branch and base are fetched, ``DEPTH`` commits deep, into memory; nothing is checked out. A new commit goes on top of
the branch, or on top of the base when the branch does not exist or is merged. Trailers of the commit's message name run, job and
manifest; they are looked up before anything is written, so a run that was pushed and not recorded is found. Everything in the
commit follows from the request (the time too), so two attempts make the same commit. The push names the id that the branch had;
there is no force. The base is only read. Called by ``outputs.tasks``.
"""

import re
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from io import BytesIO
from typing import Any

from dulwich.client import GitClient
from dulwich.errors import SendPackError
from dulwich.object_store import MemoryObjectStore
from dulwich.objects import Blob, Commit, ObjectID, ShaFile, Tree
from dulwich.pack import pack_objects_to_data
from dulwich.refs import Ref, check_ref_format

from unjucks_api.courier_protocol import CourierLimits, GitTarget
from unjucks_api.reasons import Reason
from unjucks_runtime.courier.errors import CourierError, transient
from unjucks_runtime.courier.git_transport import git_errors, said_text
from unjucks_runtime.courier.net import printable_url, too_large
from unjucks_runtime.outputs.checks import MANIFEST, STATEMENT, Content, listed, own_path

DEPTH = 20
"""Commits of each branch that are read: so many may lie on top of one that was pushed and not recorded."""
TRAILER_RUN, TRAILER_JOB, TRAILER_MANIFEST = "Unjucks-Run", "Unjucks-Job", "Unjucks-Manifest"

_HEADS = b"refs/heads/"
_PROTECTED = re.compile(
    r"protected|hook declined|denied|not allowed|not permitted|prohibited|permission|GH00\d|policy|restricted", re.I
)
_MOVED = re.compile(
    r"fetch first|non-fast-forward|lock|already exists|failed to update ref|stale|expected|incorrect old", re.I
)
_MODE_LINK, _MODE_MODULE = 0o120000, 0o160000

Files = dict[str, tuple[bytes, int]]


@dataclass(frozen=True, slots=True)
class Seen:
    """What was fetched. ``branch``: its id, empty for none. ``parent``: where files are read, and what a new commit goes on."""

    store: MemoryObjectStore
    branch: str
    parent: str
    run_key: str
    manifest: bytes
    statement: bytes
    commit: str
    """The commit of the request's run, when it is there already."""


class _Walker:
    """Asks for everything: nothing is kept from one task to the next."""

    def __init__(self) -> None:
        self.shallow: set[ObjectID] = set()

    def __next__(self) -> None:
        return None

    def ack(self, sha: bytes) -> None:
        """Nothing is in common."""

    def nak(self) -> None:
        """Nothing is in common."""


class GitOutput:
    """One branch in one task. ``client`` and ``path`` come from ``courier.git_transport``."""

    def __init__(self, client: GitClient, path: str, target: GitTarget, job: str, limits: CourierLimits) -> None:
        self._client = client
        self._path = path
        self._target = target
        self._job = job
        self._limits = limits
        self._shown = printable_url(target.url)
        self._branch = _ref(target.branch, "branch")
        self._base = _ref(target.base, "base")
        if self._branch == self._base:
            raise CourierError(
                Reason.PUBLISH_FAILED, f"branch and base are both {target.base!r}; the base is never written to"
            )

    # --- reading --------------------------------------------------------------------------------------------------------
    def look(self, run_key: str) -> Seen:
        """Fetch both tips and find out where the run stands. Raises CourierError: RevisionNotFound, NotOwned, FetchFailed, …"""
        store = MemoryObjectStore()
        with git_errors(self._target.url):
            refs = self._fetch(store)
            base, branch = refs.get(self._base), refs.get(self._branch)
            if base is None:
                raise CourierError(
                    Reason.REVISION_NOT_FOUND, f"{self._shown} has no branch {self._target.base!r} to start from"
                )
            in_base = dict(_history(store, base))
            merged = branch is not None and branch in in_base
            parent = base if branch is None or merged else branch
            on_top = {sha: commit for sha, commit in _history(store, parent) if sha not in in_base}
            history = on_top | in_base
            manifest = self._manifest(store, parent)
            if branch is not None and not merged and not self._is_ours(on_top, manifest, self._manifest(store, base)):
                raise CourierError(
                    Reason.NOT_OWNED,
                    f"{self._shown}: branch {self._target.branch!r} exists and was not made by job {self._job}; delete it, or "
                    "choose another name in spec.output.git.branch",
                )
            trailers = {sha: _trailers(commit) for sha, commit in history.items()}
            mine = next((sha for sha, told in trailers.items() if self._is_run(told, run_key)), None)
            last = next((told for told in trailers.values() if told.get(TRAILER_JOB) == self._job), {})
            return Seen(
                store=store,
                branch="" if branch is None else branch.decode(),
                parent=parent.decode(),
                run_key=run_key if mine is not None else last.get(TRAILER_RUN, ""),
                manifest=manifest,
                statement=_blob(store, parent, self._at(own_path(self._job, STATEMENT))) or b"",
                commit="" if mine is None else mine.decode(),
            )

    def read(self, seen: Seen, *, others: bool) -> tuple[Files, Files, bool]:
        """Files that the manifest lists, the other ones below the path, and whether some of those were left out."""
        known = listed(seen.manifest)
        mine: Files = {}
        rest: Files = {}
        size, truncated = 0, False
        for path, mode, sha in _walk(seen.store, _subtree(seen.store, seen.parent.encode(), self._target.path)):
            if path in known or others:
                blob = seen.store[sha]
                assert isinstance(blob, Blob)
                content = blob.as_raw_string()
                if path not in known and (
                    size + len(content) > self._limits.source_bytes or len(rest) >= self._limits.files
                ):
                    truncated = True
                    continue
                if path not in known:
                    size += len(content)
                (mine if path in known else rest)[path] = (content, 0o755 if mode & 0o100 else 0o644)
        return mine, rest, truncated

    def facts(self, commit: str) -> dict[str, Any]:
        """For ``status.output``."""
        return {"revision": f"{self._target.branch}@sha1:{commit}", "url": self._shown}

    # --- writing --------------------------------------------------------------------------------------------------------
    def write(self, seen: Seen, content: Content, run_key: str, digest: str) -> tuple[str, bool]:
        """(id of the commit, whether one was pushed). Raises CourierError: Conflict (retryable) when the branch moved."""
        if seen.commit and seen.manifest == content.manifest:
            return seen.commit, False
        self._refuse_unseen(seen, content)
        changes = content.files | content.own(self._job)
        made: dict[ObjectID, ShaFile] = {}
        before = _root(seen.store, seen.parent.encode())
        tree = before
        for path, (data, mode) in sorted(changes.items()):
            blob = Blob.from_string(data)
            made[blob.id] = blob
            tree = self._put(seen.store, made, tree, self._at(path).split("/"), blob.id, 0o100000 | mode)
        for path in content.removed:
            tree = self._put(seen.store, made, tree, self._at(path).split("/"), None, 0)
        if tree.id == before.id:
            return seen.parent, False
        commit = self._commit(seen.parent, tree, run_key, digest)
        made[commit.id] = commit
        reachable = [item for item in made.values() if not isinstance(item, Tree) or item.id in _trees(made, tree)]
        self._push(seen.branch, commit.id, reachable)
        return commit.id.decode(), True

    def _refuse_unseen(self, seen: Seen, content: Content) -> None:
        if content.seen is None:
            return
        there = {
            path for path, _, _ in _walk(seen.store, _subtree(seen.store, seen.parent.encode(), self._target.path))
        }
        unseen = sorted((content.files.keys() & there) - content.seen)
        if unseen:
            raise CourierError(
                Reason.CONFLICT,
                f"{unseen[0]!r} exists in branch {self._target.branch!r} and was not read, because there are too many files; "
                "name a smaller folder in spec.output.git.path",
                path=unseen[0],
            )

    def _put(
        self,
        store: MemoryObjectStore,
        made: dict[ObjectID, ShaFile],
        tree: Tree,
        names: list[str],
        blob: ObjectID | None,
        mode: int,
    ) -> Tree:
        """A tree with the blob at that place, or without; folders in between are made, and links are never followed."""
        name = names[0].encode()
        now: tuple[int, ObjectID] | None = tree[name] if name in tree else None  # noqa: SIM401
        fresh = Tree()
        for entry in tree.iteritems():
            fresh.add(entry.path, entry.mode, entry.sha)
        if len(names) > 1:
            if now is not None and not stat.S_ISDIR(now[0]):
                raise self._in_the_way(names[0], now[0])
            if now is None and blob is None:
                return tree
            inner = Tree() if now is None else _tree(store, made, now[1])
            inner = self._put(store, made, inner, names[1:], blob, mode)
            if len(inner):
                fresh[name] = (stat.S_IFDIR, inner.id)
            elif now is not None:
                del fresh[name]
        elif blob is None:
            if now is None:
                return tree
            if not stat.S_ISREG(now[0]):
                raise self._in_the_way(names[0], now[0])
            del fresh[name]
        else:
            if now is not None and not stat.S_ISREG(now[0]):
                raise self._in_the_way(names[0], now[0])
            fresh[name] = (mode, blob)
        made[fresh.id] = fresh
        return fresh

    def _in_the_way(self, name: str, mode: int) -> CourierError:
        kind = {_MODE_LINK: "a symbolic link", _MODE_MODULE: "a submodule"}.get(mode & 0o170000)
        kind = kind or ("a folder" if stat.S_ISDIR(mode) else "a file")
        return CourierError(
            Reason.CONFLICT,
            f"{self._shown}: {name!r} in branch {self._target.branch!r} is {kind}, which is in the way",
            path=name,
        )

    def _commit(self, parent: str, tree: Tree, run_key: str, digest: str) -> Commit:
        target, commit = self._target, Commit()
        commit.tree, commit.parents = tree.id, [ObjectID(parent.encode())]
        commit.author = commit.committer = f"{target.author_name} <{target.author_email}>".encode()
        commit.author_time = commit.commit_time = target.time
        commit.author_timezone = commit.commit_timezone = 0
        commit.encoding = b"UTF-8"
        trailers = {TRAILER_RUN: run_key, TRAILER_JOB: self._job, TRAILER_MANIFEST: digest}
        told = "\n".join(f"{key}: {value}" for key, value in trailers.items())
        commit.message = f"{target.message.strip()}\n\n{told}\n".encode()
        return commit

    def _push(self, expected: str, commit: ObjectID, objects: list[ShaFile]) -> None:
        old = ObjectID(expected.encode()) if expected else None

        def update(refs: dict[Ref, ObjectID]) -> dict[Ref, ObjectID]:
            now = refs.get(self._branch)
            if now not in (old, commit):
                raise self._moved()
            return {self._branch: commit}

        def pack(have: Any, want: Any, **_: Any) -> Any:
            return pack_objects_to_data([(item, None) for item in objects])

        try:
            with git_errors(self._target.url):
                result = self._client.send_pack(self._path.encode(), update, pack)
        except SendPackError as error:
            raise self._refused(str(error)) from None
        except CourierError as error:
            if error.reason is Reason.FETCH_FAILED:  # what became of the push is not known; the next look tells
                raise CourierError(Reason.PUBLISH_FAILED, error.message, retryable=True) from None
            raise
        for ref, why in (result.ref_status or {}).items():
            if why is not None:
                raise self._refused(said_text(f"{ref.decode(errors='replace')}: {why}"))

    def _refused(self, said: str) -> CourierError:
        text = f"{_host(self._shown)} refused the push to {self._target.branch}: {said_text(said)}"
        if _MOVED.search(said) and not _PROTECTED.search(said):
            return CourierError(Reason.CONFLICT, text, retryable=True)
        return CourierError(Reason.PROTECTED_BRANCH if _PROTECTED.search(said) else Reason.PUBLISH_FAILED, text)

    def _moved(self) -> CourierError:
        return CourierError(
            Reason.CONFLICT,
            f"{self._shown}: branch {self._target.branch!r} changed since it was looked at",
            retryable=True,
        )

    # --- small things ---------------------------------------------------------------------------------------------------
    def _at(self, path: str) -> str:
        return f"{self._target.path}/{path}" if self._target.path else path

    def _is_run(self, told: dict[str, str], run_key: str) -> bool:
        return told.get(TRAILER_RUN) == run_key and told.get(TRAILER_JOB) == self._job

    def _manifest(self, store: MemoryObjectStore, commit: ObjectID) -> bytes:
        return _blob(store, commit, self._at(own_path(self._job, MANIFEST))) or b""

    def _is_ours(self, on_top: dict[ObjectID, Commit], manifest: bytes, in_base: bytes) -> bool:
        """Whether the branch is this job's, by its own commits: what the base has already is in everybody's branches."""
        jobs = {told[TRAILER_JOB] for commit in on_top.values() if TRAILER_JOB in (told := _trailers(commit))}
        if jobs:
            return self._job in jobs
        return bool(manifest) and manifest != in_base  # our commit lies deeper than what was fetched

    def _fetch(self, store: MemoryObjectStore) -> dict[bytes, ObjectID]:
        wanted = {self._base, self._branch}
        buffer = BytesIO()

        def wants(refs: Mapping[Ref, ObjectID], depth: int | None = None) -> list[ObjectID]:
            return sorted({sha for ref, sha in refs.items() if ref in wanted})

        def keep(data: bytes) -> int:
            if buffer.tell() + len(data) > self._limits.download_bytes:
                raise too_large(f"{self._shown}, {DEPTH} commits deep,", self._limits.download_bytes)
            return buffer.write(data)

        result = self._client.fetch_pack(
            self._path.encode(),
            wants,
            _Walker(),
            keep,
            depth=DEPTH,
            ref_prefix=sorted(wanted),
        )
        if buffer.tell():
            buffer.seek(0)
            store.add_thin_pack(buffer.read, None)
        return {ref: sha for ref, sha in result.refs.items() if sha is not None and ref in wanted}


def _ref(name: str, what: str) -> Ref:
    ref = _HEADS + name.encode()
    if not check_ref_format(Ref(ref)) or name.startswith("-"):
        raise CourierError(Reason.PUBLISH_FAILED, f"{name[:100]!r} is no name of a {what} (git check-ref-format)")
    return Ref(ref)


def _history(store: MemoryObjectStore, tip: ObjectID) -> Iterator[tuple[ObjectID, Commit]]:
    """The commits that are there, the newest generation first."""
    seen, queue = {tip}, [tip]
    while queue:
        sha = queue.pop(0)
        if sha not in store:
            continue
        commit = store[sha]
        if not isinstance(commit, Commit):
            raise transient("a branch does not lead to a commit")
        yield sha, commit
        queue += [parent for parent in commit.parents if parent not in seen]
        seen.update(commit.parents)


def _trailers(commit: Commit) -> dict[str, str]:
    """Our trailers, wherever in the message: a squash puts several messages into one."""
    told: dict[str, str] = {}
    for line in commit.message.decode(errors="replace").splitlines():
        key, separator, value = line.partition(": ")
        if separator and key in (TRAILER_RUN, TRAILER_JOB, TRAILER_MANIFEST):
            told[key] = value.strip()
    return told


def _root(store: MemoryObjectStore, commit: bytes) -> Tree:
    found = store[ObjectID(commit)]
    assert isinstance(found, Commit)
    return _tree(store, {}, found.tree)


def _tree(store: MemoryObjectStore, made: dict[ObjectID, ShaFile], sha: ObjectID) -> Tree:
    tree = made[sha] if sha in made else store[sha]
    assert isinstance(tree, Tree)
    return tree


def _trees(made: dict[ObjectID, ShaFile], root: Tree) -> set[ObjectID]:
    """Ids of new trees that the root leads to: those of steps in between are not sent."""
    found, queue = {root.id}, [root]
    while queue:
        for entry in queue.pop().iteritems():
            inner = made.get(entry.sha)
            if isinstance(inner, Tree) and inner.id not in found:
                found.add(inner.id)
                queue.append(inner)
    return found


def _subtree(store: MemoryObjectStore, commit: bytes, path: str) -> Tree | None:
    tree = _root(store, commit)
    for name in filter(None, path.split("/")):
        if name.encode() not in tree:
            return None
        mode, sha = tree[name.encode()]
        if not stat.S_ISDIR(mode):
            return None
        tree = _tree(store, {}, sha)
    return tree


def _walk(store: MemoryObjectStore, tree: Tree | None, prefix: str = "") -> Iterator[tuple[str, int, ObjectID]]:
    """Regular files. Names that are no text are none of ours, and links are not followed."""
    for entry in tree.iteritems() if tree is not None else ():
        try:
            path = prefix + entry.path.decode()
        except UnicodeDecodeError:
            continue
        if stat.S_ISDIR(entry.mode):
            yield from _walk(store, _tree(store, {}, entry.sha), path + "/")
        elif stat.S_ISREG(entry.mode):
            yield path, entry.mode, entry.sha


def _blob(store: MemoryObjectStore, commit: bytes, path: str) -> bytes | None:
    folder, _, name = path.rpartition("/")
    tree = _subtree(store, commit, folder)
    if tree is None or name.encode() not in tree:
        return None
    mode, sha = tree[name.encode()]
    blob = store[sha] if stat.S_ISREG(mode) else None
    return blob.as_raw_string() if isinstance(blob, Blob) else None


def _host(shown: str) -> str:
    return shown.partition("://")[2].partition("/")[0].rpartition("@")[2]
