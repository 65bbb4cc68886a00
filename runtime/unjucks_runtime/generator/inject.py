"""Changes inside existing texts: before, after, append, prepend, lineAt, marker blocks, JSON merge. Pure functions on texts.

The rules: the anchor is the first line that contains the literal text, or that matches ``/expression/`` (linear time); a body
whose lines
stand in the target as a run of whole lines (blanks at line ends ignored) is present, and the target stays as it is; a marker wraps
the body in two comment lines, so that a later run replaces or removes it; line ends follow the target's majority; byte order
mark, shebang and final newline stay. Called by ``generate``.
"""

import json
import re
from typing import Any, Final

import re2

from unjucks_api.reasons import Reason
from unjucks_runtime.generator.errors import GenerationError

_MAX_EXPRESSION: Final = 1000
_BOM: Final = "\ufeff"
# How a comment line is written, by the end of the file's name.
_COMMENTS: Final[dict[tuple[str, ...], tuple[str, str]]] = {
    (".js", ".jsx", ".mjs", ".cjs", ".ts", ".tsx", ".mts", ".cts", ".go", ".java", ".kt", ".kts", ".swift", ".rs", ".c", ".h",
     ".cc", ".cpp", ".hpp", ".cs", ".scala", ".php", ".proto", ".dart", ".groovy", ".scss", ".less", ".jsonc", ".json5",
     ".zig"): ("// ", ""),
    (".py", ".pyi", ".rb", ".sh", ".bash", ".zsh", ".yaml", ".yml", ".toml", ".tf", ".tfvars", ".hcl", ".pl", ".r", ".ini",
     ".cfg", ".conf", ".properties", ".env", ".mk", ".cmake", ".graphql", ".gitignore", ".dockerignore", ".gitattributes",
     ".editorconfig", "dockerfile", "makefile", "codeowners", "jenkinsfile", ".ex", ".exs", ".jl", ".nix", ".ps1", ".txt",
     ".in"): ("# ", ""),
    (".html", ".htm", ".xml", ".svg", ".md", ".markdown", ".vue", ".svelte", ".xhtml", ".csproj", ".plist"): ("<!-- ", " -->"),
    (".css",): ("/* ", " */"),
    (".sql", ".lua", ".hs", ".elm"): ("-- ", ""),
    (".tpl", ".njk"): ("{{/* ", " */}}"),
    (".tex", ".erl"): ("% ", ""),
    (".lisp", ".clj", ".el", ".scm"): (";; ", ""),
}  # fmt: skip


class Refusal(GenerationError):
    """A change that cannot be made in this target; ``generate`` adds the place."""


def refuse(reason: Reason, message: str) -> Refusal:
    """The error of a change that cannot be made."""
    return Refusal(reason, message)


class Text:
    """A target taken apart: byte order mark, lines without ends, the line end, and whether the last line has one."""

    def __init__(self, text: str) -> None:
        self.bom = _BOM if text.startswith(_BOM) else ""
        text = text.removeprefix(_BOM)
        crlf = text.count("\r\n")
        self.end = "\r\n" if crlf * 2 > text.count("\n") else "\n"
        # Lines keep a foreign line end (part of the text), so that untouched lines stay as they are, byte for byte.
        self.lines = text.split("\n") if text else []
        self.final = bool(self.lines) and self.lines[-1] == ""
        if self.final:
            self.lines.pop()

    def joined(self) -> str:
        """The text again."""
        return self.bom + "\n".join(self.lines) + ("\n" if self.final and self.lines else "")

    def adopt(self, lines: list[str]) -> list[str]:
        """New lines with this target's line end (the ``\\n`` itself is added when joining)."""
        return [line + "\r" if self.end == "\r\n" else line for line in lines]

    def insert(self, index: int, lines: list[str]) -> None:
        """Puts lines before the line at ``index``."""
        own = self.adopt(lines)
        if index == len(self.lines) and not self.final and self.lines:
            # The last line had no end: it gets one; the new last line has none, as the target had none.
            if self.end == "\r\n":
                self.lines[-1] += "\r"
            if own[-1].strip():
                own[-1] = own[-1].removesuffix("\r")
            else:
                self.final = True  # an empty last line is only there when it ends
        elif not self.lines:
            self.final = True
        self.lines[index:index] = own


def body_lines(body: str) -> list[str]:
    """The lines of a rendered body: line ends normalised, the one final newline is not a line."""
    text = body.removeprefix(_BOM).replace("\r\n", "\n")
    return text.removesuffix("\n").split("\n") if text else []


