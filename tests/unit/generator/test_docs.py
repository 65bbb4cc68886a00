"""The guide names everything that authors may write, and nothing else."""

import re
from pathlib import Path

from unjucks_api.variable_schema import FORMATS
from unjucks_runtime.cli.app import app
from unjucks_runtime.cli.output import Exit
from unjucks_runtime.generator.actionfile import ACTION_KEYS, ENGINE_KEYS
from unjucks_runtime.generator.frontmatter import KEYS

DOCS = Path(__file__).parents[3] / "docs"


def words_of_table(text: str, heading: str) -> set[str]:
    """The words in code style in the first column of the table below a heading."""
    section = text.split(heading, 1)[1].split("\n## ")[0]
    return {
        word for row in re.findall(r"^\| (.*?) \|", section, re.MULTILINE) for word in re.findall(r"`([^`]+)`", row)
    }


def test_frontmatter_keys() -> None:
    text = (DOCS / "templates.md").read_text()
    told = words_of_table(text, "## Frontmatter")
    assert told <= KEYS
    assert KEYS - told <= {"at_line", "unlessExists", "for_each"}  # other spellings


def test_keys_of_action_yaml_and_formats() -> None:
    text = (DOCS / "templates.md").read_text()
    told = words_of_table(text, "## More of action.yaml")
    assert told == set(ACTION_KEYS) - {"description", "variables"}
    assert " ".join(FORMATS) in text
    assert all(f"engine.{key}" in text or key == "dialect" for key in ENGINE_KEYS)


def test_commands_and_exit_codes() -> None:
    text = (DOCS / "cli.md").read_text()
    names = [command.name or "" for command in app.registered_commands if not command.hidden]
    assert names
    assert all(f"`unjucks {name}" in text for name in names)
    assert {int(code) for code in re.findall(r"^\| (\d+) \|", text, re.MULTILINE)} == set(Exit)
