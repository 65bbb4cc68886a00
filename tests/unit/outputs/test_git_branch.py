"""Whose a branch is, and late attempts: the courier's Git output on a real repository, without a server in between."""

import base64
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from dulwich.client import LocalGitClient
from dulwich.objects import Blob, Commit, ObjectID, Tree
from dulwich.repo import Repo

from unjucks_api.courier_protocol import MAX_FILES, MAX_OWN_BYTES, GitTarget, InspectRequest, PublishRequest
from unjucks_api.reasons import Reason
from unjucks_api.render_protocol import SourceFile
from unjucks_runtime.courier.errors import CourierError
from unjucks_runtime.outputs import tasks
from unjucks_runtime.outputs.tasks import inspect_with, network_of, publish_with

KEY, NEXT = "a" * 40, "b" * 40
OURS, OTHERS = "tenant-acme/orders", "tenant-acme/stock"
MAIN, BRANCH = b"refs/heads/main", b"refs/heads/work"


@pytest.fixture
def repo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Repo]:
    made = Repo.init_bare(str(tmp_path / "r.git"), mkdir=True)
    commit(made, MAIN, {"README": b"hello"})
    # Only the way there is replaced; what is asked of the repository is what would be asked of a server.
    monkeypatch.setattr(tasks, "open_git", lambda *_: (LocalGitClient(), made.path))
    yield made
    made.close()


def commit(repo: Repo, ref: bytes, files: dict[str, bytes], message: str = "by hand") -> bytes:
    """A person's commit on the branch: its files and these, in the root."""
    made, tree = Commit(), Tree()
    parent = repo.refs.read_ref(ref)
    for entry in repo[repo[parent].tree].iteritems() if parent else ():
        tree.add(entry.path, entry.mode, entry.sha)
    for name, content in files.items():
        blob = Blob.from_string(content)
        repo.object_store.add_object(blob)
        tree[name.encode()] = (0o100644, blob.id)
    made.tree, made.parents, made.message = tree.id, [parent] if parent else [], message.encode()
    made.author = made.committer = b"p <p@example.com>"
    made.author_time = made.commit_time = 1
    made.author_timezone = made.commit_timezone = 0
    repo.object_store.add_object(tree)
    repo.object_store.add_object(made)
    repo.refs[ref] = made.id
    return made.id


def target() -> GitTarget:
    return GitTarget(
        url="https://git.example/acme/r.git", base="main", branch="work", author_name="u", author_email="u@example.com",
        message="Generate", time=1_790_000_000,
    )  # fmt: skip


def look(key: str = KEY, job: str = OURS) -> Any:
    request = InspectRequest(target=target(), job=job, run_key=key, credentials={}, certificates={})
    return inspect_with(request, network_of(request))


def publish(files: dict[str, bytes], key: str = KEY, version: str | None = None, job: str = OURS) -> Any:
    listed = [{"path": path, "sha256": hashlib.sha256(data).hexdigest()} for path, data in files.items()]
    request = PublishRequest(
        target=target(), job=job, run_key=key, version=look(key, job).version if version is None else version,
        manifest=base64.b64encode(orjson.dumps({"files": listed})).decode(),
        files=[SourceFile(path=path, content=base64.b64encode(data).decode()) for path, data in files.items()],
        credentials={}, certificates={},
    )  # fmt: skip
    return publish_with(request, network_of(request))


def tip(repo: Repo) -> ObjectID:
    return repo.refs[BRANCH]


def test_a_late_attempt_does_not_undo_a_later_run(repo: Repo) -> None:
    seen = look(KEY).version
    assert publish({"a": b"1"}, KEY, seen).written
    assert publish({"a": b"2"}, NEXT).written
    before = tip(repo)
    with pytest.raises(CourierError) as caught:
        publish({"a": b"1"}, KEY, seen)
    assert (caught.value.reason, caught.value.retryable) == (Reason.CONFLICT, True)
    assert tip(repo) == before


