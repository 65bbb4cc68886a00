"""A very small synchronous Kubernetes client for the tooling and for tests: JSON in, JSON out, one TLS identity.

Exists so that starting a cluster and looking at it needs no heavy import; tests of the product's own client do not use it.
"""

import http.client
import json
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from e2e.cluster.pki import Pair

APPLY = "application/apply-patch+yaml"
MERGE = "application/merge-patch+json"


@dataclass(frozen=True)
class Answer:
    """Status code, decoded JSON body (or the text under ``"text"`` when it is not JSON)."""

    status: int
    body: dict[str, Any]
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """True for 2xx."""
        return 200 <= self.status < 300

    def require(self) -> dict[str, Any]:
        """The body of a successful answer; raises RuntimeError with the server's message otherwise."""
        if not self.ok:
            raise RuntimeError(f"HTTP {self.status}: {self.body.get('message') or self.body}")
        return self.body


class Client:
    """Requests as one user. A new connection for each request: rare calls only, and no state to break."""

    def __init__(self, server: str, ca: Path, pair: Pair | None, *, user_agent: str = "unjucks-tests") -> None:
        parts = urlsplit(server)
        assert parts.hostname is not None
        assert parts.port is not None
        self._host, self._port, self._user_agent = parts.hostname, parts.port, user_agent
        self._context = ssl.create_default_context(cafile=str(ca))
        if pair is not None:
            self._context.load_cert_chain(pair.certificate, pair.key)

    def request(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        content_type: str = "application/json",
        timeout: float = 20.0,
        user_agent: str | None = None,
    ) -> Answer:
        """One request; raises OSError or http.client.HTTPException when no answer comes."""
        connection = http.client.HTTPSConnection(self._host, self._port, timeout=timeout, context=self._context)
        try:
            headers = {"Accept": "application/json", "User-Agent": user_agent or self._user_agent}
            payload = None
            if body is not None:
                payload = json.dumps(body)
                headers["Content-Type"] = content_type
            connection.request(method, path, payload, headers)
            response = connection.getresponse()
            text = response.read().decode(errors="replace")
            try:
                decoded = json.loads(text) if text else {}
            except ValueError:
                decoded = {"text": text}
            if not isinstance(decoded, dict):
                decoded = {"value": decoded}
            return Answer(response.status, decoded, dict(response.headers))
        finally:
            connection.close()

    def get(self, path: str) -> Answer:
        """GET a path."""
        return self.request("GET", path)

    def apply(self, path: str, body: object, *, manager: str = "unjucks-tests") -> Answer:
        """Server-side apply, with force."""
        return self.request("PATCH", f"{path}?fieldManager={manager}&force=true", body, content_type=APPLY)

    def wait(self, path: str, condition: Callable[[Answer], bool], *, timeout: float, what: str) -> Answer:
        """Ask again and again (every 50 ms at first, then every 250 ms) until the condition holds; TimeoutError names ``what``."""
        deadline = time.monotonic() + timeout
        pause, last = 0.05, "no answer"
        while True:
            try:
                answer = self.get(path)
            except (OSError, http.client.HTTPException) as error:
                last = str(error)
            else:
                if condition(answer):
                    return answer
                last = f"HTTP {answer.status} {json.dumps(answer.body)[:400]}"
            if time.monotonic() > deadline:
                raise TimeoutError(f"{what}: not within {timeout:.0f} s; last answer: {last}")
            time.sleep(pause)
            pause = min(pause * 1.5, 0.25)
