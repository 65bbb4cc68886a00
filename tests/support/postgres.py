"""A real PostgreSQL server for tests, from Debian's package: started in a temporary folder, stopped by pid, removed afterwards.

The server never runs as root (initdb refuses that): as root it is started as ``postgres`` or ``nobody`` through setpriv. It
listens on a unix socket and on a free loopback port, asks for SCRAM passwords, and has fsync off. Nothing is installed from
here: a missing server is an error that names the apt command. Used by the fixture ``postgres_server`` and by benches.
"""

import asyncio
import contextlib
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from urllib.parse import quote

import asyncpg
import pytest

INSTALL = "apt-get install -y --no-install-recommends postgresql postgresql-client"
START_TIMEOUT = 90.0
SUPERUSER = "postgres"


class PostgresMissingError(RuntimeError):
    """No PostgreSQL server of version 15 or newer on this machine."""


def server_binaries() -> Path:
    """The folder of the newest installed server; raises PostgresMissingError with the command that installs one."""
    found = [
        path.parent
        for path in Path("/usr/lib/postgresql").glob("*/bin/postgres")
        if path.parent.parent.name.isdigit() and int(path.parent.parent.name) >= 15
    ]
    if not found:
        raise PostgresMissingError(f"PostgreSQL 15 or newer is not installed. As root, run: {INSTALL}")
    return max(found, key=lambda path: int(path.parent.name))


def unprivileged_user() -> pwd.struct_passwd | None:
    """Whom to run as: None when we are not root, else the user ``postgres`` or ``nobody``."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name)
    raise PostgresMissingError(f"there is no user postgres or nobody to run the server as. As root, run: {INSTALL}")


def run_as(user: pwd.struct_passwd | None) -> list[str]:
    """The command prefix that changes to ``user``; the process gets SIGINT (fast shutdown) when we die."""
    prefix = [shutil.which("setpriv") or "setpriv"]  # absolute: a caller may give the child another PATH
    if threading.current_thread() is threading.main_thread():
        prefix += ["--pdeathsig", "INT"]  # it is the end of the *thread* that counts
    if user is not None:
        prefix += [f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]
    return [*prefix, "--"]


def free_port() -> int:
    """A loopback port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def terminate(process: "subprocess.Popen[bytes]", first: signal.Signals = signal.SIGINT) -> None:
    """Ends a child that we started: ``first``, after 10 s SIGQUIT, after 5 s more SIGKILL; SIGCONT in case it is stopped."""
    for sign, patience in ((first, 10.0), (signal.SIGQUIT, 5.0), (signal.SIGKILL, 5.0)):
        if process.poll() is not None:
            return
        process.send_signal(signal.SIGCONT)
        process.send_signal(sign)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(patience)
            return


