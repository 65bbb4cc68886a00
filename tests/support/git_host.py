"""A Git host on loopback: real repositories behind Debian's ``git http-backend`` over TLS and ``sshd``, and an API for requests.

The Git side is real. The API is a stand-in: Gitea itself is one Go module with a front end, and neither builds in the few minutes
that tests may take, GitHub and GitLab are no software that one can have. The stand-in keeps to what the three document for these
calls: paths, parameters, fields, states, who may call, and that a second open request for two branches is refused (GitHub 422,
GitLab 409, Gitea 409). It looks at the real repository: a request for a branch that does not exist is refused as well.
"""

import base64
import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

USER, PASSWORD = "courier", "s3cret-of-the-test"
_ENV = {
    "PATH": os.environ["PATH"],
    "GIT_CONFIG_NOSYSTEM": "1",
    "HOME": "/nonexistent",
    "GIT_AUTHOR_NAME": "human",
    "GIT_AUTHOR_EMAIL": "human@example.com",
    "GIT_COMMITTER_NAME": "human",
    "GIT_COMMITTER_EMAIL": "human@example.com",
}


def git(where: Path, *arguments: str, text: str | None = None) -> str:
    """Run git in a repository; its output."""
    done = subprocess.run(
        ["git", *arguments], cwd=where, env=_ENV, input=text, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, f"git {' '.join(arguments)}: {done.stderr}"
    return done.stdout.strip()


@dataclass
class Request:
    """A pull request."""

    number: int
    base: str
    head: str
    title: str
    body: str
    draft: bool
    labels: list[Any] = field(default_factory=list)
    state: str = "open"


@dataclass
class Fault:
    """What goes wrong once: the connection is cut when a request matches, before or after it took effect."""

    path: str
    after: bool
    also: Callable[[], object] = lambda: None
    """What happens in that moment besides."""
    where: str = ""
    """Only in paths with this text, for example a repository's name."""


class GitHost:
    """Repositories below ``root``, each ``<owner>/<name>.git``."""

    def __init__(self, root: Path, address: str = "127.0.0.1") -> None:
        self.root = root
        self.address = address
        self.requests: list[Request] = []
        self.labels: dict[str, int] = {}
        self.calls: list[tuple[str, str]] = []
        self.refuse_token = False
        self.faults: list[Fault] = []
        self._lock = threading.Lock()
        root.mkdir(parents=True, exist_ok=True)
        self.certificate = make_certificate(root, address)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificate[0], self.certificate[1])
        host = self

        class Handler(_Handler):
            owner = host

        self._server = ThreadingHTTPServer((address, 0), Handler)
        self._server.daemon_threads = True
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True, do_handshake_on_connect=False)
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self._thread.start()
        self._sshd: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """The start of every https URL."""
        return f"https://{'localhost' if self.address == '127.0.0.1' else self.address}:{self.port}"

    @property
    def secret(self) -> dict[str, str]:
        """The data of a Secret for https."""
        told = {"username": USER, "password": PASSWORD, "ca.crt": self.certificate[0].read_text()}
        return {key: base64.b64encode(value.encode()).decode() for key, value in told.items()}

    def create(self, name: str = "acme/orders", files: dict[str, str] | None = None) -> Path:
        """A repository with one commit on main."""
        bare, work = self.root / f"{name}.git", self.root / f"work-{name.replace('/', '-')}"
        bare.parent.mkdir(parents=True, exist_ok=True)
        git(self.root, "init", "-q", "--bare", "-b", "main", str(bare))
        git(bare, "config", "http.receivepack", "true")
        git(self.root, "clone", "-q", str(bare), str(work))
        git(work, "checkout", "-q", "-b", "main")
        for path, content in (files or {"README.md": "# Orders\n"}).items():
            (work / path).parent.mkdir(parents=True, exist_ok=True)
            (work / path).write_text(content)
        git(work, "add", "-A")
        git(work, "commit", "-q", "-m", "Begin")
        git(work, "push", "-q", "origin", "main")
        return bare

    def protect(self, bare: Path, pattern: str, said: str = "protected branch") -> None:
        """Refuse pushes to refs that match, as hosts do it: with a hook."""
        hook = bare / "hooks" / "update"
        hook.write_text(f'#!/bin/sh\ncase "$1" in {pattern}) echo "{said}" >&2; exit 1;; esac\n')
        hook.chmod(0o755)

    def start_ssh(self) -> int:
        """sshd on loopback, for this user, with keys of its own; its port. ``ssh_secret`` is what logs in."""
        place = self.root / "ssh"
        place.mkdir()
        for name in ("host", "user"):
            subprocess.run(
                ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(place / name)], check=True, timeout=30
            )
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.ssh_port = free.getsockname()[1]
        (place / "authorized").write_text((place / "user.pub").read_text())
        (place / "config").write_text(
            f"Port {self.ssh_port}\nListenAddress 127.0.0.1\nHostKey {place}/host\nAuthorizedKeysFile {place}/authorized\n"
            f"PidFile none\nUsePAM no\nStrictModes no\nPasswordAuthentication no\n"
        )
        Path("/run/sshd").mkdir(exist_ok=True)
        self._sshd = subprocess.Popen(
            [shutil.which("sshd") or "/usr/sbin/sshd", "-D", "-e", "-f", str(place / "config")],
            stderr=subprocess.DEVNULL,
        )
        for _ in range(100):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.ssh_port)) == 0:
                    return self.ssh_port
            threading.Event().wait(0.05)
        raise AssertionError("sshd does not listen")

    @property
    def ssh_secret(self) -> dict[str, str]:
        """The data of a Secret for ssh."""
        place = self.root / "ssh"
        host = " ".join((place / "host.pub").read_text().split()[:2])
        told = {
            "identity": (place / "user").read_text(),
            "known_hosts": f"[localhost]:{self.ssh_port} {host}\n",
            "token": PASSWORD,
        }
        return {key: base64.b64encode(value.encode()).decode() for key, value in told.items()}

    def close(self) -> None:
        """Stop everything."""
        if self._sshd is not None:
            self._sshd.send_signal(signal.SIGTERM)
            self._sshd.wait(10)
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)

    def commits(self, bare: Path, branch: str) -> list[str]:
        """Messages of the commits of a branch that main has not, newest first."""
        out = git(bare, "log", "--format=%B%x00", f"main..{branch}")
        return [message.strip() for message in out.split("\0") if message.strip()]

    def take_fault(self, path: str) -> Fault | None:
        """The fault for this path; each happens once."""
        with self._lock:
            for fault in self.faults:
                if fault.path in path and fault.where in path:
                    self.faults.remove(fault)
                    return fault
        return None

    # --- the API --------------------------------------------------------------------------------------------------------
    def api(self, method: str, path: str, body: Any) -> tuple[int, Any]:
        """(status, answer) of a call below /api."""
        with self._lock:
            self.calls.append((method, path))
            parts = urlsplit(path)
            query = {key: values[0] for key, values in parse_qs(parts.query).items()}
            if parts.path.startswith("/api/v3/repos/"):
                return self._github(method, parts.path.removeprefix("/api/v3/repos/"), query, body)
            if parts.path.startswith("/api/v4/projects/"):
                return self._gitlab(method, parts.path.removeprefix("/api/v4/projects/"), query, body)
            if parts.path.startswith("/api/v1/repos/"):
                return self._gitea(method, parts.path.removeprefix("/api/v1/repos/"), body)
            return 404, {"message": "Not Found"}

    def _github(self, method: str, path: str, query: dict[str, str], body: Any) -> tuple[int, Any]:
        owner, name, kind, *rest = path.split("/")
        if kind == "pulls" and method == "GET":
            found = [it for it in self.requests if it.state == query.get("state", "open")]
            if "head" in query:
                found = [it for it in found if f"{owner}:{it.head}" == query["head"]]
            return 200, [self._shown(it) for it in found if it.base == query.get("base", it.base)]
        if kind == "pulls" and method == "POST":
            refused = self._refuse(f"{owner}/{name}", body["base"], body["head"])
            if refused:
                return 422, {"message": "Validation Failed", "errors": [{"message": refused}]}
            return 201, self._shown(self._make(body["base"], body["head"], body["title"], body["body"], body["draft"]))
        if kind == "issues" and rest[1:] == ["labels"]:
            self.requests[int(rest[0]) - 1].labels += body["labels"]
            return 200, []
        return 404, {"message": "Not Found"}

    def _gitea(self, method: str, path: str, body: Any) -> tuple[int, Any]:
        owner, name, kind, *rest = path.split("/")
        if kind == "labels":
            if method == "GET":
                return 200, [{"id": number, "name": label} for label, number in self.labels.items()]
            self.labels[body["name"]] = len(self.labels) + 7
            return 201, {"id": self.labels[body["name"]], "name": body["name"]}
        if kind == "pulls" and method == "GET" and rest:
            found = [it for it in self.requests if [it.base, it.head] == [unquote(item) for item in rest]]
            return (200, self._shown(found[-1])) if found else (404, {"message": "pull request does not exist"})
        if kind == "pulls" and method == "GET":
            return 200, [self._shown(it) for it in self.requests if it.state == "open"]
        if kind == "pulls":
            refused = self._refuse(f"{owner}/{name}", body["base"], body["head"])
            if refused:
                return 409, {"message": refused}
            made = self._make(body["base"], body["head"], body["title"], body["body"], body["title"].startswith("WIP:"))
            made.labels = body.get("labels", [])
            return 201, self._shown(made)
        return 404, {"message": "Not Found"}

    def _gitlab(self, method: str, path: str, query: dict[str, str], body: Any) -> tuple[int, Any]:
        project = unquote(path.split("/")[0])
        if method == "GET":
            found = [it for it in self.requests if it.state == "open" and it.head == query["source_branch"]]
            return 200, [self._shown(it) for it in found]
        refused = self._refuse(project, body["target_branch"], body["source_branch"])
        if refused:
            return 409, {"message": [refused]}
        draft = body["title"].startswith("Draft:")
        made = self._make(body["target_branch"], body["source_branch"], body["title"], body["description"], draft)
        made.labels = [label for label in body["labels"].split(",") if label]
        return 201, self._shown(made)

    def _refuse(self, repository: str, base: str, head: str) -> str:
        bare = self.root / f"{repository}.git"
        branches = git(bare, "for-each-ref", "--format=%(refname:short)").split() if bare.exists() else []
        if head not in branches or base not in branches:
            return "head or base does not exist"
        if any((it.base, it.head, it.state) == (base, head, "open") for it in self.requests):
            return f"A pull request already exists for {head}."
        return ""

    def _make(self, base: str, head: str, title: str, body: str, draft: bool) -> Request:
        made = Request(len(self.requests) + 1, base, head, title, body, draft)
        self.requests.append(made)
        return made

    def _shown(self, it: Request) -> dict[str, Any]:
        url = f"{self.url}/acme/orders/pulls/{it.number}"
        return {
            "number": it.number, "iid": it.number, "html_url": url, "web_url": url, "state": it.state, "title": it.title,
            "head": {"ref": it.head}, "base": {"ref": it.base}, "source_branch": it.head, "target_branch": it.base,
        }  # fmt: skip


