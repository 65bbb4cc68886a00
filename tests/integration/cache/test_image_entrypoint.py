"""The entry point of the evaluation image of Redis, run by /bin/sh with the machine's own redis-server."""

import os
import subprocess
import time
from pathlib import Path

import pytest
from redis import Redis
from redis.exceptions import AuthenticationError, RedisError

from e2e.cluster import packages
from support.postgres import free_port, run_as, terminate
from support.redis_server import PACKAGES

pytestmark = pytest.mark.integration

SCRIPT = Path(__file__).parents[3] / "docker/redis-entrypoint.sh"


def start(folder: Path, password: str, port: int) -> "subprocess.Popen[bytes]":
    packages.ensure(PACKAGES, "a test with a real Redis")
    (folder / "password").write_text(password)
    environment = {"PATH": os.environ["PATH"], "REDIS_PORT": str(port), "REDIS_PASSWORD_FILE": str(folder / "password")}
    return subprocess.Popen(
        [*run_as(None), "/bin/sh", str(SCRIPT)],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=environment, cwd="/",
    )  # fmt: skip


def test_it_serves_with_the_password_and_keeps_it_to_itself(tmp_path: Path) -> None:
    port = free_port()
    process = start(tmp_path, "pass-word_1\n", port)
    try:
        with Redis(host="127.0.0.1", port=port, password="pass-word_1") as admin:
            deadline = time.monotonic() + 20
            while True:
                try:
                    assert admin.ping()
                    break
                except RedisError:
                    assert process.poll() is None and time.monotonic() < deadline, "it does not come up"  # noqa: PT018
                    time.sleep(0.05)
            assert admin.config_get("save") == {"save": ""}
            assert admin.config_get("appendonly") == {"appendonly": "no"}
            assert int(admin.config_get("maxmemory")["maxmemory"]) == 64 * 1024 * 1024
        with Redis(host="127.0.0.1", port=port) as nobody, pytest.raises(AuthenticationError):
            nobody.ping()
        arguments = Path(f"/proc/{process.pid}/cmdline").read_bytes()
        assert b"redis-server" in arguments, "the shell became the server, so it gets the signals"
        assert b"pass-word_1" not in arguments
    finally:
        terminate(process)
        assert process.stderr is not None
        process.stderr.close()


@pytest.mark.parametrize("password", ["", "two words", 'quote"', "$(id)"])
def test_a_password_that_could_be_more_than_one_is_refused(tmp_path: Path, password: str) -> None:
    process = start(tmp_path, password, free_port())
    _, said = process.communicate(timeout=20)
    assert process.returncode != 0
    assert b"password" in said or password == ""
