"""Numbers read off the names of existing files (action.yaml ``fromBase``): the next migration, the next decision record.

    fromBase:
      migration: {glob: "migrations/*.sql", number: '^(\\d+)', reuse: '_create_{{ table }}\\.sql$', width: 4}

The variable becomes the highest number found plus one, as text of ``width`` digits. When an existing file's name matches
``reuse``, its number is taken again, so that a second run makes the same files. Pure; called by ``generate``.
"""

from collections.abc import Mapping
from typing import Any

import re2

from unjucks_api.reasons import Reason
from unjucks_runtime.generator.errors import GenerationError, Place
from unjucks_runtime.generator.globs import matches
from unjucks_runtime.generator.model import Action, FromBase, Tree
from unjucks_runtime.generator.rendering import Renderer, Texts


class Numbers:
    """The ``fromBase`` entries of an action: registered first, read when the engine stands."""

    def __init__(self, action: Action, texts: Texts) -> None:
        path = f"{action.folder}/action.yaml"
        beside = f"{action.generator}/{action.action}/action.yaml"
        self.entries: list[tuple[FromBase, Place, str, str]] = []
        for entry in action.from_base:
            place = Place(path, entry.line)
            self.entries.append(
                (entry, place, texts.add(entry.glob, place, beside), texts.add(entry.reuse, place, beside))
            )

    def read(self, renderer: Renderer, variables: Mapping[str, Any], base: Tree) -> dict[str, str]:
        """The variables' values. Raises GenerationError for an expression that is not valid."""
        if not self.entries:
            return {}
        paths = sorted(base, key=str.encode)
        return {
            entry.variable: self._number(
                entry, place, renderer.render(glob, variables), renderer.render(reuse, variables), paths
            )
            for entry, place, glob, reuse in self.entries
        }

    @staticmethod
    def _number(entry: FromBase, place: Place, glob: str, reuse: str, paths: list[str]) -> str:
        number, again = _compile(entry.number, place), _compile(reuse, place) if reuse else None
        highest = 0
        for path in paths:
            if not matches(path, [glob]):
                continue
            name = path.rpartition("/")[2]
            found = number.search(name)
            if found is None:
                continue
            text = found.group(1) if found.re.groups else found.group(0)
            if not text or not text.isascii() or not text.isdigit() or len(text) > 20:
                continue
            if again is not None and again.search(name) is not None:
                return str(text)
            highest = max(highest, int(text))
        return str(highest + 1).zfill(entry.width)


def _compile(source: str, place: Place) -> Any:
    options = re2.Options()
    options.max_mem = 8 << 20
    options.log_errors = False
    try:
        return re2.compile(source, options)
    except re2.error:
        raise GenerationError(Reason.TEMPLATE_ERROR, f"{source[:80]!r} is no valid expression", place) from None