def find_run(lines: list[str], wanted: list[str]) -> int | None:
    """Where ``wanted`` stands as a run of whole lines (blanks at the ends of lines ignored), or None. Linear time."""
    if not wanted:
        return None
    needle = [line.rstrip() for line in wanted]
    fail = [0] * len(needle)  # Knuth-Morris-Pratt: hostile repetitions must not become quadratic
    length = 0
    for index in range(1, len(needle)):
        while length and needle[index] != needle[length]:
            length = fail[length - 1]
        if needle[index] == needle[length]:
            length += 1
        fail[index] = length
    length = 0
    for index, line in enumerate(lines):
        text = line.rstrip()
        while length and text != needle[length]:
            length = fail[length - 1]
        if text == needle[length]:
            length += 1
        if length == len(needle):
            return index - length + 1
    return None


def compile_matcher(text: str, what: str) -> Any:
    """A function line -> bool for literal text or ``/expression/``; linear time."""
    if len(text) > 2 and text.startswith("/") and text.endswith("/"):
        source = text[1:-1].replace("\\/", "/")
        if len(source) > _MAX_EXPRESSION:
            raise refuse(Reason.LIMIT_EXCEEDED, f"the expression of {what} is longer than {_MAX_EXPRESSION} characters")
        options = re2.Options()
        options.max_mem = 8 << 20
        options.log_errors = False
        try:
            expression = re2.compile(source, options)
        except re2.error as error:
            cause = error.args[0] if error.args else "syntax error"
            cause = cause.decode("utf-8", "replace") if isinstance(cause, bytes) else cause
            raise refuse(Reason.TEMPLATE_ERROR, f"{what} is no valid expression: {cause}") from None
        return lambda line: expression.search(line.rstrip("\r")) is not None
    return lambda line: text in line


def contains(target: str, text: str, what: str) -> bool:
    """Whether the target contains the text, or a line of it matches ``/expression/`` (``skip_if``)."""
    if len(text) > 2 and text.startswith("/") and text.endswith("/"):
        matcher = compile_matcher(text, what)
        return any(matcher(line) for line in target.split("\n"))
    return text.replace("\r\n", "\n") in target.replace("\r\n", "\n")


def find_anchor(lines: list[str], text: str, what: str, occurrence: int) -> int:
    """The line of the anchor; raises AnchorNotFound."""
    matcher = compile_matcher(text, what)
    found = [index for index, line in enumerate(lines) if matcher(line)]
    if not found:
        raise refuse(
            Reason.ANCHOR_NOT_FOUND,
            f"no line of the target {'matches' if text[:1] == '/' == text[-1:] else 'contains'} {_short(text)}, the text of {what}",
        )
    if occurrence > len(found):
        raise refuse(
            Reason.ANCHOR_NOT_FOUND,
            f"{what} {_short(text)} stands on {len(found)} lines of the target, there is no occurrence {occurrence}",
        )
    return found[-1] if occurrence == -1 else found[occurrence - 1]


def _short(text: str) -> str:
    return repr(text if len(text) <= 80 else text[:79] + "…")


def insert(
    target: str,
    body: str,
    anchor: str,
    value: str | int,
    *,
    occurrence: int = 1,
    marker: str = "",
    comment: str = "",
    path: str = "",
) -> str:
    """``target`` with ``body`` put in; the same text when it is present already. Raises Refusal."""
    text = Text(target)
    lines = body_lines(body)
    if marker:
        start, end = marker_lines(marker, comment, path)
        block = _find_block(text.lines, start, end, marker)
        if block is not None:
            return _replace_block(text, block, lines)
        if not lines:
            return target
        indent = re.match(r"[ \t]*", lines[0])
        prefix = indent.group(0) if indent else ""
        lines = [prefix + start, *lines, prefix + end]
    elif not lines or find_run(text.lines, lines) is not None:
        return target
    text.insert(_index(text.lines, anchor, value, occurrence), lines)
    return text.joined()


def _index(lines: list[str], anchor: str, value: str | int, occurrence: int) -> int:
    if anchor == "append":
        return len(lines)
    if anchor == "prepend":
        return 1 if lines and lines[0].startswith("#!") else 0
    if anchor == "lineAt":
        if not isinstance(value, int):
            if not re.fullmatch(r"[1-9][0-9]{0,8}", value.strip()):
                raise refuse(Reason.TEMPLATE_ERROR, f"lineAt must be a line number from 1, got {_short(value)}")
            value = int(value)
        if value > len(lines) + 1:
            raise refuse(Reason.ANCHOR_NOT_FOUND, f"lineAt {value} is past the end: the target has {len(lines)} lines")
        return value - 1
    found = find_anchor(lines, str(value), anchor, occurrence)
    return found if anchor == "before" else found + 1


