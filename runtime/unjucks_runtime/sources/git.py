"""The source that is a Git repository, over https or ssh: one commit, as shallow as it goes, without hooks, filters or attributes.

Which commit: commit, then name, semver, tag, branch, as Flux has it. Links are refused where they would be taken; submodules are
left out unless asked for. Objects are checked by their hashes as they come, in memory. Called by ``fetch`` in a courier's child.
"""

import base64
import stat
from collections.abc import Iterator
from io import BytesIO
from typing import TypeVar
from urllib.parse import urljoin, urlsplit

from dulwich.config import ConfigFile
from dulwich.errors import (
    ApplyDeltaError,
    ChecksumMismatch,
    GitProtocolError,
    HangupException,
    ObjectFormatException,
)
from dulwich.object_store import MemoryObjectStore
from dulwich.objects import Blob, Commit, ObjectID, Tag, Tree

from unjucks_api.courier_protocol import GitSource, GitVerify
from unjucks_api.reasons import Reason
from unjucks_runtime.courier.errors import CourierError, transient
from unjucks_runtime.courier.git_transport import git_errors, open_git
from unjucks_runtime.courier.net import check_url, printable_url, too_large
from unjucks_runtime.sources.model import Fetched, Job
from unjucks_runtime.sources.signatures import verify_git
from unjucks_runtime.sources.versions import newest

MAX_REFS = 100_000
MAX_SUBMODULES = 16
MAX_DEPTH = 3
MAX_TREE_DEPTH = 64
_PEELED = b"^{}"
_T = TypeVar("_T")


def fetch_git(source: GitSource, job: Job) -> Fetched:
    """The wanted files of the commit. Raises CourierError."""
    repository = Repository(source.url, job, by_hash=bool(source.commit))
    target, revision, tag = resolve(source, repository)
    if revision == job.known:
        return Fetched(revision, None)
    store = repository.fetch([target] if tag is None else [target, tag], source)
    commit, tag_object = _peel(store, target)
    if tag is not None and not revision.endswith(f":{commit.id.decode()}"):
        raise CourierError(
            Reason.VERIFICATION_FAILED,
            f"{repository.shown} says that {revision[:200]} is the commit of a tag that leads to {commit.id.decode()}",
        )
    verified = _verify(source, job, commit, tag_object, revision)
    tree = job.selection.collect(_files(store, commit, source, job, repository, 0))
    told = {"commit": commit.id.decode()}
    if tag_object is not None:
        told["tag"] = tag_object.name.decode(errors="replace")
    return Fetched(
        revision,
        tree,
        digest=f"sha1:{commit.id.decode()}",
        verified_by=verified,
        metadata=told,
        downloaded=repository.read,
    )


class Repository:
    """One repository behind its URL. ``read``: bytes of packs that came so far. ``by_hash``: the commit is no reference's.
    ``job``: with the credentials that are meant for this repository."""

    def __init__(self, url: str, job: Job, *, by_hash: bool = False) -> None:
        check_url(url, ("https", "ssh"))
        self._by_hash = by_hash
        self.url = url
        self.shown = printable_url(url)
        self.read = 0
        self.job = job
        self._secret = {key: base64.b64encode(value).decode() for key, value in job.credentials.items()}
        self._refs: dict[bytes, bytes] | None = None

    def refs(self) -> dict[bytes, bytes]:
        """What the server says its references are."""
        if self._refs is None:
            with git_errors(self.url):
                client, path = open_git(self.url, self._secret, self.job.network, self.job.limits.download_bytes)
                found = client.get_refs(path.encode())
            refs = {bytes(ref): bytes(sha) for ref, sha in found.refs.items() if sha is not None}
            if len(refs) > MAX_REFS:
                raise CourierError(
                    Reason.ARCHIVE_TOO_LARGE, f"{self.shown} has more than {MAX_REFS} references", limit="refs"
                )
            self._refs = refs
        return self._refs

    def fetch(self, wanted: list[bytes], source: GitSource | None = None) -> MemoryObjectStore:
        """The wanted objects and their trees, without history; with it where the server gives a commit only by its branch."""
        try:
            return self._fetch(wanted, 1)
        except _Refused:
            _ = self.refs()  # the server answers at all
            if source is None or not source.branch:
                raise _not_found(f"commit {wanted[0].decode()} (the server may give it only with ref.branch)") from None
        tip = self.refs().get(b"refs/heads/" + source.branch.encode())
        if tip is None:
            raise _not_found(f"branch {source.branch}")
        try:
            store = self._fetch([tip], None)
        except _Refused:
            raise transient(f"{self.shown}: the server refuses its own branch") from None
        if ObjectID(wanted[0]) not in store:
            raise _not_found(f"commit {wanted[0].decode()} on branch {source.branch}")
        return store

    def _fetch(self, wanted: list[bytes], depth: int | None) -> MemoryObjectStore:
        store, buffer = MemoryObjectStore(), BytesIO()
        most = self.job.limits.download_bytes

        def keep(data: bytes) -> int:
            if self.read + len(data) > most:
                raise too_large(f"{self.shown} at this revision", most)
            self.read += len(data)
            return buffer.write(data)

        with git_errors(self.url):
            client, path = open_git(self.url, self._secret, self.job.network, most)
            try:
                client.fetch_pack(
                    path.encode(),
                    lambda _refs, depth=None: [ObjectID(sha) for sha in wanted],
                    _NoHistory(),
                    keep,
                    depth=depth,
                )
            except HangupException:
                # What a server does about an object that it does not give; whether it is there at all, is asked next.
                if depth == 1 and self._by_hash:
                    raise _Refused from None
                raise
            except GitProtocolError as error:
                if "not our ref" in str(error):
                    raise _Refused from None
                raise
        if not buffer.tell():
            raise _Refused
        try:
            buffer.seek(0)
            store.add_thin_pack(buffer.read, None)
        except (
            ChecksumMismatch,
            ApplyDeltaError,
            ObjectFormatException,
            AssertionError,
            ValueError,
            KeyError,
            EOFError,
        ):
            raise CourierError(Reason.ARCHIVE_INVALID, f"{self.shown}: the pack of objects is damaged") from None
        missing = [sha for sha in wanted if ObjectID(sha) not in store]
        if missing:
            raise _not_found(f"object {missing[0].decode()}")
        return store


