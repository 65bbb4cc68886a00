"""Credentials go to the host that they are for, whatever that host, or one that it leads to, says.

Two real TLS servers on loopback: the one that the tenant named, and one of somebody else that notes what comes.
"""

import base64
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from dulwich.object_store import MemoryObjectStore
from dulwich.objects import Blob, Commit, ObjectID, Tree

from support.sources import LOOPBACK, HttpsServer, fetch
from unjucks_api.courier_protocol import GitSource, OciSource
from unjucks_api.reasons import Reason
from unjucks_runtime.courier.errors import CourierError
from unjucks_runtime.sources import git as git_source

LOGIN = {"username": b"user", "password": b"secret-of-the-test"}
BASIC = "Basic " + base64.b64encode(b"user:secret-of-the-test").decode()


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[tuple[HttpsServer, HttpsServer]]:
    own, strange = HttpsServer(tmp_path / "own"), HttpsServer(tmp_path / "strange")
    yield own, strange
    own.close()
    strange.close()


def told(server: HttpsServer) -> list[str]:
    """Every header in which a credential could have come."""
    return [value for _, headers in server.seen for value in headers.values() if value.startswith(("Basic", "Bearer"))]


def layer(data: bytes) -> dict[str, Any]:
    return {"mediaType": "x", "digest": "sha256:" + hashlib.sha256(data).hexdigest(), "size": len(data)}


def test_a_server_of_blobs_cannot_send_the_login_anywhere(servers: tuple[HttpsServer, HttpsServer]) -> None:
    own, strange = servers
    blob = layer(b"never sent")
    own.routes["/v2/t/manifests/latest"] = 200, {}, orjson.dumps({"layers": [blob]})
    own.routes[f"/v2/t/blobs/{blob['digest']}"] = 307, {"Location": f"{strange.url}/blob"}, b""
    strange.routes["/blob"] = 401, {"WWW-Authenticate": f'Bearer realm="{strange.url}/token",service="s"'}, b""
    strange.routes["/token"] = 200, {}, b'{"token": "x"}'
    with pytest.raises(CourierError) as caught:
        fetch(
            OciSource(url=own.url.replace("https", "oci") + "/t"),
            credentials=LOGIN | {"ca.crt": own.authority + strange.authority},
        )
    assert caught.value.reason is Reason.AUTHENTICATION_FAILED
    assert [path for path, _ in strange.seen] == ["/blob"]
    assert told(strange) == []


def test_the_registry_itself_may_name_its_token_service(servers: tuple[HttpsServer, HttpsServer]) -> None:
    own, service = servers
    own.routes["/v2/t/manifests/latest"] = 401, {"WWW-Authenticate": f'Bearer realm="{service.url}/token"'}, b""
    service.routes["/token"] = 200, {}, b'{"token": "given"}'
    with pytest.raises(CourierError):
        fetch(
            OciSource(url=own.url.replace("https", "oci") + "/t"),
            credentials=LOGIN | {"ca.crt": own.authority + service.authority},
        )
    assert told(service) == [BASIC]
    assert told(own) == ["Bearer given"]


@pytest.mark.parametrize("login", [LOGIN, {"bearerToken": b"secret-of-the-test"}], ids=["basic", "bearer"])
def test_a_repository_that_is_moved_by_a_redirect_gets_no_login(
    servers: tuple[HttpsServer, HttpsServer], login: dict[str, bytes]
) -> None:
    own, strange = servers
    own.routes["/t.git/info/refs"] = 302, {"Location": f"{strange.url}/t.git/info/refs?service=git-upload-pack"}, b""
    kind = {"Content-Type": "application/x-git-upload-pack-advertisement"}
    said = [pkt("version 2\n"), pkt("ls-refs\n"), pkt("fetch=shallow\n"), b"0000"]
    strange.routes["/t.git/info/refs"] = 200, kind, pkt("# service=git-upload-pack\n") + b"0000" + b"".join(said)
    with pytest.raises(CourierError):
        fetch(
            GitSource(url=f"{own.url}/t.git", branch="main"),
            credentials=login | {"ca.crt": own.authority + strange.authority},
        )
    assert "/t.git/git-upload-pack" in [path for path, _ in strange.seen]
    assert len(told(own)) == 1
    assert told(strange) == []


def pkt(text: str) -> bytes:
    return f"{len(text) + 4:04x}{text}".encode()


def test_a_submodule_of_a_strange_submodule_gets_no_login(monkeypatch: pytest.MonkeyPatch) -> None:
    # What three servers would serve is put where it is fetched: the question is only with what each is asked.
    leaf = commit_of({"a.txt": b"a"})
    middle = commit_of({".gitmodules": b'[submodule "n"]\n\tpath = n\n\turl = ../inner.git\n'}, {"n": leaf})
    modules = b'[submodule "m"]\n\tpath = m\n\turl = https://strange.example/middle.git\n'
    top = commit_of({".gitmodules": modules}, {"m": middle})
    asked: dict[str, set[str]] = {}

    def serve(self: git_source.Repository, wanted: list[bytes], source: GitSource | None = None) -> MemoryObjectStore:
        asked[self.url] = set(self._secret)
        return next(store for store, sha in (top, middle, leaf) if sha == wanted[0])

    monkeypatch.setattr(git_source.Repository, "fetch", serve)
    fetch(
        GitSource(url="https://own.example/top.git", commit=top[1].decode(), recurse_submodules=True),
        credentials=LOGIN,
        allow=LOOPBACK,
    )
    assert asked == {
        "https://own.example/top.git": {"username", "password"},
        "https://strange.example/middle.git": set(),
        "https://strange.example/inner.git": set(),
    }


def commit_of(
    files: dict[str, bytes], modules: dict[str, tuple[MemoryObjectStore, ObjectID]] | None = None
) -> tuple[MemoryObjectStore, ObjectID]:
    store, tree = MemoryObjectStore(), Tree()
    for name, content in files.items():
        blob = Blob.from_string(content)
        store.add_object(blob)
        tree.add(name.encode(), 0o100644, blob.id)
    for name, (_, sha) in (modules or {}).items():
        tree.add(name.encode(), 0o160000, sha)
    commit = Commit()
    commit.tree, commit.author, commit.committer = tree.id, b"a <a@b>", b"a <a@b>"
    commit.author_time = commit.commit_time = 0
    commit.author_timezone = commit.commit_timezone = 0
    commit.message = b"m"
    store.add_object(tree)
    store.add_object(commit)
    return store, commit.id
