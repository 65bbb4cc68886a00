"""What documents name exists: links and their anchors, paths in the repository, commands of make, metrics, examples."""

import re
import subprocess
from pathlib import Path

import pytest
import yaml

from unjucks_api.v1alpha1 import KINDS

ROOT = Path(__file__).resolve().parents[3]
_PATTERNS = ("*.md", "docs/**/*.md", "charts/**/*.md", "examples/**/README.md", "tests/**/README.md")
PAGES = sorted(path for pattern in _PATTERNS for path in ROOT.glob(pattern) if "_templates" not in path.parts)
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
TARGETS = set(re.findall(r"^([a-z][a-z0-9-]*):", MAKEFILE, re.MULTILINE))
FOLDERS = {path.name for path in ROOT.iterdir() if path.is_dir() and not path.name.startswith(".")}
GENERATED = {"dist", "build", "out"}  # folders that commands make

_LINK = re.compile(r"(?<!\!)\[[^\]]*\]\(([^)\s]+)\)")
_FENCE = re.compile(r"^ *```([a-z]*)\n(.*?)^ *```", re.MULTILINE | re.DOTALL)


def label(path: Path) -> str:
    return str(path.relative_to(ROOT))


def anchors(text: str) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    found: set[str] = set()
    for heading in re.findall(r"^#+ (.+)$", _FENCE.sub("", text), re.MULTILINE):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "").strip().lower()
        slug = re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")
        number = sum(
            item == slug or (item.startswith(f"{slug}-") and item[len(slug) + 1 :].isdigit()) for item in found
        )
        found.add(f"{slug}-{number}" if slug in found else slug)
    return found


def broken_links(page: Path) -> list[str]:
    text = page.read_text(encoding="utf-8")
    broken = []
    for target in _LINK.findall(_FENCE.sub("", text)):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        goal = (page.parent / name).resolve() if name else page
        if not goal.exists() or (
            anchor and goal.suffix == ".md" and anchor not in anchors(goal.read_text(encoding="utf-8"))
        ):
            broken.append(target)
    return broken


def missing_paths(text: str) -> list[str]:
    """Paths in code spans and commands that start with a folder of the repository and lead nowhere."""
    missing = []
    for span in [*re.findall(r"`([^`\n]+)`", _FENCE.sub("", text)), *(body for _, body in _FENCE.findall(text))]:
        for path in re.findall(r"(?<![\w/.~$-])((?:[\w.-]+/)+[\w.*-]*)", span):
            first = path.split("/")[0]
            if first in FOLDERS - GENERATED and not list(ROOT.glob(path.rstrip("/."))):
                missing.append(path)
    return missing


@pytest.mark.parametrize("page", PAGES, ids=label)
def test_links_lead_somewhere(page: Path) -> None:
    assert broken_links(page) == []


@pytest.mark.parametrize("page", PAGES, ids=label)
def test_paths_exist(page: Path) -> None:
    assert missing_paths(page.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("page", PAGES, ids=label)
def test_commands_of_make_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    code = [
        *re.findall(r"`([^`\n]+)`", text),
        *(line for _, body in _FENCE.findall(text) for line in body.splitlines()),
    ]
    called = re.compile(r"(?:^|\$\(|&&) *make (?:-[a-zA-Z-]+ )*([a-z][a-z0-9-]*)")
    named = {target for line in code for target in called.findall(line.removeprefix("$ "))}
    assert named <= TARGETS


def test_the_programs_that_make_calls_exist() -> None:
    named = set(re.findall(r"(tests/[\w/]+\.py)", MAKEFILE))
    assert {"tests/support/stage.py"} <= named
    assert [path for path in sorted(named) if not (ROOT / path).exists()] == []


def test_make_help_names_every_command() -> None:
    shown = subprocess.run(["make", "--silent", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert {line.split()[0] for line in shown.splitlines() if line.startswith("  ")} == TARGETS


def test_the_checks_notice_what_is_wrong(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# A b\n\n[x](page.md#a-b) [y](page.md#a-c) [z](other.md) [w](#a-b)\n", encoding="utf-8")
    assert broken_links(page) == ["page.md#a-c", "other.md"]
    assert missing_paths("`docs/none.md`, `docs/adr/`, `elsewhere/x.py`, see `tests/unit/docs/test_links.py`") == [
        "docs/none.md"
    ]


@pytest.mark.parametrize("page", PAGES, ids=label)
def test_metrics_exist(page: Path) -> None:
    known = "".join((ROOT / f"docs/reference/{it}.md").read_text(encoding="utf-8") for it in ("metrics", "webhooks"))
    text = page.read_text(encoding="utf-8")
    named = set(re.findall(r"`[^`\n]*?\b((?:unjucks|workqueue)_[a-z_]+_(?:total|seconds|depth|leader))\b", text))
    assert {name for name in named if f"`{name}`" not in known} == set()


@pytest.mark.parametrize("page", PAGES, ids=label)
def test_whole_objects_in_examples_are_valid(page: Path) -> None:
    kinds = {kind.definition.kind: kind for kind in KINDS}
    for language, body in _FENCE.findall(page.read_text(encoding="utf-8")):
        if language == "sh":
            body = "\n---\n".join(re.findall(r"<<'END'.*?\n(.*?)^END$", body, re.MULTILINE | re.DOTALL))
        elif language != "yaml":
            continue
        if "apiVersion: unjucks.io/" not in body or "…" in body:
            continue
        for item in yaml.safe_load_all(body):
            item["metadata"] |= {"uid": "00000000-0000-4000-8000-000000000000", "resourceVersion": "1", "generation": 1}
            kinds[item["kind"]].parse(item)


def test_decisions_are_numbered_and_listed() -> None:
    folder = ROOT / "docs/adr"
    pages = sorted(path.name for path in folder.glob("[0-9]*.md"))
    assert [name[:4] for name in pages] == [f"{number:04}" for number in range(1, len(pages) + 1)]
    listed = re.findall(r"\]\((\d{4}-[a-z0-9-]+\.md)\)", (folder / "README.md").read_text(encoding="utf-8"))
    assert listed == pages