class _Refused(Exception):
    """The server does not give this object by its hash."""


class _NoHistory:
    """Says that nothing is there yet; dulwich's graph walker."""

    shallow: set[ObjectID]
    unshallow: set[ObjectID]

    def __init__(self) -> None:
        self.shallow = set()
        self.unshallow = set()

    def __next__(self) -> None:
        return None

    next = __next__

    def ack(self, _: ObjectID) -> None:
        """Nothing was offered."""

    def nak(self) -> None:
        """Nothing was offered."""

    def update_shallow(self, *_: object) -> None:
        """Nobody asks later."""


def resolve(source: GitSource, repository: Repository) -> tuple[bytes, str, bytes | None]:
    """(object to fetch, revision as Flux writes it, the tag object if there is one)."""
    if source.commit:
        prefix = f"{source.branch}@" if source.branch else ""
        return source.commit.encode(), f"{prefix}sha1:{source.commit}", None
    refs = repository.refs()
    if source.name:
        return _named(refs, source.name.encode(), source.name, repository.shown)
    if source.semver:
        tags = [
            ref[10:].decode(errors="replace")
            for ref in refs
            if ref.startswith(b"refs/tags/") and not ref.endswith(_PEELED)
        ]
        tag = newest(tags, source.semver, repository.shown)
        return _named(refs, b"refs/tags/" + tag.encode(), tag, repository.shown)
    if source.tag:
        return _named(refs, b"refs/tags/" + source.tag.encode(), source.tag, repository.shown)
    if source.branch:
        return _named(refs, b"refs/heads/" + source.branch.encode(), source.branch, repository.shown)
    return _named(refs, b"HEAD", "HEAD", repository.shown)


def _named(refs: dict[bytes, bytes], ref: bytes, shown: str, where: str) -> tuple[bytes, str, bytes | None]:
    sha = refs.get(ref)
    if sha is None:
        raise _not_found(f"{shown} in {where}")
    peeled = refs.get(ref + _PEELED)
    commit = peeled or sha
    return (sha if peeled else commit), f"{shown}@sha1:{commit.decode()}", sha if peeled else None


def _peel(store: MemoryObjectStore, sha: bytes) -> tuple[Commit, Tag | None]:
    found, tag = store[ObjectID(sha)], None
    for _ in range(8):
        if isinstance(found, Commit):
            return found, tag
        if not isinstance(found, Tag):
            break
        tag = tag or found
        found = store[found.object[1]]
    raise _not_found("a commit behind the reference")


def _verify(source: GitSource, job: Job, commit: Commit, tag: Tag | None, revision: str) -> str:
    if source.verify is None:
        return ""
    by = []
    if source.verify in (GitVerify.TAG, GitVerify.TAG_AND_HEAD):
        name = revision.rpartition("@")[0].removeprefix("refs/tags/")
        if tag is None:
            raise CourierError(
                Reason.VERIFICATION_FAILED, f"tag {name} is a plain name without an object that could be signed"
            )
        if tag.name.decode(errors="replace") != name:
            raise CourierError(Reason.VERIFICATION_FAILED, f"tag {name} leads to the signed tag of another name")
        payload, signature, _ = _parts(tag, f"tag {name}")
        by.append("tag by " + verify_git(payload, signature, job.signers, f"tag {name}"))
    if source.verify in (GitVerify.HEAD, GitVerify.TAG_AND_HEAD):
        what = f"commit {commit.id.decode()[:12]}"
        payload, signature, _ = _parts(commit, what)
        by.append("commit by " + verify_git(payload, signature, job.signers, what))
    return ", ".join(by)


def _parts(item: Commit | Tag, what: str) -> tuple[bytes, bytes | None, bytes | None]:
    try:
        return item.extract_signature()
    except ObjectFormatException:
        raise CourierError(Reason.VERIFICATION_FAILED, f"{what} has a signature of an unknown form") from None


