"""dependsOn: what a job waits for, and circles."""

from collections.abc import Mapping
from typing import Any

import pytest

from unjucks_api.reasons import Reason
from unjucks_operator.errors import Waiting
from unjucks_operator.job.dependencies import follow, require_dependencies


def body(*needs: str, ready: str = "True", reason: str = "Succeeded", seen: int = 1, failed: bool = False) -> Any:
    conditions = [{"type": "Ready", "status": ready, "reason": reason}]
    if failed:
        conditions.append({"type": "Failed", "status": "True", "reason": reason})
    return {
        "metadata": {"generation": 1},
        "spec": {"dependsOn": [{"name": name} for name in needs]},
        "status": {"observedGeneration": seen, "conditions": conditions},
    }


def check(first: list[str], jobs: Mapping[str, Any], job: str = "me") -> None:
    require_dependencies(job, first, follow(first, jobs.get))


def test_ready_ones_let_it_start() -> None:
    check(["a", "b"], {"a": body(), "b": body("a")})


@pytest.mark.parametrize(
    ("jobs", "words"),
    [
        ({}, "which does not exist"),
        ({"a": body(seen=0)}, "which has not run yet"),
        ({"a": body(ready="False", reason="Running")}, "has not succeeded yet"),
        ({"a": body(ready="False", reason="TemplateError", failed=True)}, "failed: TemplateError"),
        ({"a": body("me")}, "me → a → me"),
        ({"a": body("b"), "b": body("c"), "c": body("me", ready="False")}, "me → a → b → c → me"),
    ],
    ids=["missing", "old", "running", "failed", "circle", "long circle"],
)
def test_it_waits_and_says_for_what(jobs: dict[str, Any], words: str) -> None:
    with pytest.raises(Waiting, match=words) as caught:
        check(["a"], jobs)
    assert caught.value.reason is Reason.DEPENDENCY_NOT_READY


def test_itself_and_circles_of_others() -> None:
    with pytest.raises(Waiting, match="me → me"):
        check(["me"], {"me": body("me")})
    # A circle elsewhere is told there; here the first job is just not ready.
    with pytest.raises(Waiting, match=r"GenerationJob a .* has not succeeded yet"):
        check(["a"], {"a": body("b", ready="False"), "b": body("a", ready="False")})


def test_names_that_nobody_checked_do_no_harm() -> None:
    odd: dict[str, Any] = {"a": {"metadata": {"generation": 1}, "spec": {"dependsOn": ["x", None, {"name": 3}]}}}
    with pytest.raises(Waiting, match="has not run yet"):
        check(["a"], odd)
