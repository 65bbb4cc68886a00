"""A Git output against a real server on loopback, over https and ssh: one commit for a run, whatever is cut when."""

import base64
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from support.git_host import Fault, GitHost, git
from unjucks_api.courier_protocol import Allow, GitProvider, GitTarget, InspectRequest, PublishRequest, PullRequest
from unjucks_api.reasons import Reason
from unjucks_api.render_protocol import SourceFile
from unjucks_runtime.courier.errors import CourierError
from unjucks_runtime.outputs.tasks import inspect_with, network_of, publish_with

JOB = "tenant-acme/orders-api"
KEY, NEXT = "a" * 40, "b" * 40
BRANCH = "unjucks/orders-api"
LOOPBACK = Allow(cidrs=["127.0.0.0/8", "::1/128"])


@pytest.fixture
def host(tmp_path: Path) -> Iterator[GitHost]:
    made = GitHost(tmp_path / "host")
    yield made
    made.close()


@pytest.fixture
def bare(host: GitHost) -> Path:
    return host.create()


def encoded(content: bytes) -> str:
    return base64.b64encode(content).decode()


def manifest_of(files: dict[str, bytes]) -> bytes:
    listed = [{"path": path, "sha256": hashlib.sha256(data).hexdigest()} for path, data in sorted(files.items())]
    return orjson.dumps({"version": 1, "files": listed})


class Job:
    """A job that publishes as the operator does: look, then write under the version that was seen."""

    def __init__(self, host: GitHost, url: str = "", secret: dict[str, str] | None = None, **target: Any) -> None:
        told: dict[str, Any] = {
            "url": url or f"{host.url}/acme/orders.git", "base": "main", "branch": BRANCH, "path": "services/orders",
            "author_name": "unjucks", "author_email": "unjucks@example.com", "message": "Generate orders",
            "time": 1_790_000_000,
        } | target  # fmt: skip
        self.target = GitTarget(**told)
        self.secret = host.secret if secret is None else secret

    def look(self, key: str = KEY, **more: Any) -> Any:
        request = InspectRequest(
            target=self.target, job=JOB, run_key=key, credentials=self.secret, certificates={}, allow=LOOPBACK, **more
        )
        return inspect_with(request, network_of(request))

    def publish(self, files: dict[str, bytes], key: str = KEY, version: str | None = None, **more: Any) -> Any:
        seen = self.look(key).version if version is None else version
        request = PublishRequest(
            target=self.target, job=JOB, run_key=key, version=seen, manifest=encoded(manifest_of(files)),
            files=[SourceFile(path=path, content=encoded(data)) for path, data in files.items()],
            credentials=self.secret, certificates={}, allow=LOOPBACK, **more,
        )  # fmt: skip
        return publish_with(request, network_of(request))


FILES = {"app.py": b"print()\n", "docs/run me.md": b"# Run\n"}


def test_one_commit_on_a_new_branch_with_manifest_author_and_trailers(host: GitHost, bare: Path) -> None:
    done = Job(host).publish(FILES)
    assert done.written
    assert git(bare, "show", f"{BRANCH}:services/orders/docs/run me.md") == "# Run"
    assert git(bare, "show", f"{BRANCH}:README.md") == "# Orders"
    assert f"sha1:{git(bare, 'rev-parse', BRANCH)}" in done.facts["revision"]
    (message,) = host.commits(bare, BRANCH)
    assert message.splitlines()[0] == "Generate orders"
    assert f"Unjucks-Run: {KEY}" in message
    assert git(bare, "log", "-1", "--format=%an <%ae>", BRANCH) == "unjucks <unjucks@example.com>"
    assert b'"app.py"' in git(bare, "show", f"{BRANCH}:services/orders/.unjucks/orders-api/manifest.json").encode()
    git(bare, "fsck", "--strict")


def test_the_same_run_again_commits_nothing_and_says_where_it_is(host: GitHost, bare: Path) -> None:
    first = Job(host).publish(FILES)
    again = Job(host).publish(FILES)
    assert not again.written
    assert again.facts == first.facts
    assert len(host.commits(bare, BRANCH)) == 1
    assert Job(host).look().run_key == KEY


