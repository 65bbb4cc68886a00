"""Every reason has its page and every page its reason; what the pages name exists."""

import re
from pathlib import Path

import pytest

from unjucks_api.conditions import ConditionType
from unjucks_api.crdgen.crd import build_schema
from unjucks_api.markers import JsonSchema
from unjucks_api.reasons import Reason
from unjucks_api.v1alpha1 import KINDS

FOLDER = Path(__file__).resolve().parents[3] / "docs/runbooks"
PAGES = sorted(FOLDER.glob("*.md"))


def fields(schema: JsonSchema, path: str) -> set[str]:
    found = {path}
    for name, child in schema.get("properties", {}).items():
        inner = child.get("items", child)
        found |= fields(inner if isinstance(inner, dict) else child, f"{path}.{name}")
    return found


FIELDS = set().union(
    *(fields(build_schema(kind)["properties"][part], part) for kind in KINDS for part in ("spec", "status"))
)


def test_reasons_and_pages_are_the_same() -> None:
    assert {page.stem for page in PAGES} == {str(reason) for reason in Reason}


def test_reasons_are_one_closed_list_of_camel_case_words() -> None:
    assert all(re.fullmatch(r"[A-Z][A-Za-z]{2,63}", reason) for reason in Reason)
    assert all(reason.name == re.sub(r"(?<!^)(?=[A-Z])", "_", reason.value).upper() for reason in Reason)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_says_what_it_means_how_it_looks_and_what_to_do(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    head, looks, todo = re.split(r"\n## How it looks\n|\n## What to do\n", text)
    assert head.startswith(f"# {page.stem}\n\n")
    assert " · " in head.splitlines()[2]
    assert len(head.splitlines()) > 4
    assert looks.count("```") == 2
    assert re.search(r"^- \S", todo, re.MULTILINE)
    assert "TODO" not in text


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_and_fields_of_a_page_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)]+)\)", text):
        assert (page.parent / target.partition("#")[0]).is_file(), target
    for code in re.findall(r"`([^`\n]+)`", text):
        for named in re.findall(r"(?<![A-Za-z.])\.?((?:spec|status)(?:\.[a-z][A-Za-z]*)+)", code):
            assert named in FIELDS, f"{page.stem}: {named}"
    for kind in re.findall(r'@\.type=="([A-Za-z]+)"', text):
        assert kind in set(ConditionType)
