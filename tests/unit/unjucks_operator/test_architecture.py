"""Rules about who imports what, beyond those that import-linter checks."""

import ast
import re
from pathlib import Path

import pytest

import unjucks_operator

ROOT = Path(unjucks_operator.__file__).parent


def imports(path: Path) -> set[str]:
    """The top-level packages that a module imports, also inside of functions."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.split(".")[0])
    return found


@pytest.mark.parametrize(
    ("package", "places"),
    [
        ("kopf", ["engine/kopf_glue.py"]),
        ("kubernetes", ["kube/"]),
        ("asyncpg", ["database/"]),
        ("prometheus_client", ["engine/metrics.py", "engine/health.py"]),
    ],
)
def test_a_package_has_one_home(package: str, places: list[str]) -> None:
    """Whoever wants to replace it finds everything in one place."""
    users = [str(path.relative_to(ROOT)) for path in ROOT.rglob("*.py") if package in imports(path)]
    assert users, f"nobody imports {package}; this rule is out of date"
    assert [user for user in users if not user.startswith(tuple(places))] == []


def test_the_engine_has_no_word_of_the_domain() -> None:
    domain = re.compile(r"tenant|renderer|nunjucks|generation ?job|template ?registr", re.IGNORECASE)
    found = [
        f"{path.name}:{number}: {line.strip()}"
        for path in (ROOT / "engine").glob("*.py")
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
        if domain.search(line)
    ]
    assert found == []


@pytest.mark.isolation("T-no-shell")
def test_nothing_of_the_operator_shells_out_or_fetches_urls() -> None:
    forbidden = {"subprocess", "requests", "httpx", "urllib3", "jinja2"}
    found = {str(path.relative_to(ROOT)): sorted(forbidden & imports(path)) for path in ROOT.rglob("*.py")}
    assert {path: names for path, names in found.items() if names} == {}