class PostgresServer:
    """One server. Use it as a context manager; ``stop`` and ``start`` keep the data, the port and the passwords."""

    def __init__(self, settings: dict[str, str] | None = None) -> None:
        self._bin = server_binaries()
        self._user = unprivileged_user()
        self.password = secrets.token_urlsafe(18)
        self.port = free_port()
        self.folder = Path(tempfile.mkdtemp(prefix="unjucks-pg-"))
        self.data = self.folder / "data"
        self._log = self.folder / "server.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._stopped: list[int] = []
        self._settings = {
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": str(self.folder),
            "fsync": "off",
            "synchronous_commit": "off",
            "full_page_writes": "off",
            "max_connections": "100",
            "shared_buffers": "64MB",
            "password_encryption": "scram-sha-256",
            "log_min_messages": "warning",
        } | (settings or {})

    def __enter__(self) -> "PostgresServer":
        try:
            self._initialise()
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _initialise(self) -> None:
        password_file = self.folder / "password"
        password_file.write_text(self.password)
        if self._user is not None:
            os.chown(self.folder, self._user.pw_uid, self._user.pw_gid)
            os.chown(password_file, self._user.pw_uid, self._user.pw_gid)
        command = [
            *run_as(self._user), str(self._bin / "initdb"), "--no-sync", "--no-instructions", "--encoding=UTF8",
            "--locale=C", f"--username={SUPERUSER}", "--auth=scram-sha-256", f"--pwfile={password_file}", str(self.data),
        ]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=self.folder, check=False)
        password_file.unlink()
        if done.returncode:
            raise RuntimeError(f"initdb failed: {done.stderr.strip() or done.stdout.strip()}")

    def start(self) -> None:
        """Starts the server and waits until it takes connections."""
        options = [part for key, value in self._settings.items() for part in ("-c", f"{key}={value}")]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [*run_as(self._user), str(self._bin / "postgres"), "-D", str(self.data), *options],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.folder, start_new_session=True,
            )  # fmt: skip
        deadline = time.monotonic() + START_TIMEOUT
        while not self._says_ready():
            if self._process.poll() is not None:
                raise RuntimeError(f"PostgreSQL ended at once:\n{self.log()[-2000:]}")
            if time.monotonic() > deadline:
                raise RuntimeError(f"PostgreSQL was not ready after {START_TIMEOUT:.0f} s:\n{self.log()[-2000:]}")
            time.sleep(0.02)

    def _says_ready(self) -> bool:
        # The eighth line of postmaster.pid is the state; the first one the pid, which guards against a file left by a crash.
        try:
            lines = (self.data / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return False
        return len(lines) >= 8 and lines[0] == str(self.pid) and lines[7].strip() == "ready"

    @property
    def pid(self) -> int:
        """Process id of the postmaster."""
        assert self._process is not None, "the server was not started"
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether the postmaster lives."""
        return self._process is not None and self._process.poll() is None

    def stop(self, *, immediate: bool = False) -> None:
        """Fast shutdown (sessions are ended), or an immediate one: as after a crash, recovery follows at the next start."""
        if self._process is not None:
            self.resume()
            terminate(self._process, signal.SIGQUIT if immediate else signal.SIGINT)
            self._process = None

    def restart(self, *, immediate: bool = False) -> None:
        """``stop`` and ``start``."""
        self.stop(immediate=immediate)
        self.start()

    def pause(self) -> None:
        """SIGSTOP to the postmaster and all its children: connections stay open and nothing answers."""
        self._stopped = [self.pid, *_children(self.pid)]
        for pid in self._stopped:
            os.kill(pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Ends ``pause``."""
        for pid in self._stopped:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
        self._stopped = []

    def close(self) -> None:
        """Stops the server and removes its folder."""
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def log(self) -> str:
        """What the server wrote so far."""
        return self._log.read_text(errors="replace") if self._log.exists() else ""

    def dsn(self, database: str = "postgres", user: str = SUPERUSER, password: str | None = None) -> str:
        """A URL over TCP; the superuser's by default."""
        secret = quote(self.password if password is None else password, safe="")
        return f"postgresql://{user}:{secret}@127.0.0.1:{self.port}/{database}"

    async def connect(self, database: str = "postgres") -> "asyncpg.Connection[asyncpg.Record]":
        """A connection of the superuser."""
        return await asyncpg.connect(self.dsn(database))

    async def create_database(self, name: str | None = None) -> str:
        """An empty database with a fresh name; returns the name."""
        chosen = name or f"t_{secrets.token_hex(6)}"
        connection = await self.connect()
        try:
            await connection.execute(f'CREATE DATABASE "{chosen}" TEMPLATE template0')
        finally:
            await connection.close()
        return chosen

    async def drop_database(self, name: str) -> None:
        """Drops it, sessions included."""
        connection = await self.connect()
        try:
            await connection.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
        finally:
            await connection.close()

    @contextlib.asynccontextmanager
    async def fresh_database(self) -> AsyncIterator[str]:
        """An empty database for one test."""
        name = await self.create_database()
        try:
            yield name
        finally:
            if self.running:
                await self.drop_database(name)


def _children(parent: int) -> list[int]:
    found = []
    for task in Path(f"/proc/{parent}/task").iterdir():
        for child in (task / "children").read_text().split():
            found += [int(child), *_children(int(child))]
    return found


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """One server for the whole run; a test that stops it must start it again."""
    with PostgresServer() as server:
        yield server


@pytest.fixture
async def postgres_database(postgres_server: PostgresServer) -> AsyncIterator[str]:
    """The name of an empty database, dropped after the test."""
    if not postgres_server.running:  # an earlier test failed between stop and start
        await asyncio.to_thread(postgres_server.start)
    async with postgres_server.fresh_database() as name:
        yield name