def test_a_repeated_attempt_changes_nothing_under_whatever_version(repo: Repo) -> None:
    seen = look(KEY).version
    assert publish({"a": b"1"}, KEY, seen).written
    before = tip(repo)
    assert not publish({"a": b"1"}, KEY, seen).written
    assert tip(repo) == before


def merged(repo: Repo, job: str = OURS) -> None:
    """The job's first run was merged, and its branch deleted."""
    publish({"a": b"1"}, job=job)
    repo.refs[MAIN] = tip(repo)
    del repo.refs[BRANCH]


def test_a_persons_branch_is_not_ours_because_the_base_holds_our_files(repo: Repo) -> None:
    merged(repo)
    repo.refs[BRANCH] = repo.refs[MAIN]
    mine = commit(repo, BRANCH, {"notes": b"mine"})
    with pytest.raises(CourierError) as caught:
        publish({"a": b"2"}, NEXT)
    assert caught.value.reason is Reason.NOT_OWNED
    assert tip(repo) == mine


def test_another_jobs_branch_is_not_ours_either(repo: Repo) -> None:
    merged(repo)
    assert publish({"b": b"1"}, job=OTHERS).written
    before = tip(repo)
    with pytest.raises(CourierError) as caught:
        publish({"a": b"2"}, NEXT)
    assert caught.value.reason is Reason.NOT_OWNED
    assert tip(repo) == before


def test_a_job_of_that_name_in_another_namespace_is_another_job(repo: Repo) -> None:
    assert publish({"a": b"1"}).written
    with pytest.raises(CourierError) as caught:
        publish({"a": b"2"}, NEXT, job="tenant-globex/orders")
    assert caught.value.reason is Reason.NOT_OWNED


def test_a_branch_of_ours_stays_ours_below_many_commits_of_people(repo: Repo) -> None:
    merged(repo)
    assert publish({"a": b"2"}, NEXT).written
    for number in range(25):
        commit(repo, BRANCH, {"notes": b"%d" % number})
    assert publish({"a": b"3"}, "c" * 40).written
    assert repo[tip(repo)].message.startswith(b"Generate")


@pytest.mark.parametrize("size", [MAX_OWN_BYTES + 1, 0], ids=["manifest", "files"])
def test_a_manifest_that_somebody_blew_up_is_a_limit(repo: Repo, size: int) -> None:
    publish({"a": b"1"})
    many = {"x" if size else f"f{number}": b"" for number in range(MAX_FILES + 1)}
    listed = orjson.dumps({"files": [{"path": path, "sha256": "0"} for path in many]})
    blobs = {"manifest.json": listed + b" " * size}
    commit(repo, BRANCH, {} if size else many)
    root = repo[repo[tip(repo)].tree]
    repo.refs[BRANCH] = with_folder(repo, root, [".unjucks", "orders"], blobs)
    with pytest.raises(CourierError) as caught:
        look()
    assert caught.value.reason is Reason.LIMIT_EXCEEDED


def with_folder(repo: Repo, root: Tree, names: list[str], files: dict[str, bytes]) -> bytes:
    """A commit of this tree with these files in a folder."""
    inner = Tree()
    for name, content in files.items():
        blob = Blob.from_string(content)
        repo.object_store.add_object(blob)
        inner.add(name.encode(), 0o100644, blob.id)
    repo.object_store.add_object(inner)
    for name in reversed(names[1:]):
        outer = Tree()
        outer.add(name.encode(), 0o040000, inner.id)
        repo.object_store.add_object(outer)
        inner = outer
    root[names[0].encode()] = (0o040000, inner.id)
    repo.object_store.add_object(root)
    made = Commit()
    made.tree, made.parents, made.message = root.id, [tip(repo)], b"larger"
    made.author = made.committer = b"p <p@example.com>"
    made.author_time = made.commit_time = made.author_timezone = made.commit_timezone = 0
    repo.object_store.add_object(made)
    return made.id
