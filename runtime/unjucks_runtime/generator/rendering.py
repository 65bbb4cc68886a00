"""The generator's only door to the engine: texts in, texts out, the engine's errors turned into ours with the file's own lines.

Besides whole templates, single texts (file names, frontmatter values) and expressions (``if``, ``forEach.in``) are rendered:
each is
a template of its own, registered before the engine starts, with the place where it stands. Called by ``generate`` and
``inspection``.
"""

import json
from collections.abc import Mapping
from typing import Any, Final

import unjucks_engine
from unjucks_api.reasons import Reason
from unjucks_runtime.generator.errors import GenerationError, Place
from unjucks_runtime.generator.options import Options

_TRUE: Final = "1"


class Texts:
    """Collects the texts of one run; ``add`` gives the name under which the engine knows it."""

    def __init__(self, sources: Mapping[str, str], offsets: Mapping[str, int], root: str) -> None:
        self.templates = dict(sources)
        self.root = root
        self.offsets = offsets
        self.places: dict[str, Place] = {}

    def add(self, text: str, place: Place, beside: str) -> str:
        """Registers a text. ``beside`` is the engine name of a file: relative includes of the text start in its folder."""
        name = f"{beside}#{len(self.places)}"
        while name in self.templates:
            name += "#"
        self.templates[name] = text
        self.places[name] = place
        return name

    def add_truth(self, expression: str, place: Place, beside: str) -> str:
        """Registers a condition: it renders to ``1`` or to nothing."""
        return self.add("{% if (" + expression + ") %}" + _TRUE + "{% endif %}", place, beside)

    def add_value(self, expression: str, place: Place, beside: str) -> str:
        """Registers an expression whose value is wanted: it renders to JSON."""
        return self.add("{{ (" + expression + ") | dump | safe }}", place, beside)


class Renderer:
    """Renders registered texts and templates of a set under the options' limits."""

    def __init__(self, texts: Texts, options: Options) -> None:
        self.texts = texts
        self.environment = unjucks_engine.Environment(texts.templates, **engine_options(options))

    def render(self, name: str, context: Mapping[str, Any]) -> str:
        """The text of a template or registered text; raises GenerationError with the place in the set."""
        if name in self.texts.places and "{" not in (plain := self.texts.templates[name]):
            return plain  # most names and values hold no tag: nothing to compile
        try:
            return self.environment.render(name, dict(context))
        except unjucks_engine.TemplateError as error:
            raise self.translate(error, name) from None

    def truth(self, name: str, context: Mapping[str, Any]) -> bool:
        """The truth of a text registered with ``add_truth``."""
        return self.render(name, context) == _TRUE

    def value(self, name: str, context: Mapping[str, Any]) -> Any:
        """The value of a text registered with ``add_value``."""
        text = self.render(name, context)
        try:
            return json.loads(text)
        except ValueError:
            raise GenerationError(
                Reason.TEMPLATE_ERROR, "the expression has no value (undefined)", self.texts.places.get(name)
            ) from None

    def check(self, name: str) -> GenerationError | None:
        """What is wrong with a template or registered text, found without running it."""
        try:
            self.environment.check(name)
        except unjucks_engine.TemplateError as error:
            return self.translate(error, name)
        return None

    def translate(self, error: unjucks_engine.TemplateError, name: str) -> GenerationError:
        """Our error for one of the engine's: reason by kind, line in the file instead of in the body."""
        if isinstance(error, unjucks_engine.LimitExceeded):
            reason = Reason.LIMIT_EXCEEDED
        elif isinstance(error, unjucks_engine.UndefinedError):
            reason = Reason.UNDEFINED_VARIABLE
        else:
            reason = Reason.TEMPLATE_ERROR
        where = error.template or name
        place = self.texts.places.get(where)
        if place is None:
            line = error.line or 0
            if not line and isinstance(error, unjucks_engine.TemplateSyntaxError):
                line = (
                    self.texts.templates.get(where, "").rstrip().count("\n") + 1
                )  # at the end: something is not closed
            line += self.texts.offsets.get(where, 0) if line else 0
            place = Place(
                f"{self.texts.root}/{where}" if where in self.texts.templates else where, line, error.column or 0
            )
        limit = str(getattr(error, "limit", "") or "")
        return GenerationError(reason, error.message, place, limit=limit)


def engine_options(options: Options) -> dict[str, Any]:
    """The engine's constructor arguments for our options."""
    engine, limits = options.engine, options.limits
    return {
        "undefined": engine.undefined,
        "trim_blocks": engine.trim_blocks,
        "lstrip_blocks": engine.lstrip_blocks,
        "autoescape": engine.autoescape,
        "limits": unjucks_engine.Limits(
            source_bytes=limits.source_bytes,
            output=limits.output_bytes,
            string=min(limits.output_bytes, unjucks_engine.Limits().string),
            wall_seconds=limits.wall_seconds,
        ),
    }
