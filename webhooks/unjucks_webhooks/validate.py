"""The validating webhook for all kinds: everything that is wrong with an object, at once, each with its field or its file and line.

The API server has checked schema and CEL rules before it asks; here is what these cannot say: the models' own checks, schemas of
variables, inline templates. An update is refused only for what it makes wrong: problems that the stored object has already are
warnings, so that an object need not be repaired before it is suspended. The operator repeats all of it; this only tells earlier.
Called by ``server``. ``problems_of`` is pure.
"""

from collections.abc import Mapping
from typing import Any, Final, Protocol

from unjucks_api.v1alpha1 import KINDS, InvalidObjectError
from unjucks_api.v1alpha1.template_registry import OnInvalidTemplate
from unjucks_api.variable_schema import check_schema
from unjucks_webhooks.review import Answer, Request, allow
from unjucks_webhooks.templates import Checked

MAX_PROBLEMS: Final = 100
_MODELS: Final = {kind.definition.kind: kind for kind in KINDS}
_TEMPLATE_FIELDS: Final = ("inline", "path", "engine", "variables")


class Checker(Protocol):
    """``templates.TemplateChecker``."""

    async def check(self, files: Mapping[str, str], spec: Mapping[str, Any]) -> Checked: ...


async def validate(request: Request, checker: Checker) -> Answer:
    """The answer."""
    if request.kind not in _MODELS or request.subresource or request.operation not in ("CREATE", "UPDATE"):
        return allow()
    if (request.new.get("metadata") or {}).get("deletionTimestamp"):
        return allow()  # on its way out: nothing may stand in the way of its finalizers
    known = set(problems_of(request.kind, request.old)) if request.operation == "UPDATE" else set()
    found = problems_of(request.kind, request.new)
    problems = [text for text in found if text not in known]
    warnings = [f"still wrong: {text}" for text in found if text in known]
    if request.kind == "TemplateRegistry":
        broken, said = await _templates(request, checker)
        problems += broken
        warnings += said
    if not problems:
        return allow(*warnings)
    return Answer(False, _message(request.kind, problems), 422, "Invalid", tuple(warnings))


def problems_of(kind: str, body: Mapping[str, Any]) -> list[str]:
    """What is wrong with an object by itself, each with its field; templates excepted."""
    found: list[str] = []
    try:
        _MODELS[kind].parse(body)
    except InvalidObjectError as error:
        found += error.problems
    if kind == "TemplateRegistry":
        schema = (_spec(body).get("variables") or {}).get("schema")
        if schema:
            found += [f"spec.variables.schema{pointer}: {message}" for pointer, message in check_schema(schema)]
    return found


async def _templates(request: Request, checker: Checker) -> tuple[list[str], list[str]]:
    """(problems, warnings) of inline templates; nothing when the update does not touch them."""
    spec, before = _spec(request.new), _spec(request.old)
    files = (spec.get("inline") or {}).get("files") or {}
    if not files or not all(isinstance(text, str) for text in files.values()):
        return [], []
    if before and all(spec.get(field) == before.get(field) for field in _TEMPLATE_FIELDS):
        return [], []
    checked = await checker.check(files, spec)
    if checked.skipped:
        return [], [checked.skipped]
    errors = [_place(it.path, it.line, it.column) + it.message for it in checked.problems if it.severity == "error"]
    warnings = [_place(it.path, it.line, it.column) + it.message for it in checked.problems if it.severity != "error"]
    if (spec.get("policy") or {}).get("onInvalidTemplate") == OnInvalidTemplate.SERVE_VALID:
        return [], [*errors, *warnings]  # that is what the policy asks for: the rest is served
    return errors, warnings


def _place(path: str, line: int, column: int) -> str:
    if not path:
        return "spec.inline.files: "
    return f"spec.inline.files[{path}]" + "".join(f":{number}" for number in (line, column) if number) + ": "


def _message(kind: str, problems: list[str]) -> str:
    shown = problems[:MAX_PROBLEMS]
    more = f"\nand {len(problems) - MAX_PROBLEMS} more" if len(problems) > MAX_PROBLEMS else ""
    head = f"this {kind} has {len(problems)} problem{'s' if len(problems) > 1 else ''}:"
    return head + "".join(f"\n- {text}" for text in shown) + more


def _spec(body: Mapping[str, Any]) -> Mapping[str, Any]:
    spec = body.get("spec")
    return spec if isinstance(spec, Mapping) else {}