def test_a_later_run_goes_on_top_and_takes_away_what_it_is_told_to(host: GitHost, bare: Path) -> None:
    Job(host).publish(FILES)
    Job(host).publish({"app.py": b"print(2)\n"}, NEXT, removed=["docs/run me.md"])
    assert len(host.commits(bare, BRANCH)) == 2
    listed = git(bare, "ls-tree", "-r", "--name-only", BRANCH, "services/orders").splitlines()
    assert listed == ["services/orders/.unjucks/orders-api/manifest.json", "services/orders/app.py"]
    assert git(bare, "rev-list", "--count", "main") == "1"


def test_commits_of_people_stay_and_the_run_below_them_is_found(host: GitHost, bare: Path) -> None:
    Job(host).publish(FILES)
    work = host.root / "person"
    git(host.root, "clone", "-q", "-b", BRANCH, str(bare), str(work))
    (work / "services/orders/app.py").write_text("print('by hand')\n")
    git(work, "commit", "-qam", "By hand")
    git(work, "push", "-q", "origin", BRANCH)
    seen = Job(host).look()
    assert seen.run_key == KEY
    assert {file.path: base64.b64decode(file.content) for file in seen.files}["app.py"] == b"print('by hand')\n"
    assert not Job(host).publish(FILES).written
    assert len(host.commits(bare, BRANCH)) == 2


def test_a_branch_that_moved_since_it_was_looked_at_is_a_conflict(host: GitHost, bare: Path) -> None:
    version = Job(host).look().version
    Job(host).publish(FILES)
    with pytest.raises(CourierError) as caught:
        Job(host).publish({"app.py": b"other"}, NEXT, version)
    assert (caught.value.reason, caught.value.retryable) == (Reason.CONFLICT, True)
    assert len(host.commits(bare, BRANCH)) == 1


def test_a_merged_branch_starts_again_from_the_base(host: GitHost, bare: Path) -> None:
    Job(host).publish(FILES)
    work = host.root / "merge"
    git(host.root, "clone", "-q", str(bare), str(work))
    git(work, "merge", "-q", "--no-ff", "-m", "Merge", f"origin/{BRANCH}")
    git(work, "push", "-q", "origin", "main")
    assert not Job(host).publish(FILES).written
    assert Job(host).publish({"app.py": b"3"}, NEXT).written
    assert len(host.commits(bare, BRANCH)) == 1
    assert git(bare, "merge-base", "main", BRANCH) == git(bare, "rev-parse", "main")


def test_somebody_elses_branch_is_not_taken_over(host: GitHost, bare: Path) -> None:
    git(bare, "branch", BRANCH, "main")
    work = host.root / "person"
    git(host.root, "clone", "-q", "-b", BRANCH, str(bare), str(work))
    (work / "x").write_text("mine")
    git(work, "add", "x")
    git(work, "commit", "-qm", "Mine")
    git(work, "push", "-q", "origin", BRANCH)
    with pytest.raises(CourierError, match="not made by job") as caught:
        Job(host).look()
    assert caught.value.reason is Reason.NOT_OWNED


@pytest.mark.parametrize(
    ("secret", "text"),
    [
        ({"password": encoded(b"wrong"), "username": encoded(b"courier")}, "refused the credentials"),
        ({}, "refused the cred"),
    ],
)
def test_bad_credentials_are_typed_and_not_told(host: GitHost, bare: Path, secret: dict[str, str], text: str) -> None:
    with pytest.raises(CourierError, match=text) as caught:
        Job(host, secret={"ca.crt": host.secret["ca.crt"]} | secret).look()
    assert caught.value.reason is Reason.AUTHENTICATION_FAILED
    assert "wrong" not in caught.value.message


def test_a_protected_branch_is_typed(host: GitHost, bare: Path) -> None:
    host.protect(bare, "refs/heads/unjucks/*")
    with pytest.raises(CourierError, match="hook declined") as caught:
        Job(host).publish(FILES)
    assert (caught.value.reason, caught.value.retryable) == (Reason.PROTECTED_BRANCH, False)
    assert git(bare, "for-each-ref", "--format=%(refname)") == "refs/heads/main"


def test_links_in_the_way_are_not_followed(host: GitHost) -> None:
    bare = host.create("acme/linked")
    work = host.root / "work-acme-linked"
    (work / "services").symlink_to("/etc")
    git(work, "add", "-A")
    git(work, "commit", "-qm", "Link")
    git(work, "push", "-q", "origin", "main")
    with pytest.raises(CourierError, match="symbolic link") as caught:
        Job(host, f"{host.url}/acme/linked.git").publish(FILES)
    assert caught.value.reason is Reason.CONFLICT
    assert BRANCH not in git(bare, "branch")