def marker_lines(marker: str, comment: str, path: str) -> tuple[str, str]:
    """The two comment lines around a marked block, in the comment style of the target's name or of ``comment``."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._:/@-]{0,99}", marker):
        raise refuse(Reason.TEMPLATE_ERROR, f"marker {_short(marker)} must be letters, digits and . _ : / @ - only")
    left, right = _comment(comment, path)
    return f"{left}unjucks:begin {marker}{right}", f"{left}unjucks:end {marker}{right}"


def _comment(comment: str, path: str) -> tuple[str, str]:
    if comment:
        left, _, right = comment.partition(" ")
        return left + " ", f" {right.strip()}" if right.strip() else ""
    name = path.rpartition("/")[2].lower()
    for ends, pair in _COMMENTS.items():
        if name.endswith(ends) or name.partition(".")[0] in ends:
            return pair
    raise refuse(
        Reason.TEMPLATE_ERROR, f'it is not known how comments look in {path!r}; say it, for example comment: "#"'
    )


def _find_block(lines: list[str], start: str, end: str, marker: str) -> tuple[int, int] | None:
    starts = [index for index, line in enumerate(lines) if line.strip() == start.strip()]
    ends = [index for index, line in enumerate(lines) if line.strip() == end.strip()]
    if not starts and not ends:
        return None
    if len(starts) != 1 or len(ends) != 1 or ends[0] < starts[0]:
        raise refuse(
            Reason.ANCHOR_NOT_FOUND,
            f"the block of marker {marker!r} is damaged: {len(starts)} begin and {len(ends)} end lines; repair the target",
        )
    return starts[0], ends[0]


def _replace_block(text: Text, block: tuple[int, int], lines: list[str]) -> str:
    start, end = block
    inside = [line.rstrip() for line in text.lines[start + 1 : end]]
    if inside == [line.rstrip() for line in lines] and lines:
        return text.joined()
    if lines:
        text.lines[start + 1 : end] = text.adopt(lines)
    else:
        del text.lines[start : end + 1]
    return text.joined()


# --- JSON ------------------------------------------------------------------------------------------------------------------
def merge_json(target: str, body: str, *, force: bool) -> str:
    """``target`` with the JSON of ``body`` merged in: objects by key, new list items at the end, other values must be equal.

    The target's text is kept as it is when nothing changes; otherwise it is written again with its own indentation.
    """
    have = _json(target.removeprefix(_BOM) or "{}", "the target")
    want = _json(body, "the rendered body")
    merged = _merge(have, want, "", force)
    if merged == have and type(merged) is type(have) and target.strip():
        return target
    indent = re.search(r"\n([ \t]+)\S", target)
    own = indent.group(1) if indent else "  "
    end = "\r\n" if target.count("\r\n") * 2 > target.count("\n") else "\n"
    text = json.dumps(merged, ensure_ascii=False, indent=own)
    final = end if target.endswith("\n") or not target.strip() else ""
    return (_BOM if target.startswith(_BOM) else "") + text.replace("\n", end) + final


def _json(text: str, what: str) -> Any:
    try:
        return json.loads(text, object_pairs_hook=_unique, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise refuse(Reason.TEMPLATE_ERROR, f"{what} is not plain JSON: {str(error)[:120]}") from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise ValueError("an object holds the same key twice")
    return made


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _merge(have: Any, want: Any, where: str, force: bool) -> Any:
    if isinstance(have, dict) and isinstance(want, dict):
        made = dict(have)
        for key, item in want.items():
            made[key] = _merge(have[key], item, f"{where}.{key}" if where else key, force) if key in have else item
        return made
    if isinstance(have, list) and isinstance(want, list):
        seen = {json.dumps(item, sort_keys=True) for item in have}
        return have + [item for item in want if json.dumps(item, sort_keys=True) not in seen]
    if json.dumps(have, sort_keys=True) == json.dumps(want, sort_keys=True):
        return have
    if force:
        return want
    raise refuse(
        Reason.CONFLICT,
        f"{where or 'the whole document'} has another value in the target; force: true would replace it",
    )
