"""The real Nunjucks as a child process, for tests that compare with it. Needs Node.js and `nunjucks` 3.2.4 in a folder.

The folder is that of the environment variable ``NUNJUCKS_DIR`` (holding ``node_modules/nunjucks``), else a cache folder of the
user, filled by ``npm install`` when asked.
"""

from __future__ import annotations

import json
import os
import pathlib
import shutil
import subprocess
from typing import Any

VERSION = "3.2.4"
SCRIPT = pathlib.Path(__file__).parents[1] / "conformance" / "oracle.mjs"


def folder(install: bool = False) -> pathlib.Path | None:
    """The folder with Nunjucks, or None if it (or Node.js) is not there."""
    if shutil.which("node") is None:
        return None
    given = os.environ.get("NUNJUCKS_DIR")
    cache = pathlib.Path(os.environ.get("XDG_CACHE_HOME", pathlib.Path.home() / ".cache"))
    place = pathlib.Path(given) if given else cache / "unjucks-tests" / f"nunjucks-{VERSION}"
    if not (place / "node_modules" / "nunjucks").is_dir():
        if not install:
            return None
        place.mkdir(parents=True, exist_ok=True)
        command = [
            "npm",
            "install",
            "--silent",
            "--no-audit",
            "--no-fund",
            "--prefix",
            str(place),
            f"nunjucks@{VERSION}",
        ]
        subprocess.run(command, check=True)
    return place


class Oracle:
    """A Node process that renders one case after the other; started again when it dies."""

    def __init__(self, place: pathlib.Path) -> None:
        self._place = place
        self._process: subprocess.Popen[str] | None = None

    def render_all(self, cases: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """The answer for each case: ``{"text": …}`` or ``{"error": …}``."""
        answers: list[dict[str, Any]] = []
        while len(answers) < len(cases):
            process = self._started()
            assert process.stdin is not None
            assert process.stdout is not None
            rest = cases[len(answers) :]
            try:
                # Small groups, so that neither side's pipe fills up while the other one waits.
                for start in range(0, len(rest), 20):
                    group = rest[start : start + 20]
                    process.stdin.write("".join(json.dumps(case) + "\n" for case in group))
                    process.stdin.flush()
                    for _ in group:
                        line = process.stdout.readline()
                        if not line:
                            raise BrokenPipeError
                        answers.append(json.loads(line))
            except BrokenPipeError:
                self.close()
                answers.append({"error": "the process died"})
        return answers[: len(cases)]

    def _started(self) -> subprocess.Popen[str]:
        if self._process is None:
            self._process = subprocess.Popen(
                ["node", "--stack-size=2000", "--max-old-space-size=512", str(SCRIPT)],
                cwd=self._place, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
                encoding="utf-8",
            )  # fmt: skip
        return self._process

    def close(self) -> None:
        """Ends the process."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
