"""Budgets of one render. Pure data; checked by the lexer, the parser, the generated code and the runtime."""

from __future__ import annotations

from typing import NamedTuple


class Limits(NamedTuple):
    """What one template may use. Sizes of text are UTF-16 units, times are seconds.

    Every budget is checked before the memory it protects is taken; ``LimitExceeded.limit`` names the field.
    """

    source_bytes: int = 4 * 1024 * 1024
    #: Nodes of the syntax tree of one file.
    nodes: int = 60_000
    #: Nesting of tags and expressions of one file.
    nesting: int = 90
    #: Steps of one render: rounds of loops weighted by their body, calls, elements that filters and methods touch.
    work: int = 4_000_000
    #: Text of the finished output.
    output: int = 16 * 1024 * 1024
    #: One string made by a template.
    string: int = 8 * 1024 * 1024
    #: All strings and lists made by one render together, the discarded ones included.
    scratch: int = 64 * 1024 * 1024
    #: Elements of one list made by a template (``range``, ``split``, …).
    items: int = 1_000_000
    #: Nested calls of macros and callers.
    macro_depth: int = 120
    #: Nested includes, imports, parents and blocks.
    include_depth: int = 40
    #: Nesting of lists and objects in the data, and in what a template builds.
    data_depth: int = 150
    #: Lists, objects and their elements in the data.
    data_items: int = 2_000_000
    #: One search with a regular expression.
    regex_seconds: float = 0.5
    #: One render.
    wall_seconds: float = 30.0
