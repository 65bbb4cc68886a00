"""Hostile templates reach nothing but JSON values, and every bomb ends as the limit it breaks.

Each runs in a process whose memory is bounded, so that a bomb that is not stopped kills that process and not the machine.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from typing import Literal

import pytest

from support import hostile_templates as hostile
from unjucks_engine import Environment, LimitExceeded, TemplateError

CASES = hostile.all_cases()
CALM = [case for case in CASES if "bomb" not in case[0]]
BOMBS = [case for case in CASES if "bomb" in case[0]]
_INSIDES = (
    "object at 0x",
    "<class",
    "<function",
    "built-in",
    "[native code]",
    "function (",
    "=>",
    "Traceback",
    "root:x:",
)
_MEMORY = 256 * 1024 * 1024


def run(template: str, ways: Literal["auto", "code"] = "auto") -> tuple[str, str]:
    """(kind of outcome, text or message)."""
    env = Environment(hostile.TEMPLATES, autoescape=False, filters_profile="nunjucks")
    env.ways = ways
    try:
        return "text", env.render_string(template, hostile.CONTEXT)
    except LimitExceeded as error:
        return f"limit:{error.limit}", str(error)
    except TemplateError as error:
        return "error", str(error)


def check(kind: str, text: str, outcome: str) -> None:
    """The outcome is one of the allowed ones, and shows nothing of the host."""
    assert "internal error" not in text
    if kind == "text":
        for inside in _INSIDES:
            assert inside not in text
    if outcome == "nothing":
        assert (kind, text) == ("text", "")
    elif outcome.startswith("="):
        assert (kind, text) == ("text", outcome[1:])
    elif outcome == "error":
        assert kind == "error"
    elif outcome.startswith("limit:"):
        assert kind.startswith("limit:"), (kind, text[:200])
        assert kind.removeprefix("limit:") in outcome.removeprefix("limit:").split(",")


def test_there_are_enough() -> None:
    """At least 600 templates, of every class."""
    assert len(CASES) >= 600
    assert len({name for name, _, _ in CASES}) >= 20


@pytest.mark.parametrize("case", CALM, ids=[f"{index}-{case[0]}" for index, case in enumerate(CALM)])
@pytest.mark.isolation("T-template-escape")
def test_reaches_nothing(case: tuple[str, str, str]) -> None:
    """No step leads out of the closed values."""
    _, template, outcome = case
    check(*run(template), outcome)
    check(*run(template, "code"), outcome)


_CHILD = """
import json, resource, sys, time
sys.path[:0] = json.loads(sys.argv[1])
import importlib.util
spec = importlib.util.spec_from_file_location("test_hostile", sys.argv[2])
module = importlib.util.module_from_spec(spec); spec.loader.exec_module(module)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
import regex
for line in sys.stdin:
    index = int(line)
    start = time.process_time()
    kind, text = module.run(module.BOMBS[index][1])
    used = time.process_time() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(json.dumps([kind, text[:2000], used, peak]), flush=True)
    break
"""


@pytest.mark.parametrize("index", range(len(BOMBS)), ids=[f"{index}-{case[0]}" for index, case in enumerate(BOMBS)])
@pytest.mark.isolation("T-template-escape")
def test_bomb(index: int) -> None:
    """A bomb ends as a limit, in a process of 256 MB that the system would end after 10 seconds of CPU time."""

    def bounds() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY * 2, _MEMORY * 2))
        resource.setrlimit(resource.RLIMIT_CPU, (10, 10))

    done = subprocess.run(
        [sys.executable, "-c", _CHILD, json.dumps([path for path in sys.path if path]), __file__],
        input=f"{index}\n", capture_output=True, text=True, preexec_fn=bounds, check=False,
    )  # fmt: skip
    assert done.returncode == 0, (BOMBS[index][1][:200], done.stderr[-500:])
    kind, text, _, peak = json.loads(done.stdout)
    check(kind, text, BOMBS[index][2])
    assert peak < 256 * 1024, (BOMBS[index][1][:200], peak)
