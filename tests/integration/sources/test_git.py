"""Git sources against real servers: git http-backend behind TLS, and sshd."""

import base64
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from support.git_host import GitHost, git
from support.sources import FILES, fetch, tree_of
from unjucks_api.courier_protocol import CourierLimits, GitSource, GitVerify
from unjucks_api.reasons import Reason
from unjucks_runtime.courier.errors import CourierError

pytestmark = pytest.mark.integration

ONES = "1" * 40


@pytest.fixture(scope="module")
def repository(git_host: GitHost) -> Path:
    """acme/templates with branches, tags (v1.2.0, v1.4.2 annotated, v2.0.0-rc.1, nightly), a link and a big folder."""
    bare = git_host.create("acme/templates", FILES | {"docs/readme.md": "x" * 100})
    work = git_host.root / "work-acme-templates"
    for tag, name in (("v1.2.0", "two"), ("v1.4.2", "four"), ("v2.0.0-rc.1", "candidate")):
        (work / "version.txt").write_text(name)
        git(work, "add", "-A")
        git(work, "commit", "-q", "-m", name)
        git(work, "tag", *(["-a", "-m", "release"] if tag == "v1.4.2" else []), tag)
    git(work, "tag", "nightly")
    git(work, "checkout", "-q", "-b", "linked", "v1.2.0")
    os.symlink("/etc/passwd", work / "evil")
    git(work, "add", "-A")
    git(work, "commit", "-q", "-m", "link")
    git(work, "push", "-q", "origin", "--all")
    git(work, "push", "-q", "origin", "--tags")
    git(work, "checkout", "-q", "main")
    return bare


def source(host: GitHost, **fields: Any) -> GitSource:
    return GitSource(url=f"{host.url}/acme/templates.git", **fields)


def refused(source: GitSource, **fields: Any) -> CourierError:
    with pytest.raises(CourierError) as caught:
        fetch(source, **fields)
    return caught.value


@pytest.mark.parametrize(
    ("ref", "revision", "version"),
    [
        ({"branch": "main"}, "main", "candidate"),
        ({}, "HEAD", "candidate"),
        ({"tag": "v1.2.0"}, "v1.2.0", "two"),
        ({"tag": "v1.4.2"}, "v1.4.2", "four"),
        ({"semver": ">=1.0.0 <2.0.0"}, "v1.4.2", "four"),
        ({"semver": ">=2.0.0-0"}, "v2.0.0-rc.1", "candidate"),
        ({"semver": "1.2.x", "tag": "nightly", "branch": "main"}, "v1.2.0", "two"),
        ({"name": "refs/tags/v1.2.0", "semver": "*"}, "refs/tags/v1.2.0", "two"),
    ],
    ids=str,
)
def test_what_a_reference_means(
    git_host: GitHost, repository: Path, ref: dict[str, str], revision: str, version: str
) -> None:
    found = fetch(source(git_host, **ref), credentials=git_host.secret)
    assert tree_of(found)["version.txt"] == version.encode()
    commit = git(repository, "rev-parse", f"{revision if revision != 'HEAD' else 'main'}^{{commit}}")
    assert found.revision == f"{revision}@sha1:{commit}"
    again = fetch(source(git_host, **ref), credentials=git_host.secret, known=found.revision)
    assert again.unchanged
    assert not again.files


def test_a_commit_wins_over_everything_and_is_found_with_and_without_its_branch(
    git_host: GitHost, repository: Path
) -> None:
    commit = git(repository, "rev-parse", "v1.2.0^{commit}")
    found = fetch(source(git_host, commit=commit, branch="main", semver="*"), credentials=git_host.secret)
    assert tree_of(found)["version.txt"] == b"two"
    assert found.revision == f"main@sha1:{commit}"
    assert refused(source(git_host, commit=ONES), credentials=git_host.secret).reason is Reason.REVISION_NOT_FOUND
    missing = refused(source(git_host, commit=ONES, branch="main"), credentials=git_host.secret)
    assert missing.reason is Reason.REVISION_NOT_FOUND


