"""Runs one stage of a long command, shows how long it took, and remembers it: ``stage.py NAME "COMMAND"``, then ``--summary``.

The exit code is the command's. Called by the Makefile; needs nothing but the standard library.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

RECORD = Path(os.environ.get("UNJUCKS_STAGES", "build/stages.json"))


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description="Run one stage of a long command and time it.")
    parser.add_argument("name", nargs="?", help="name of the stage")
    parser.add_argument("command", nargs="?", help="shell words of the command")
    parser.add_argument("--summary", action="store_true", help="print the times of all stages, and forget them")
    options = parser.parse_args()
    stages: list[tuple[str, float]] = json.loads(RECORD.read_text()) if RECORD.exists() else []
    if options.summary:
        for name, seconds in stages:
            print(f"  {name:<12} {seconds:7.1f} s")
        print(f"  {'all':<12} {sum(seconds for _, seconds in stages):7.1f} s", flush=True)
        RECORD.unlink(missing_ok=True)
        return 0
    if not options.name or not options.command:
        parser.error("a name and a command are needed")
    print(f"== {options.name}", flush=True)
    started = time.monotonic()
    code = subprocess.run(
        ["/bin/bash", "-c", options.command], env={**os.environ, "PYTHONPATH": "tests"}, check=False
    ).returncode
    seconds = time.monotonic() - started
    print(f"== {options.name}: {'done' if code == 0 else f'failed with {code}'} after {seconds:.1f} s", flush=True)
    if code:
        RECORD.unlink(missing_ok=True)
        return code
    RECORD.parent.mkdir(parents=True, exist_ok=True)
    RECORD.write_text(json.dumps([*stages, (options.name, seconds)]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
