"""The matrix of attacks: what decides a line, what is counted, and that the catalogue and the tests speak of the same."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from isolation.__main__ import as_json, main, matrix, summary, table
from isolation.catalogue import ATTACKS, BOTH, BY_ID

TESTS = Path(__file__).resolve().parents[2]


def report(*entries: tuple[str, list[str], str]) -> dict[str, Any]:
    """(id, states, outcome) of one test each."""
    return {
        f"test{number}": {"claims": [[name, states]], "outcome": outcome, "why": "because"}
        for number, (name, states, outcome) in enumerate(entries)
    }


def line(name: str, *entries: tuple[str, list[str], str]) -> dict[str, str]:
    (found,) = matrix(report(*entries), [name])
    return dict(found.results)


def test_the_worst_test_decides() -> None:
    good = ("T-net-tenant", ["up", "down"], "passed")
    assert line("T-net-tenant", good) == {"up": "held", "down": "held"}
    assert line("T-net-tenant", good, ("T-net-tenant", ["down"], "failed")) == {"up": "held", "down": "ESCAPED"}
    assert line("T-net-tenant", good, ("T-net-tenant", ["up"], "error")) == {"up": "broken", "down": "held"}
    assert line("T-net-tenant", ("T-net-tenant", ["up"], "skipped")) == {"up": "broken", "down": "untried"}


def test_only_states_that_an_attack_has_are_asked_for() -> None:
    assert line("T-operator-down") == {"up": "-", "down": "untried"}
    assert line("T-status-truth") == {"up": "untried", "down": "-"}
    assert line("T-net-ipv6") == {"up": "-", "down": "-"}


def test_nothing_tried_is_no_success(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "report.json"
    path.write_text("{}")
    assert main(["--report", str(path)]) == 1
    assert "0 held, 0 escapes" in capsys.readouterr().out
    path.write_text(json.dumps(report(("T-net-tenant", ["up", "down"], "passed"))))
    assert main(["--report", str(path), "--only", "T-net-tenant"]) == 0
    path.write_text(json.dumps(report(("T-net-tenant", ["up", "down"], "failed"))))
    assert main(["--report", str(path), "--only", "T-net-tenant"]) == 1
    assert "because" in capsys.readouterr().out


def test_an_unknown_line_is_wrong_usage() -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--only", "T-nonsense"])
    assert ended.value.code == 2


def test_both_forms_say_the_same() -> None:
    lines = matrix(report(("T-net-tenant", ["up"], "passed"), ("T-detach", ["up", "down"], "failed")))
    counts = summary(lines)
    assert counts["escapes"] == 2
    assert counts["held"] == 1
    assert json.loads(as_json(lines))["summary"] == counts
    text = table(lines)
    assert text.splitlines()[-1].startswith(f"{len(ATTACKS)} attacks: 1 held, 2 escapes")
    assert all(attack.id in text for attack in ATTACKS)


def test_the_catalogue_is_whole() -> None:
    assert len(BY_ID) == len(ATTACKS)
    for attack in ATTACKS:
        assert bool(attack.why_not) == (attack.states == ()), attack.id
        assert set(attack.states) <= set(BOTH)
        assert re.fullmatch(r"(T|MTB)-[A-Za-z0-9-]+", attack.id)


def test_every_line_has_a_test_that_names_it() -> None:
    """A quick look at the sources; the runner itself fails for a line that was not tried."""
    own = (TESTS / "isolation", TESTS / "unit/isolation")
    sources = [path for path in TESTS.rglob("*.py") if not any(place in path.parents for place in own)]
    named = {
        name
        for path in sources
        if path.name != "isolation.py"
        for name in re.findall(r"\"((?:T|MTB)-[A-Za-z0-9-]+)", path.read_text(encoding="utf-8"))
    }
    assert {attack.id for attack in ATTACKS if not attack.why_not} - named == set()
