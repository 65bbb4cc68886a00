"""The marker ``isolation``: which tests prove which line of the isolation matrix, and whether our own processes ran meanwhile.

How to mark a test:

    @pytest.mark.isolation("T-db-connect-matrix")                  neither operator nor webhooks take part: counts for both columns
    @pytest.mark.isolation("T-detach", state="up")                 operator and webhooks run in this test
    @pytest.mark.isolation("T-operator-down", state="down")        they are stopped in this test
    @pytest.mark.isolation("T-net-tenant", "T-net-apiserver")      one test, several lines

    def test_x(platform_state: str, ...):                          on the real cluster, run twice: the marker's state is taken from
                                                                   the parameter, "up" or "down" (operator and webhooks at 0)

Ids come from ``tests/isolation/catalogue.py``: add your line there (id, what is tried, class of attack); an unknown id fails the
collection. A test belongs here when it *tries* the attack and fails if it succeeds; a test of a happy path does not. Each "cannot"
needs a control beside it that can. Nothing is copied: mark the test where it lives.

``make isolation`` runs every marked test and prints the matrix; ``pytest -m isolation PATH`` runs those of one place. This module
only registers the marker and writes what came out to the file of ``--isolation-report``. Called by pytest (tests/conftest.py).
"""

import json
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from isolation.catalogue import BY_ID
from unjucks_api.names import PLATFORM_NAMESPACE

UP: Final = "up"
DOWN: Final = "down"
STATES: Final = (UP, DOWN)
PROCESSES: Final = ("unjucks-operator", "unjucks-webhooks")
_RESULTS: Final = pytest.StashKey[dict[str, dict[str, Any]]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """``--isolation-report FILE``."""
    parser.addoption("--isolation-report", metavar="FILE", help="write the outcome of every isolation test as JSON")


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker."""
    config.addinivalue_line(
        "markers", "isolation(*ids, state=None): tries attacks of the isolation matrix; see tests/support/isolation.py"
    )
    config.stash[_RESULTS] = {}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Refuse ids that are in no catalogue."""
    for item in items:
        for mark in item.iter_markers("isolation"):
            unknown = [name for name in mark.args if name not in BY_ID]
            if unknown or not mark.args or mark.kwargs.get("state") not in (None, *STATES):
                raise pytest.UsageError(
                    f"{item.nodeid}: isolation{mark.args} {mark.kwargs}: name ids of tests/isolation/catalogue.py "
                    f"(unknown: {', '.join(unknown) or 'none'}) and state up, down or none"
                )


def proofs(item: pytest.Item) -> Iterator[tuple[str, tuple[str, ...]]]:
    """(id, states) that the test proves when it passes."""
    for mark in item.iter_markers("isolation"):
        states = (mark.kwargs["state"],) if mark.kwargs.get("state") else STATES
        if "platform_state" in getattr(item, "fixturenames", ()):
            states = (item.callspec.params["platform_state"],)  # type: ignore[attr-defined]
        for name in mark.args:
            yield name, states


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Note the outcome: the worst of set-up, call and teardown."""
    report = yield
    claims = list(proofs(item))
    if claims:
        results = item.config.stash[_RESULTS]
        entry = results.setdefault(
            item.nodeid, {"claims": [[name, list(states)] for name, states in claims], "outcome": "not run", "why": ""}
        )
        if report.failed:
            entry["outcome"] = "failed" if report.when == "call" else "error"
            entry["why"] = str(report.longrepr)[-2000:]
        elif report.skipped:
            entry["outcome"], entry["why"] = "skipped", str(report.longrepr)[-500:]
        elif report.when == "call":
            entry["outcome"] = "passed"
    return report


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Write the report."""
    path = session.config.getoption("--isolation-report")
    if path:
        Path(path).write_text(json.dumps(session.config.stash[_RESULTS], indent=1), encoding="utf-8")


@pytest.fixture(scope="module", params=STATES)
def platform_state(request: pytest.FixtureRequest) -> Iterator[str]:
    """On the real cluster, of a module with a ``site``: everything up, then again with operator and webhooks scaled to nothing."""
    site = request.getfixturevalue("site")
    if request.param == UP:
        yield UP
        return
    counts = _replicas(site)
    _scale(site, dict.fromkeys(counts, 0))
    yield DOWN
    _scale(site, counts)


def _replicas(cluster: Any) -> dict[str, int]:
    found = json.loads(cluster.kubectl("get", "deployments", "-n", PLATFORM_NAMESPACE, "-o", "json").stdout)
    names = {item["metadata"]["name"]: item["spec"]["replicas"] for item in found["items"]}
    return {name: count for name, count in names.items() if name in PROCESSES}


def _scale(cluster: Any, counts: dict[str, int]) -> None:
    for name, count in counts.items():
        cluster.kubectl("-n", PLATFORM_NAMESPACE, "scale", f"deployment/{name}", f"--replicas={count}")
    for name, count in counts.items():
        if count:
            cluster.kubectl("-n", PLATFORM_NAMESPACE, "rollout", "status", f"deployment/{name}", "--timeout=120s")
        else:
            component = f"app.kubernetes.io/component={name.removeprefix('unjucks-')}"
            cluster.kubectl(
                *("-n", PLATFORM_NAMESPACE, "wait", "--for=delete", "pod", "-l", component, "--timeout=60s"),
                check=False,
            )
