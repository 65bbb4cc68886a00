"""The generated reference pages are those that the code would generate now."""

from pathlib import Path

import pytest

from unjucks_operator import config
from unjucks_operator.reference import pages

FOLDER = Path(__file__).resolve().parents[3] / "docs" / "reference"


@pytest.mark.parametrize("name", sorted(pages()))
def test_the_page_is_up_to_date(name: str) -> None:
    assert (FOLDER / name).read_text(encoding="utf-8") == pages()[name], (
        "run: python -m unjucks_operator.reference docs/reference"
    )


def test_each_setting_is_on_the_page_with_its_default() -> None:
    page = pages()["configuration.md"]

    def paths(values: dict[str, object], prefix: str = "") -> list[str]:
        found: list[str] = []
        for key, value in values.items():
            nested = isinstance(value, dict) and key not in ("podLabels", "requests", "limits")
            nested = nested or (key == "limits" and prefix.startswith("tiers."))
            found += paths(value, f"{prefix}{key}.") if nested and isinstance(value, dict) else [f"{prefix}{key}"]
        return found

    missing = [path for path in paths(config.dump(config.Config())) if f"| `{path}` |" not in page]
    assert missing == []
    assert "| `tiers.enterprise.concurrentJobs` | `50` |" in page
    assert "| `tiers.starter.concurrentJobs` | `1` |" in page
