"""Servers and requests for tests of sources: a TLS server that answers as told, template sets, archives, and fetches in process.

The way out is the real one; loopback is allowed by an explicit range, as only tests can do (the configuration refuses it).
"""

import base64
import gzip
import io
import ssl
import tarfile
import threading
import zipfile
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from support.git_host import make_certificate
from unjucks_api.courier_protocol import Allow, CourierLimits, FetchRequest, FetchResponse
from unjucks_runtime.sources.fetch import run_fetch

LOOPBACK = Allow(cidrs=["127.0.0.0/8", "::1/128"])
FILES = {
    "_templates/greet/new/action.yaml": "description: greets\nvariables:\n  name: {type: string}\n",
    "_templates/greet/new/{{ name }}.txt.njk": "Hello {{ name }}!\n",
}
QUICK = CourierLimits(wall_seconds=20, connect_seconds=5, read_seconds=5)

Answer = tuple[int, Mapping[str, str], bytes]


def fetch(source: Any, **fields: Any) -> FetchResponse:
    """What a courier's child would answer; raises what it would."""
    for key in ("credentials", "certificates", "signers"):
        fields[key] = {
            name: value if isinstance(value, str) else base64.b64encode(value).decode()
            for name, value in fields.get(key, {}).items()
        }
    stand_ins = {key: fields.pop(key) for key in ("resolve", "connect") if key in fields}
    return run_fetch(FetchRequest(source=source, **{"allow": LOOPBACK, "limits": QUICK} | fields), **stand_ins)


def tree_of(response: FetchResponse) -> dict[str, bytes]:
    """Paths and contents."""
    return {file.path: base64.b64decode(file.content) for file in response.files}


def tar_gz(files: Mapping[str, str | bytes], extra: Callable[[tarfile.TarFile], None] | None = None) -> bytes:
    """An archive; ``extra`` puts more into it."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for path, content in files.items():
            data = content.encode() if isinstance(content, str) else content
            entry = tarfile.TarInfo(path)
            entry.size, entry.mode = len(data), 0o644
            archive.addfile(entry, io.BytesIO(data))
        if extra is not None:
            extra(archive)
    return gzip.compress(buffer.getvalue(), mtime=0)


def zipped(files: Mapping[str, str | bytes], extra: Callable[[zipfile.ZipFile], None] | None = None) -> bytes:
    """The same as .zip."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, content in files.items():
            archive.writestr(zipfile.ZipInfo(path, (2026, 1, 1, 0, 0, 0)), content)
        if extra is not None:
            extra(archive)
    return buffer.getvalue()


class HttpsServer:
    """Answers from ``routes`` (path to an answer, or a function of the handler); notes what came in ``seen``."""

    def __init__(self, folder: Path, address: str = "127.0.0.1") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.routes: dict[str, Answer | Callable[[BaseHTTPRequestHandler], None]] = {}
        self.seen: list[tuple[str, dict[str, str]]] = []
        certificate, key = make_certificate(folder, address)
        self.authority = certificate.read_bytes()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                server.seen.append((self.path, dict(self.headers.items())))
                answer = server.routes.get(self.path) or server.routes.get(self.path.partition("?")[0])
                if answer is None:
                    answer = (404, {}, b"")
                if callable(answer):
                    answer(self)
                    return
                status, headers, body = answer
                self.send_response(status)
                for name, value in ({"Content-Length": str(len(body))} | dict(headers)).items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def do_POST(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length", "0")))
                self.do_GET()

            def log_message(self, *_: Any) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_: Any) -> None:
                pass  # a client that goes away in the middle is what many tests are about

        self._server = Server((address, 0), Handler)
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True, do_handshake_on_connect=False)
        self.port = self._server.server_address[1]
        self.url = f"https://{'localhost' if address == '127.0.0.1' else address}:{self.port}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop it."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)