@pytest.mark.parametrize("path", ["../out", "/etc/passwd", ".git/hooks/x", ".unjucks/other/manifest.json", "a/../b"])
def test_the_courier_checks_every_path_again(host: GitHost, bare: Path, path: str) -> None:
    with pytest.raises(CourierError) as caught:
        Job(host).publish({path: b"x"}, version="none")
    assert caught.value.reason is Reason.PATH_REJECTED


def test_files_that_are_not_what_the_manifest_says_are_refused(host: GitHost, bare: Path) -> None:
    job = Job(host)
    request = PublishRequest(
        target=job.target, job=JOB, run_key=KEY, version=job.look().version, manifest=encoded(manifest_of({"a": b"1"})),
        files=[SourceFile(path="a", content=encoded(b"2"))], credentials=job.secret, certificates={}, allow=LOOPBACK,
    )  # fmt: skip
    with pytest.raises(CourierError) as caught:
        publish_with(request, network_of(request))
    assert caught.value.reason is Reason.MANIFEST_MISMATCH


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize(
    "step",
    ["git-upload-pack", "info/refs?service=git-receive-pack", "/git-receive-pack", "/api/v1/repos/acme/orders/pulls"],
)
def test_connections_cut_at_every_step_leave_one_commit_and_one_request(
    host: GitHost, bare: Path, step: str, after: bool
) -> None:
    job = Job(host, pull_request=request_for(host, GitProvider.GITEA))
    host.faults.append(Fault(step, after))
    failures: list[CourierError] = []
    for _ in range(3):
        try:
            job.publish(FILES)
            break
        except CourierError as error:
            failures.append(error)
    job.publish(FILES)
    assert [error.retryable for error in failures] == [True]
    assert len(host.commits(bare, BRANCH)) == 1
    assert len(host.requests) == 1


APIS = {GitProvider.GITHUB: "/api/v3", GitProvider.GITLAB: "/api/v4", GitProvider.GITEA: "/api/v1"}


def request_for(host: GitHost, provider: GitProvider, **more: Any) -> PullRequest:
    told: dict[str, Any] = {"title": "Generate orders", "labels": ["generated"], "draft": True} | more
    return PullRequest(provider=provider, api=host.url + APIS[provider], repository="acme/orders", **told)


@pytest.mark.parametrize("provider", list(GitProvider))
def test_a_request_is_opened_once_and_found_again(host: GitHost, bare: Path, provider: GitProvider) -> None:
    job = Job(host, pull_request=request_for(host, provider))
    first = job.publish(FILES)
    second = job.publish({"app.py": b"2"}, NEXT)
    assert first.facts["pullRequest"] == second.facts["pullRequest"]
    assert first.facts["pullRequest"]["number"] == 1
    (made,) = host.requests
    assert (made.base, made.head, made.draft, len(made.labels)) == ("main", BRANCH, True, 1)
    made.state = "closed"
    assert job.publish({"app.py": b"3"}, "c" * 40).facts["pullRequest"]["number"] == 2


def test_a_token_that_may_not_open_requests_is_told(host: GitHost, bare: Path) -> None:
    host.refuse_token = True
    with pytest.raises(CourierError, match="token of the Secret was refused") as caught:
        Job(host, pull_request=request_for(host, GitProvider.GITHUB)).publish(FILES)
    assert caught.value.reason is Reason.AUTHENTICATION_FAILED


def test_over_ssh(host: GitHost, bare: Path) -> None:
    port = host.start_ssh()
    url = f"ssh://root@localhost:{port}{bare}"
    job = Job(host, url, host.ssh_secret)
    assert job.publish(FILES).written
    assert not job.publish(FILES).written
    assert len(host.commits(bare, BRANCH)) == 1
    stranger = host.ssh_secret | {"known_hosts": encoded(b"elsewhere ssh-ed25519 AAAA\n")}
    with pytest.raises(CourierError, match="known_hosts") as caught:
        Job(host, url, stranger).look()
    assert caught.value.reason is Reason.AUTHENTICATION_FAILED
