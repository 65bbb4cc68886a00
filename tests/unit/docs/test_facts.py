"""Numbers and lists that documents repeat from the code are those of the code."""

import re
from pathlib import Path

from unjucks_api.conditions import ConditionType
from unjucks_operator.config import Config
from unjucks_operator.tenant.status import PARTS

DOCS = Path(__file__).resolve().parents[3] / "docs"


def rows(page: str, heading: str) -> dict[str, list[str]]:
    """First cell → the others, of the first table after ``heading``."""
    text = (DOCS / page).read_text(encoding="utf-8").split(heading, 1)[1]
    table = re.search(r"^\|.*\n\| *---.*\n((?:\|.*\n)+)", text, re.MULTILINE)
    assert table is not None
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in table[1].splitlines()]
    return {first: rest for first, *rest in cells}


def test_the_table_of_tiers() -> None:
    tiers = [tier for _, tier in Config().tiers.items()]
    assert rows("concepts.md", "The defaults:") == {
        "namespaces": [str(tier.namespaces) for tier in tiers],
        "renderers": [f"{tier.renderers.min}–{tier.renderers.max}" for tier in tiers],
        "jobs at one time": [str(tier.concurrent_jobs) for tier in tiers],
        "CPU, memory of all pods": [f"{tier.quota.cpu}, {tier.quota.memory}" for tier in tiers],
    }


def test_defaults_that_are_spelled_out() -> None:
    config = Config()
    for page, phrase, holds in (
        ("tenants.md", "they stay for five minutes (`renderer.idleAfter`", config.renderer.idle_after == 300),
        ("operations.md", "at that moment get five seconds to end", config.workers.shutdown_grace == 5),
        ("registries-and-jobs.md", "at most what the platform allows (10m)", config.jobs.max_wall_seconds == 600),
        ("registries-and-jobs.md", "on another one, three times", config.jobs.retries == 3),
        ("architecture.md", "Every ten hours (± 20 %)", config.sweep.resync == 36000),
        ("architecture.md", "Once a minute a **sweep**", config.sweep.interval == 60),
    ):
        assert phrase in " ".join((DOCS / page).read_text(encoding="utf-8").split()), phrase
        assert holds, phrase


def test_every_part_of_a_tenants_readiness_is_explained() -> None:
    explained = {name for cell in rows("tenants.md", "## Conditions") for name in re.findall(r"`(\w+)`", cell)}
    assert {str(part) for part in PARTS} <= explained
    assert explained <= {str(kind) for kind in ConditionType}


def test_every_condition_of_registries_is_explained() -> None:
    explained = {
        name
        for cell in rows("registries-and-jobs.md", "**When a template is wrong**")
        for name in re.findall(r"`(\w+)`", cell)
    }
    assert explained >= {"Ready", "ArtifactInStorage", "TemplatesInvalid", "FetchFailed", "Suspended"}
    assert explained <= {str(kind) for kind in ConditionType}