def test_ssh_and_https_give_the_same(git_host: GitHost, repository: Path) -> None:
    url = f"ssh://{os.environ.get('USER', 'root')}@localhost:{git_host.ssh_port}{repository}"
    over_ssh = fetch(GitSource(url=url, tag="v1.4.2"), credentials=git_host.ssh_secret)
    over_https = fetch(source(git_host, tag="v1.4.2"), credentials=git_host.secret)
    assert tree_of(over_ssh) == tree_of(over_https)
    assert over_ssh.revision == over_https.revision


def test_ssh_needs_the_servers_key_and_the_right_login(git_host: GitHost, repository: Path, tmp_path: Path) -> None:
    git_ssh = GitSource(url=f"ssh://root@localhost:{git_host.ssh_port}{repository}", branch="main")
    secret = git_host.ssh_secret
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / "other")], check=True)
    public = " ".join((tmp_path / "other.pub").read_text().split()[:2])
    forged = base64.b64encode(f"[localhost]:{git_host.ssh_port} {public}\n".encode()).decode()
    other = base64.b64encode((tmp_path / "other").read_bytes()).decode()
    for wrong in (
        {**secret, "known_hosts": forged},
        {key: value for key, value in secret.items() if key != "known_hosts"},
        {**secret, "identity": other},
        {**secret, "identity": base64.b64encode(b"no key").decode()},
    ):
        error = refused(git_ssh, credentials=wrong)
        assert error.reason is Reason.AUTHENTICATION_FAILED
        assert other not in error.message


def test_wrong_credentials_a_missing_repository_and_a_missing_reference(git_host: GitHost, repository: Path) -> None:
    wrong = git_host.secret | {"password": base64.b64encode(b"wrong").decode()}
    error = refused(source(git_host, branch="main"), credentials=wrong)
    assert error.reason is Reason.AUTHENTICATION_FAILED
    assert "wrong" not in error.message
    nothing = GitSource(url=f"{git_host.url}/acme/nothing.git", branch="main")
    assert refused(nothing, credentials=git_host.secret).reason is Reason.AUTHENTICATION_FAILED
    for ref in ({"branch": "gone"}, {"tag": "gone"}, {"semver": ">=9"}, {"name": "refs/heads/gone"}):
        assert refused(source(git_host, **ref), credentials=git_host.secret).reason is Reason.REVISION_NOT_FOUND
    assert refused(source(git_host, semver="no range!"), credentials=git_host.secret).reason is Reason.URL_INVALID


def test_a_moved_tag_is_a_new_revision(git_host: GitHost, repository: Path) -> None:
    first = fetch(source(git_host, tag="nightly"), credentials=git_host.secret)
    git(repository, "update-ref", "refs/tags/nightly", git(repository, "rev-parse", "v1.2.0^{commit}"))
    second = fetch(source(git_host, tag="nightly"), credentials=git_host.secret, known=first.revision)
    assert not second.unchanged
    assert second.revision != first.revision
    assert tree_of(second)["version.txt"] == b"two"


def test_folder_ignored_files_and_links(git_host: GitHost, repository: Path) -> None:
    assert refused(source(git_host, branch="linked"), credentials=git_host.secret).reason is Reason.ARCHIVE_INVALID
    part = fetch(source(git_host, branch="linked"), credentials=git_host.secret, path="./_templates")
    assert sorted(tree_of(part)) == sorted(FILES)
    rest = fetch(source(git_host, branch="linked"), credentials=git_host.secret, ignore="/evil\ndocs/\n")
    assert sorted(tree_of(rest)) == sorted([*FILES, "version.txt"])
    none = refused(source(git_host, branch="main"), credentials=git_host.secret, path="nowhere")
    assert none.reason is Reason.PATH_NOT_FOUND


def test_too_much_is_stopped(git_host: GitHost, repository: Path) -> None:
    small = CourierLimits(wall_seconds=20, download_bytes=64)
    error = refused(source(git_host, branch="main"), credentials=git_host.secret, limits=small)
    assert (error.reason, error.limit) == (Reason.ARCHIVE_TOO_LARGE, "download")
    files = CourierLimits(wall_seconds=20, files=2)
    assert refused(source(git_host, branch="main"), credentials=git_host.secret, limits=files).limit == "files"


