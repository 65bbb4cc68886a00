"""Progress of long steps on standard error: what runs, for how many seconds, and the latest detail.

On a terminal one line is rewritten; elsewhere a line is printed every ``PERIOD`` seconds, so that a log shows life without
drowning. Must not print anything secret: it is only given fixed texts, package names and counts.
"""

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

PERIOD: Final = 15.0


class Step:
    """One running step. ``detail`` may be set from any thread and appears with the next tick."""

    def __init__(self, title: str) -> None:
        self.title = title
        self.detail = ""
        self.started = time.monotonic()
        self._end = threading.Event()
        self._terminal = sys.stderr.isatty()
        self._thread = threading.Thread(target=self._run, daemon=True)

    @property
    def seconds(self) -> float:
        """Seconds since the step began."""
        return time.monotonic() - self.started

    def _run(self) -> None:
        while not self._end.wait(1.0 if self._terminal else PERIOD):
            text = f"{self.title} … {self.seconds:.0f} s"
            text += f"  {self.detail}" if self.detail else ""
            if self._terminal:
                sys.stderr.write(f"\r\x1b[K{text[:140]}")
            else:
                sys.stderr.write(f"{text}\n")
            sys.stderr.flush()

    def begin(self) -> None:
        """Start to show the step."""
        self._thread.start()

    def finish(self, outcome: str) -> None:
        """Stop showing it and print the one line that stays."""
        self._end.set()
        self._thread.join()
        start = "\r\x1b[K" if self._terminal else ""
        sys.stderr.write(f"{start}{self.title}: {outcome} ({self.seconds:.1f} s)\n")
        sys.stderr.flush()


@contextmanager
def step(title: str) -> Iterator[Step]:
    """Show a step while the block runs: ``with step("building X") as s: s.detail = "12 packages"``."""
    running = Step(title)
    running.begin()
    try:
        yield running
    except BaseException:
        running.finish("FAILED")
        raise
    running.finish("done")
