"""Reference pages that are generated from the operator's code: metrics, and the configuration with the command line.

    python -m unjucks_operator.reference docs/reference        write them
    python -m unjucks_operator.reference --check docs/reference   exit code 1 when one is out of date

Pure but for ``main``. A test fails when the pages differ from the code.
"""

import argparse
import re
import sys
from pathlib import Path
from typing import Any

from unjucks_operator import config as configuration
from unjucks_operator.__main__ import EXIT_CODES
from unjucks_operator.config import ENVIRONMENT, Config
from unjucks_operator.engine import metrics


def pages() -> dict[str, str]:
    """File name → text of each page."""
    return {
        "metrics.md": metrics.reference([("Engine", metrics.ENGINE)]),
        "configuration.md": configuration_page(),
    }


def configuration_page() -> str:
    """``docs/reference/configuration.md``."""
    schema = configuration.json_schema()
    lines = [
        "# Configuration of the operator",
        "",
        "`unjucks-operator --config FILE` reads a YAML file with these settings; what the file leaves out keeps its default. The",
        "chart writes the file into a ConfigMap. `--check-config` lists every problem of a file, `--print-config` shows what is in",
        "effect. Durations are numbers of seconds or texts such as `90s`, `15m`, `720h`. This page is generated from the code.",
        "",
        "Any setting can also come from the environment, which wins over the file: the path in upper case, joined by two",
        "underscores, after `UNJUCKS_`. `UNJUCKS_RENDERER__IDLE_AFTER=5m` sets `renderer.idleAfter`. Some variables have names",
        "of their own:",
        "",
        "| variable | setting |",
        "| --- | --- |",
    ]
    lines += [f"| `{name}` | `{'.'.join(map(_camel, path))}` |" for name, path in ENVIRONMENT.items()]
    lines += _settings("", schema, schema["$defs"], configuration.dump(Config()))
    lines += ["", "## Exit codes", "", "| code | meaning |", "| --- | --- |"]
    lines += [f"| {code.value} | {text} |" for code, text in EXIT_CODES]
    return "\n".join(lines) + "\n"


def _settings(path: str, schema: dict[str, Any], known: dict[str, Any], values: dict[str, Any]) -> list[str]:
    """The group at ``path``: a table of its settings, then its groups."""
    rows, groups = [], []
    for name, field in schema["properties"].items():
        below = known.get(str(field.get("$ref", "")).rpartition("/")[2])
        text = " ".join(str(field.get("description", "")).split())
        full = f"{path}.{name}" if path else name
        if full.startswith("tiers."):  # the texts name the default of the smallest tier; the column has each one's own
            text = re.sub(r"\s*Default [^.]*\.(?=\s|$)", "", text)
        if below is None:
            rows.append(f"| `{full}` | {_value(values[name])} | {text} |")
        else:
            groups += _group(full, text, below, known, values[name])
    table = ["", "| setting | default | meaning |", "| --- | --- | --- |", *rows] if rows else []
    return [*table, *groups]


def _group(path: str, text: str, schema: dict[str, Any], known: dict[str, Any], values: dict[str, Any]) -> list[str]:
    depth = "#" * min(path.count(".") + 2, 4)
    return ["", f"{depth} {path}", "", text, *_settings(path, schema, known, values)]


def _value(value: Any) -> str:
    match value:
        case None | "" | [] | {}:
            return "none"
        case bool():
            return f"`{str(value).lower()}`"
        case float():
            return f"`{value:g}`" if value < 1e6 else f"`{value:.0f}`"
        case dict():
            return "`" + ", ".join(f"{key}: {item}" for key, item in value.items()) + "`"
        case _:
            return f"`{value}`"


def _camel(name: str) -> str:
    return re.sub(r"_([a-z])", lambda found: found[1].upper(), name)


def main() -> int:
    """Write or check the pages."""
    parser = argparse.ArgumentParser(
        description="Writes the reference pages that are generated from the operator's code."
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--check", action="store_true", help="write nothing; exit code 1 when a page is out of date")
    options = parser.parse_args()
    stale = []
    for name, text in pages().items():
        path: Path = options.folder / name
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            stale.append(str(path))
            if not options.check:
                path.write_text(text, encoding="utf-8")
    for path_name in stale:
        print(("out of date: " if options.check else "written: ") + path_name)
    return 1 if stale and options.check else 0


if __name__ == "__main__":
    sys.exit(main())
