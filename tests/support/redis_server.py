"""A real Redis server for tests, from Debian's package: on a free loopback port, data in a temporary folder, stopped by pid.

Its user ``default`` needs a random password. ``stop`` and ``start`` keep port and password and forget the users, as a real restart
does. A missing server is installed when we are root. Used by the fixture ``redis_server`` and by tests of several servers.
"""

import secrets
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from e2e.cluster import packages
from support.postgres import free_port, run_as, terminate

PACKAGES = (("redis-server", "redis-server"),)
START_SECONDS = 20.0


class RedisServer:
    """One server. Use it as a context manager."""

    def __init__(self, *settings: str, password: str | None = None) -> None:
        self.password = secrets.token_urlsafe(18) if password is None else password
        self.port = free_port()
        self.folder = Path(tempfile.mkdtemp(prefix="unjucks-redis-"))
        self._settings = settings
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> "RedisServer":
        packages.ensure(PACKAGES, "a test with a real Redis")
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def place(self) -> str:
        """Host and port."""
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        """The administrator's address."""
        return f"redis://:{self.password}@{self.place}/0"

    def tenant_url(self, user: str, password: str) -> str:
        """The address with somebody else's login."""
        return f"redis://{user}:{password}@{self.place}/0"

    def start(self) -> None:
        """Start it and wait until it answers."""
        lines = [
            f"port {self.port}",
            "bind 127.0.0.1",
            f'dir "{self.folder}"',
            'save ""',
            "appendonly no",
            # Off by default; a test wants to see users refused, not everybody.
            "enable-debug-command yes",
            "enable-module-command yes",
            *([f'requirepass "{self.password}"'] if self.password else []),
            *self._settings,
        ]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [*run_as(None), "redis-server", "-"],
                stdin=subprocess.PIPE, stdout=log, stderr=log, cwd=self.folder, start_new_session=True,
            )  # fmt: skip
        assert self._process.stdin is not None
        with self._process.stdin as stream:
            stream.write("\n".join(lines).encode() + b"\n")
        deadline = time.monotonic() + START_SECONDS
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"redis-server does not come up:\n{(self.folder / 'log').read_text()[-2000:]}")
            time.sleep(0.02)

    def _answers(self) -> bool:
        try:
            with self.client() as client:
                return bool(client.ping())
        except RedisError:
            return False

    def client(self, user: str | None = None, password: str | None = None) -> "Redis":
        """A connection (blocking) of the administrator, or of somebody else. Close it, or use it as a context manager."""
        url = self.url if user is None else self.tenant_url(user, password or "")
        return Redis.from_url(url, retry=Retry(NoBackoff(), 0), socket_timeout=10, decode_responses=True, protocol=2)

    def run(self, *command: Any) -> Any:
        """One command of the administrator."""
        with self.client() as client:
            return client.execute_command(*command)  # type: ignore[no-untyped-call]

    @property
    def running(self) -> bool:
        """Whether it lives."""
        return self._process is not None and self._process.poll() is None

    def stop(self) -> None:
        """End it; what was in memory is gone."""
        if self._process is not None:
            terminate(self._process)
            self._process = None

    def restart(self) -> None:
        """``stop`` and ``start``: the users are forgotten."""
        self.stop()
        self.start()

    def close(self) -> None:
        """Stop it and remove its folder."""
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)


@pytest.fixture(scope="module")
def redis_server() -> Iterator[RedisServer]:
    """One server for the tests of a module."""
    with RedisServer() as server:
        yield server
