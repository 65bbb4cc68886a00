"""How the command line speaks: colours and tables on a terminal, JSON in pipes, errors with place and source excerpt, exit codes.

Exit codes: 0 done · 1 something was found (differences, problems, failed tests, things to migrate) · 2 wrong usage · 3 no such set,
action or file · 4 variables missing or invalid · 5 the generation failed · 6 files in conflict, nothing written ·
7 the cluster refused or is not reached · 8 a job has not ended in time (7 and 8: ``kubectl unjucks`` only) · 130 interrupted.
Texts of templates and variables are never read as markup. Called by every command.
"""

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from enum import IntEnum, StrEnum
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table
from rich.text import Text

from unjucks_api.reasons import Reason
from unjucks_runtime.generator.errors import GenerationError, VariablesError
from unjucks_runtime.generator.model import Tree


class Exit(IntEnum):
    """The exit codes of every command."""

    OK = 0
    FOUND = 1
    USAGE = 2
    NOT_FOUND = 3
    VARIABLES = 4
    FAILED = 5
    CONFLICT = 6
    REFUSED = 7
    TIMEOUT = 8
    INTERRUPTED = 130


class Format(StrEnum):
    """What ``--output`` takes."""

    TEXT = "text"
    JSON = "json"


_EXITS = {
    Reason.VARIABLES_INVALID: Exit.VARIABLES,
    Reason.VARIABLES_MISSING: Exit.VARIABLES,
    Reason.TEMPLATE_NOT_FOUND: Exit.NOT_FOUND,
    Reason.NO_TEMPLATES: Exit.NOT_FOUND,
    Reason.PATH_NOT_FOUND: Exit.NOT_FOUND,
    Reason.SOURCE_NOT_FOUND: Exit.NOT_FOUND,
    Reason.CONFLICT: Exit.CONFLICT,
}
STATUS_STYLES = {
    "created": "green",
    "updated": "yellow",
    "unchanged": "dim",
    "skipped": "dim",
    "conflicted": "bold red",
    "removed": "red",
}


class Failure(Exception):
    """Ends the command with a code; what there is to say has been said."""

    def __init__(self, code: Exit) -> None:
        super().__init__(code)
        self.code = code


class Out:
    """Where results and messages go. ``machine``: results are JSON on standard output, and nothing else is."""

    def __init__(self, wanted: Format | None, *, text_in_pipes: bool = False) -> None:
        terminal = sys.stdout.isatty()
        self.machine = wanted is Format.JSON or (wanted is None and not terminal and not text_in_pipes)
        self.console = Console(markup=False, highlight=False, soft_wrap=True)
        self.errors = Console(stderr=True, markup=False, highlight=False, soft_wrap=True)

    def json(self, value: Any) -> None:
        """Prints a JSON document."""
        sys.stdout.write(json.dumps(value, ensure_ascii=False, indent=2, default=str) + "\n")

    def line(self, text: str = "", style: str = "") -> None:
        """Prints a line for people; nothing in machine mode."""
        if not self.machine:
            self.console.print(Text(text, style=style))

    def raw(self, text: str) -> None:
        """Writes text as it is to standard output."""
        sys.stdout.write(text)
        sys.stdout.flush()

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[str] | Sequence[str | Text]]) -> None:
        """Prints a table; columns keep to the terminal's width."""
        table = Table(box=None, header_style="bold", pad_edge=False)
        for index, column in enumerate(columns):
            table.add_column(column, overflow="fold", no_wrap=index == 0)
        for row in rows:
            table.add_row(*(cell if isinstance(cell, Text) else Text(cell) for cell in row))
        # soft_wrap would undo the table's own folding
        self.console.print(table, soft_wrap=False)

    def note(self, text: str, style: str = "") -> None:
        """Prints a line to standard error."""
        self.errors.print(Text(text, style=style))

    def warn(self, text: str) -> None:
        """Prints a warning to standard error."""
        self.errors.print(Text.assemble(("warning: ", "bold yellow"), text))

    def diff(self, text: str) -> None:
        """Prints a unified diff: coloured on a terminal, exact bytes elsewhere."""
        if not sys.stdout.isatty():
            return self.raw(text)
        for line in text.splitlines():
            bold = line.startswith(("+++", "---", "diff ", "new file", "deleted file", "old mode", "new mode"))
            style = {"+": "green", "-": "red", "@": "cyan"}.get(line[:1], "")
            self.console.print(Text(line, style="bold" if bold else style))
        return None

    @contextmanager
    def progress(self, title: str, total: int) -> Iterator[Any]:
        """A progress bar on standard error for work of ``total`` steps; silent when that is no terminal. Yields ``advance``."""
        if not self.errors.is_terminal or total < 5:
            yield lambda: None
            return
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
        with Progress(*columns, console=self.errors, transient=True) as bar:
            task = bar.add_task(title, total=total)
            yield lambda: bar.advance(task)

    def fail(self, error: GenerationError, files: Tree | None = None) -> Failure:
        """Reports an error with its place and source line; returns what to raise."""
        code = _EXITS.get(error.reason, Exit.FAILED)
        if self.machine:
            place = error.place
            value: dict[str, Any] = {"reason": error.reason.value, "message": error.message}
            value |= {"path": place.path, "line": place.line, "column": place.column}
            if error.limit:
                value["limit"] = error.limit
            if isinstance(error, VariablesError):
                value["problems"] = [
                    {"path": item.path, "kind": item.kind.value, "message": item.message} for item in error.problems
                ]
            self.json({"ok": False, "error": value})
        if not self.machine or self.errors.is_terminal:
            self._explain(error, files)
        return Failure(code)

    def _explain(self, error: GenerationError, files: Tree | None) -> None:
        where = f"{error.place}: " if error.place.path else ""
        if isinstance(error, VariablesError):
            self.errors.print(Text.assemble(("error: ", "bold red"), "the variables do not fit"))
            for item in error.problems:
                label = item.path or "variables"
                self.errors.print(Text.assemble("  ", (label, "bold"), f": {item.message}"))
            return
        self.errors.print(Text.assemble(("error: ", "bold red"), (where, "bold"), error.message))
        for line in excerpt(files or {}, error.place.path, error.place.line, error.place.column):
            self.errors.print(Text(line, style="dim" if not line.lstrip().startswith("^") else "bold red"))


def excerpt(files: Tree, path: str, line: int, column: int) -> list[str]:
    """The source line of a place with a caret below the column, or nothing when it is not known."""
    item = files.get(path)
    if item is None or not line:
        return []
    lines = item[0].decode("utf-8", "replace").splitlines()
    if line > len(lines):
        return []
    source = lines[line - 1].replace("\t", " ")
    start = max(0, column - 60)
    shown = source[start : start + 120]
    made = [f"{line:>6} | {shown}"]
    if column:
        made.append(" " * 6 + "   " + " " * (column - 1 - start) + "^")
    return made
