"""Starts and stops the programs of a test cluster. Stops by pid, never by name, and only what it started itself.

A program started here with ``follow=True`` ends with us however we end: see ``followStdin`` in the Go sources.
"""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

from e2e.cluster.errors import StartFailed


def tail(log: Path, lines: int = 15) -> str:
    """The last lines of a log, for error messages."""
    try:
        return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])
    except OSError as error:
        return f"(no log: {error})"


class Running:
    """A program that runs, with its log file."""

    def __init__(self, name: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
        self.name, self.process, self.log = name, process, log

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.process.pid

    def require_alive(self) -> None:
        """Raise StartFailed with the log's tail when it has ended."""
        code = self.process.poll()
        if code is not None:
            raise StartFailed(f"{self.name} ended with exit code {code}; the end of {self.log}:\n{tail(self.log)}")

    def signal(self, number: int) -> None:
        """Send it a signal, if it still runs (SIGSTOP and SIGCONT make outages)."""
        if self.process.poll() is None:
            self.process.send_signal(number)

    def stop(self, grace: float = 5.0) -> None:
        """SIGTERM, then SIGKILL after ``grace`` seconds; returns when it is gone."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)  # a stopped program would not see SIGTERM
            self.process.terminate()
            try:
                self.process.wait(grace)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        if self.process.stdin is not None:
            with contextlib.suppress(OSError):
                self.process.stdin.close()


def start(
    name: str,
    command: Sequence[str | Path],
    log: Path,
    *,
    environment: Mapping[str, str] | None = None,
    follow: bool = True,
) -> Running:
    """Start a program in a session of its own, output to ``log``."""
    settings = dict(os.environ) | dict(environment or {})
    if follow:
        settings["TESTCLUSTER_FOLLOW_STDIN"] = "1"
    log.parent.mkdir(parents=True, exist_ok=True)
    output: IO[bytes]
    with log.open("ab") as output:
        process = subprocess.Popen(
            [str(part) for part in command],
            stdin=subprocess.PIPE if follow else subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=settings,
            cwd="/",
            start_new_session=True,
        )
    return Running(name, process, log)


def stop_all(running: Sequence[Running]) -> None:
    """Stop all, the last started first; all get SIGTERM before any is waited for."""
    for one in reversed(running):
        one.signal(signal.SIGCONT)
        one.signal(signal.SIGTERM)
    deadline = time.monotonic() + 5.0
    for one in reversed(running):
        one.stop(max(0.1, deadline - time.monotonic()))
