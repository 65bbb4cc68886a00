"""Nunjucks 3.2.4 in Python: templates rendered over closed JSON values, with budgets.

    Environment({"hello.njk": "Hello {{ name }}"}).render("hello.njk", {"name": "World"})

No file system, no network, no clock unless pinned. Knows nothing of the other packages of this project.
"""

from unjucks_engine.environment import Environment
from unjucks_engine.errors import (
    LimitExceeded,
    TemplateError,
    TemplateNotFound,
    TemplateSyntaxError,
    UndefinedError,
)
from unjucks_engine.limits import Limits

__all__ = [
    "Environment",
    "LimitExceeded",
    "Limits",
    "TemplateError",
    "TemplateNotFound",
    "TemplateSyntaxError",
    "UndefinedError",
]