# --- files ---------------------------------------------------------------------------------------------------------------
def _files(
    store: MemoryObjectStore,
    commit: Commit,
    source: GitSource,
    job: Job,
    repository: Repository,
    level: int,
    prefix: str = "",
) -> Iterator[tuple[str, bytes, int]]:
    links: list[tuple[str, bytes]] = []
    yield from _walk(store, commit.tree, prefix, job, links, 0)
    if source.recurse_submodules and links:
        yield from _submodules(store, commit, source, job, repository, links, level, prefix)


def _walk(
    store: MemoryObjectStore, tree_id: bytes, prefix: str, job: Job, links: list[tuple[str, bytes]], depth: int
) -> Iterator[tuple[str, bytes, int]]:
    if depth > MAX_TREE_DEPTH:
        raise CourierError(Reason.ARCHIVE_INVALID, f"folders are more than {MAX_TREE_DEPTH} deep")
    tree = _object(store, tree_id, Tree)
    for entry in tree.iteritems():
        _ = job.network.remaining
        try:
            name = entry.path.decode()
        except UnicodeDecodeError:
            raise CourierError(Reason.PATH_REJECTED, f"a name below {prefix or 'the root'!r} is not UTF-8") from None
        path = prefix + name
        if "/" in name or entry.mode is None or entry.sha is None:
            raise CourierError(Reason.ARCHIVE_INVALID, f"{prefix or 'the root'!r} holds an entry that no Git writes")
        if stat.S_ISDIR(entry.mode):
            if job.selection.may_hold(path):
                yield from _walk(store, entry.sha, path + "/", job, links, depth + 1)
        elif stat.S_IFMT(entry.mode) == 0o160000:
            if job.selection.may_hold(path):
                links.append((path, entry.sha))
        elif job.selection.wants(path):
            if stat.S_ISLNK(entry.mode):
                raise CourierError(Reason.ARCHIVE_INVALID, f"{path!r} is a link; links are not followed", path=path)
            yield path, _object(store, entry.sha, Blob).data, 0o755 if entry.mode & 0o100 else 0o644


def _submodules(
    store: MemoryObjectStore,
    commit: Commit,
    source: GitSource,
    job: Job,
    repository: Repository,
    links: list[tuple[str, bytes]],
    level: int,
    prefix: str,
) -> Iterator[tuple[str, bytes, int]]:
    if level >= MAX_DEPTH or len(links) > MAX_SUBMODULES:
        raise CourierError(
            Reason.ARCHIVE_TOO_LARGE,
            f"more than {MAX_SUBMODULES} submodules, or too deep in each other",
            limit="submodules",
        )
    urls = _urls(store, commit, repository.url)
    for path, sha in links:
        url = urls.get(path.removeprefix(prefix))
        if url is None:
            raise CourierError(Reason.ARCHIVE_INVALID, f"submodule {path!r} has no URL in .gitmodules", path=path)
        same = urlsplit(url)[:2] == urlsplit(repository.url)[:2]
        # Credentials are for their own host only, as with redirects.
        inner = Repository(url, job if same else _without_credentials(job), by_hash=True)
        below = inner.fetch([sha])
        module, _ = _peel(below, sha)
        # What lies deeper goes on with what this one was read with: back at another host's own URLs is no way to get them.
        yield from _files(below, module, source, inner.job, inner, level + 1, path + "/")
        repository.read += inner.read
        if repository.read > job.limits.download_bytes:
            raise too_large(f"{repository.shown} with its submodules", job.limits.download_bytes)


def _urls(store: MemoryObjectStore, commit: Commit, base: str) -> dict[str, str]:
    tree = _object(store, commit.tree, Tree)
    if b".gitmodules" not in tree:
        return {}
    try:
        config = ConfigFile.from_file(BytesIO(_object(store, tree[b".gitmodules"][1], Blob).data))
    except ValueError:
        raise CourierError(Reason.ARCHIVE_INVALID, ".gitmodules cannot be read") from None
    found = {}
    for section in config.sections():
        if section[0] == b"submodule":
            try:
                path, url = config.get(section, b"path").decode(), config.get(section, b"url").decode()
            except (KeyError, UnicodeDecodeError):
                continue
            found[path] = urljoin(base.rstrip("/") + "/", url) if url.startswith(("./", "../")) else url
    return found


def _without_credentials(job: Job) -> Job:
    kept = {key: value for key, value in job.credentials.items() if key in ("ca.crt", "caFile")}
    return Job(job.network, job.limits, job.selection, credentials=kept)


def _object(store: MemoryObjectStore, sha: bytes, kind: type[_T]) -> _T:
    try:
        found = store[ObjectID(sha)]
    except (KeyError, ObjectFormatException):
        raise CourierError(
            Reason.ARCHIVE_INVALID, f"object {sha.decode()} is missing in what the server sent"
        ) from None
    if not isinstance(found, kind):
        raise CourierError(Reason.ARCHIVE_INVALID, f"object {sha.decode()} is not what the tree says")
    return found


def _not_found(what: str) -> CourierError:
    return CourierError(Reason.REVISION_NOT_FOUND, f"there is no {what}")