class _Handler(BaseHTTPRequestHandler):
    owner: GitHost
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._serve(b"")

    def do_POST(self) -> None:
        self._serve(self.rfile.read(int(self.headers.get("Content-Length", "0"))))

    def _serve(self, body: bytes) -> None:
        fault = self.owner.take_fault(self.path)
        if fault is not None and not fault.after:
            return self._cut(fault)
        if self.path.startswith("/api/"):
            status, answer, headers = *self._api(body), {"Content-Type": "application/json"}
        else:
            status, answer, headers = self._git(body)
        if fault is not None:
            return self._cut(fault)
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)
        return None

    def _cut(self, fault: Fault) -> None:
        fault.also()
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)

    def _api(self, body: bytes) -> tuple[int, bytes]:
        told = [self.headers.get(name) or "" for name in ("Authorization", "Private-Token")]
        if self.owner.refuse_token or not any(PASSWORD in item for item in told):
            return 401, b'{"message":"Bad credentials"}'
        status, answer = self.owner.api(self.command, self.path, json.loads(body) if body else None)
        return status, json.dumps(answer).encode()

    def _git(self, body: bytes) -> tuple[int, bytes, dict[str, str]]:
        wanted = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        if self.headers.get("Authorization") != wanted:
            return 401, b"", {"WWW-Authenticate": 'Basic realm="git"'}
        parts = urlsplit(self.path)
        environment = _ENV | {
            "GIT_PROJECT_ROOT": str(self.owner.root),
            "GIT_HTTP_EXPORT_ALL": "1",
            "PATH_INFO": unquote(parts.path),
            "QUERY_STRING": parts.query,
            "REQUEST_METHOD": self.command,
            "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "CONTENT_LENGTH": str(len(body)),
            "REMOTE_USER": USER,
            "REMOTE_ADDR": "127.0.0.1",
            "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
            "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
        }
        done = subprocess.run(
            ["git", "http-backend"], env=environment, input=body, capture_output=True, check=False, timeout=60
        )
        head, _, content = done.stdout.partition(b"\r\n\r\n")
        headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n") if ": " in line)
        status = int(headers.pop("Status", "200").split()[0])
        return status, content, headers

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        pass


def make_certificate(root: Path, address: str = "127.0.0.1") -> tuple[Path, Path]:
    certificate, key = root / "tls.crt", root / "tls.key"
    subprocess.run(
        [
            "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
            "-subj", "/CN=localhost", "-addext", f"subjectAltName=DNS:localhost,IP:{address}",
            "-addext", "basicConstraints=critical,CA:TRUE", "-keyout", str(key), "-out", str(certificate),
        ],
        check=True, capture_output=True, timeout=30,
    )  # fmt: skip
    return certificate, key
