"""The error tree of the engine: everything ``unjucks_engine`` raises on purpose derives from ``TemplateError``.

Holds no rendering logic. Called by every module of the package, and caught by its users.
"""

from __future__ import annotations


class TemplateError(Exception):
    """A template cannot be read or rendered.

    ``template`` is the name the template was given (empty for a string without a name), ``line`` and ``column`` count
    from 1 (0 when the place is unknown; columns count UTF-16 units), ``message`` says what is wrong, without the place.
    """

    reason = "TemplateError"

    def __init__(self, message: str, template: str = "", line: int = 0, column: int = 0, prefix: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.template = template
        self.line = line
        self.column = column
        #: What Nunjucks writes before the message on its last line: "", "Error: " or "Template render error: ".
        self.prefix = prefix

    def at(self, template: str, line: int, column: int) -> TemplateError:
        """Fills in the place if it is not known yet (the innermost place wins). Returns the error itself."""
        if not self.line:
            self.line, self.column = line, column
        if not self.template:
            self.template = template
        return self

    def __str__(self) -> str:
        place = self.template or "unknown path"
        if self.line and self.column:
            return f"({place}) [Line {self.line}, Column {self.column}]\n  {self.prefix}{self.message}"
        if self.line:
            return f"({place}) [Line {self.line}]\n  {self.prefix}{self.message}"
        return f"({place})\n  {self.prefix}{self.message}"


class TemplateSyntaxError(TemplateError):
    """The source of a template cannot be parsed or compiled."""

    reason = "TemplateSyntaxError"


class UndefinedError(TemplateError):
    """An undefined value was printed or used where the ``undefined`` option forbids it."""

    reason = "UndefinedError"


class TemplateNotFound(TemplateError):
    """A template that was asked for, included, imported or extended does not exist."""

    reason = "TemplateNotFound"


class LimitExceeded(TemplateError):
    """A budget is used up. ``limit`` is the name of the field of ``Limits``."""

    reason = "LimitExceeded"

    def __init__(self, limit: str, message: str = "", template: str = "", line: int = 0, column: int = 0) -> None:
        super().__init__(message or f"the template exceeds its limit {limit}", template, line, column)
        self.limit = limit
