"""What of a generation does not depend on its variables: an action's texts, registered with the engine and compiled.

Made for each run, or once for many by a renderer that keeps a set warm. Pure; called by ``generate`` and by the renderer.
"""

from dataclasses import dataclass

from unjucks_runtime.generator.errors import Place
from unjucks_runtime.generator.frombase import Numbers
from unjucks_runtime.generator.model import TEMPLATE_SUFFIXES, Action, TemplateFile, TemplateSet
from unjucks_runtime.generator.options import Options
from unjucks_runtime.generator.rendering import Renderer, Texts


@dataclass
class Names:
    """The registered texts of one template file: what the engine calls each of them."""

    to: str = ""
    segments: tuple[str, ...] = ()
    condition: str = ""
    skip_if: str = ""
    skip_text: str = ""
    anchor: str = ""
    marker: str = ""
    message: str = ""
    source: str = ""
    for_each: str = ""
    body: str = ""


@dataclass(frozen=True)
class Prepared:
    """An action ready to run. Good for any variables, but only for the engine options and limits that it was made with."""

    action: Action
    texts: Texts
    numbers: Numbers
    names: list[Names]
    renderer: Renderer

    def compile(self) -> None:
        """Compile every template that the action may need now instead of at its first use. Errors are left to the run."""
        for name in list(self.texts.templates):
            shared = any(part.startswith("_") for part in name.split("/"))
            if shared or name in self.texts.places or any(name == file.engine_name for file in self.action.files):
                self.renderer.check(name)


def prepare(template_set: TemplateSet, action: Action, options: Options) -> Prepared:
    """The action of this set with everything registered; compiled on demand, or by ``Prepared.compile``."""
    texts = Texts(template_set.sources, template_set.offsets, template_set.root)
    numbers = Numbers(action, texts)
    names = [register(texts, file) for file in action.files]
    return Prepared(action, texts, numbers, names, Renderer(texts, options))


def register(texts: Texts, file: TemplateFile) -> Names:
    """Make every text of one template file known to the engine."""
    front = file.front
    names = Names()

    def text(value: str, key: str) -> str:
        return texts.add(value, place_of(file, key), file.engine_name) if value else ""

    if front.to is not None:
        names.to = text(front.to, "to")
    else:
        own = Place(file.path)
        relative = strip_suffix(file)
        names.segments = tuple(texts.add(part, own, file.engine_name) for part in relative.split("/"))
    if front.condition:
        names.condition = texts.add_truth(front.condition, place_of(file, "if"), file.engine_name)
    if front.skip_if_expression:
        names.skip_if = texts.add_truth(front.skip_if_expression, place_of(file, "skipIf"), file.engine_name)
    if front.for_each:
        names.for_each = texts.add_value(front.for_each.within, place_of(file, "forEach"), file.engine_name)
    names.skip_text = text(front.skip_if_text, "skip_if")
    if isinstance(front.anchor_value, str) and front.anchor not in ("merge", ""):
        names.anchor = text(front.anchor_value, front.anchor)
    names.marker = text(front.marker, "marker")
    names.message = text(front.message, "message")
    names.source = text(front.source, "from")
    if file.body is not None:
        # Not the engine name of the source: two files may share one body only by include, and offsets stay right.
        names.body = file.engine_name
    return names


def place_of(file: TemplateFile, key: str) -> Place:
    """Where a frontmatter key of a file stands."""
    marks = file.front.marks
    aliases = {"lineAt": "at_line", "unless_exists": "unlessExists", "forEach": "for_each"}
    line, column = marks.get(key) or marks.get(aliases.get(key, "")) or (0, 0)
    return Place(file.front_path, line, column)


def strip_suffix(file: TemplateFile) -> str:
    """The name of a file in its action, without the suffix that says that it is a template."""
    if file.body is not None:
        for suffix in TEMPLATE_SUFFIXES:
            if file.name.endswith(suffix):
                return file.name.removesuffix(suffix)
    return file.name