def test_submodules_only_when_asked_for_and_only_where_allowed(git_host: GitHost, repository: Path) -> None:
    inner = git_host.create("acme/inner", {"part.txt": "inside"})
    commit = git(inner, "rev-parse", "main")
    git_host.create("acme/outer", FILES)
    work = git_host.root / "work-acme-outer"
    (work / ".gitmodules").write_text('[submodule "inner"]\n\tpath = lib/inner\n\turl = ../inner.git\n')
    git(work, "add", ".gitmodules")
    git(work, "update-index", "--add", "--cacheinfo", f"160000,{commit},lib/inner")
    git(work, "commit", "-q", "-m", "submodule")
    git(work, "push", "-q", "origin", "main")
    outer = f"{git_host.url}/acme/outer.git"
    plain = fetch(GitSource(url=outer, branch="main"), credentials=git_host.secret)
    assert "lib/inner/part.txt" not in tree_of(plain)
    whole = fetch(GitSource(url=outer, branch="main", recurse_submodules=True), credentials=git_host.secret)
    assert tree_of(whole)["lib/inner/part.txt"] == b"inside"
    for url in ("https://169.254.169.254/x.git", "file:///etc", "http://localhost/x.git"):
        (work / ".gitmodules").write_text(f'[submodule "inner"]\n\tpath = lib/inner\n\turl = {url}\n')
        git(work, "add", ".gitmodules")
        git(work, "commit", "-q", "-m", url)
        git(work, "push", "-q", "origin", "main")
        error = refused(GitSource(url=outer, branch="main", recurse_submodules=True), credentials=git_host.secret)
        assert error.reason in (Reason.EGRESS_REFUSED, Reason.URL_INVALID)


@pytest.mark.parametrize("kind", ["ed25519", "ecdsa", "rsa"])
def test_ssh_signatures_of_commits_and_tags(git_host: GitHost, kind: str, tmp_path: Path) -> None:
    key = tmp_path / "signer"
    subprocess.run(["ssh-keygen", "-q", "-t", kind, "-N", "", "-f", str(key)], check=True)
    name = f"acme/signed-{kind}"
    git_host.create(name, FILES)
    work = git_host.root / f"work-acme-signed-{kind}"
    for setting in ("gpg.format=ssh", f"user.signingkey={key}", "user.name=x", "user.email=x@example.com"):
        git(work, "config", *setting.split("=", 1))
    git(work, "tag", "-a", "-m", "unsigned", "v0.9.0")
    (work / "a.txt").write_text("signed")
    git(work, "add", "-A")
    git(work, "commit", "-q", "-S", "-m", "signed")
    git(work, "tag", "-s", "-m", "release", "v1.0.0")
    git(work, "push", "-q", "origin", "main", "v1.0.0", "v0.9.0")
    bare = git_host.root / f"{name}.git"
    # The signed tag object under another name: who serves an old release as a new one is found out.
    git(bare, "update-ref", "refs/tags/v2.0.0", git(bare, "rev-parse", "v1.0.0"))
    url = f"{git_host.url}/{name}.git"
    signers = {"team": (tmp_path / "signer.pub").read_bytes()}
    for mode in GitVerify:
        good = fetch(GitSource(url=url, tag="v1.0.0", verify=mode), credentials=git_host.secret, signers=signers)
        assert "SSH key SHA256:" in good.verified_by
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / "stranger")], check=True)
    strangers = {"team": (tmp_path / "stranger.pub").read_bytes()}
    for ref, mode, keys in (
        ("v1.0.0", GitVerify.HEAD, strangers),
        ("v1.0.0", GitVerify.TAG, strangers),
        ("v1.0.0", GitVerify.TAG, {}),
        ("v0.9.0", GitVerify.TAG, signers),
        ("v0.9.0", GitVerify.HEAD, signers),
        ("v2.0.0", GitVerify.TAG, signers),
    ):
        error = refused(GitSource(url=url, tag=ref, verify=mode), credentials=git_host.secret, signers=keys)
        assert error.reason is Reason.VERIFICATION_FAILED
