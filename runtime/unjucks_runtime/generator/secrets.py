"""Which files a secret may have reached. Conservative: what cannot be ruled out counts as reached. Pure; called by ``generate``."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from unjucks_api.variables import is_sensitive
from unjucks_runtime.generator.inspection import reads
from unjucks_runtime.generator.model import Action, TemplateFile, TemplateSet

_MIN_LITERAL: Final = 4  # shorter secrets are found in any text


class Taint:
    """The sensitive variables of one run: those the schema marks and those that came from Secrets."""

    def __init__(
        self, template_set: TemplateSet, action: Action, variables: Mapping[str, Any], sensitive: tuple[str, ...]
    ) -> None:
        self.set = template_set
        self.roots = {name.split(".")[0].split("[")[0] for name in sensitive}
        self.roots |= {path[0] for path in _marked(action.schema, variables, ()) if isinstance(path[0], str)}
        self.literals: set[bytes] = set()
        for name in self.roots:
            self.literals.update(_texts(variables.get(name)))
        self.cache: dict[str, bool] = {}

    def hide(self, text: str) -> str:
        """The text with the secrets that stand in it literally taken out: for names, messages and errors."""
        for literal in sorted(self.literals, key=lambda item: (-len(item), item)):  # the longer one first, always
            text = text.replace(literal.decode("utf-8", "replace"), "***")
        return text

    def touches(self, file: TemplateFile, context: Mapping[str, Any], content: bytes) -> bool:
        """Whether the file made by this template must be treated as a secret."""
        if not self.roots:
            return False
        if any(literal in content for literal in self.literals):
            return True
        if file.body is None and not file.front.source:
            return False
        if file.engine_name not in self.cache:
            names = reads(self.set.sources, file.engine_name) if not file.front.source else None
            each = file.front.for_each
            # An item of forEach carries what the list carries; a name that is not known statically counts as reached.
            self.cache[file.engine_name] = (
                names is None
                or bool(self.roots & names)
                or (each is not None and any(root in each.within for root in self.roots))
            )
        return self.cache[file.engine_name]


def _marked(schema: Mapping[str, Any], value: Any, path: tuple[str | int, ...]) -> Iterator[tuple[str | int, ...]]:
    if path and is_sensitive(schema, path):
        yield path
        return
    if len(path) > 20:
        return
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _marked(schema, item, (*path, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _marked(schema, item, (*path, index))


def _texts(value: Any) -> Iterator[bytes]:
    stack = [value]
    while stack:
        item = stack.pop()
        if isinstance(item, str) and len(item) >= _MIN_LITERAL:
            yield item.encode()
        elif isinstance(item, dict):
            stack.extend(item.values())
        elif isinstance(item, list):
            stack.extend(item)
