"""A real PgBouncer (Debian's package) in transaction mode in front of a test server; SCRAM on both sides, stopped by pid.

Installs nothing: a missing pgbouncer is an error that names the apt command. Never runs as root, as the server never does.
"""

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

from support.postgres import free_port, run_as, terminate, unprivileged_user

INSTALL = "apt-get install -y --no-install-recommends pgbouncer"


class PgBouncer:
    """``dsn(database)`` leads through it. ``pool_size`` is the number of server connections for each user and database."""

    def __init__(self, server_port: int, users: dict[str, str], pool_size: int = 2, extra: str = "") -> None:
        binary = shutil.which("pgbouncer", path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")
        if binary is None:
            raise RuntimeError(f"PgBouncer is not installed. As root, run: {INSTALL}")
        self._binary = binary
        self.port = free_port()
        self._users = users
        self._folder = Path(tempfile.mkdtemp(prefix="unjucks-pgbouncer-"))
        user_list = self._folder / "users.txt"
        user_list.write_text("".join(f'"{name}" "{password}"\n' for name, password in users.items()))
        (self._folder / "pgbouncer.ini").write_text(
            f"""[databases]
* = host=127.0.0.1 port={server_port}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {self.port}
unix_socket_dir =
auth_type = scram-sha-256
auth_file = {user_list}
pool_mode = transaction
default_pool_size = {pool_size}
max_client_conn = 200
server_login_retry = 1
logfile = {self._folder / "log"}
{extra}"""
        )
        self._process: subprocess.Popen[bytes] | None = None

    def dsn(self, database: str, user: str) -> str:
        """A URL through the pooler."""
        return f"postgresql://{user}:{quote(self._users[user], safe='')}@127.0.0.1:{self.port}/{database}"

    def start(self) -> None:
        user = unprivileged_user()
        if user is not None:
            for path in (self._folder, *self._folder.iterdir()):
                os.chown(path, user.pw_uid, user.pw_gid)
        self._process = subprocess.Popen(
            [*run_as(user), self._binary, "-q", str(self._folder / "pgbouncer.ini")],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True,
        )  # fmt: skip
        deadline = time.monotonic() + 15
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1):
                return
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"PgBouncer did not start: {self.log()}")
            time.sleep(0.02)

    def log(self) -> str:
        """What it wrote so far."""
        path = self._folder / "log"
        return path.read_text(errors="replace") if path.exists() else "(no log)"

    def stop(self) -> None:
        if self._process is not None:
            terminate(self._process)
            if self._process.stderr is not None:
                self._process.stderr.close()
        shutil.rmtree(self._folder, ignore_errors=True)


@contextlib.contextmanager
def pgbouncer(server_port: int, users: dict[str, str], pool_size: int = 2, extra: str = "") -> Iterator[PgBouncer]:
    """A running pooler. ``extra``: more lines of its configuration."""
    pooler = PgBouncer(server_port, users, pool_size, extra)
    try:
        pooler.start()
        yield pooler
    finally:
        pooler.stop()
