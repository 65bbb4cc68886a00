"""Python code for calls and filters. Mixed into the code generator."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from unjucks_engine import nodes
from unjucks_engine.filters_data import join, length
from unjucks_engine.filters_text import capitalize, lower_filter, replace, title, upper_filter
from unjucks_engine.spelling import call_name
from unjucks_engine.writing import Code, Writer

if TYPE_CHECKING:
    from unjucks_engine.environment import Environment

_JS_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_JS_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f", "v": "\v", "0": "\0", "\n": ""}


#: The common case of a filter without arguments: its code and kind. ``$`` is a local variable, ``@`` the value.
_INLINE_FILTERS = {
    lower_filter: ("$.lower() if type(@) is str and len($) < 257 and $.isascii()", "str"),
    upper_filter: ("$.upper() if type(@) is str and len($) < 257 and $.isascii()", "str"),
    capitalize: ("$.capitalize() if type(@) is str and len($) < 257 and $.isascii()", "any"),
    title: ("$.capitalize() if type(@) is str and len($) < 257 and ' ' not in $ and $.isascii()", "any"),
    length: ("len($) if type(@) is list or type($) is str", "any"),
}


class Calls(Writer):
    """Code for calls and filters."""

    if TYPE_CHECKING:

        def expression(self, node: Any, lenient: bool = False) -> Code: ...
        def held(self, code: str) -> tuple[str, str]: ...
        def _value(self, node: Any, lenient: bool = False) -> str: ...
        def _object(self, node: nodes.Dict) -> str: ...

    def _arguments(self, args: nodes.Nodes) -> str:
        items = args.items
        if items and isinstance(items[-1], nodes.KeywordArgs):
            positional = ", ".join(self._value(item) for item in items[:-1])
            return f"[{positional}], {self._object(items[-1])}"
        return f"[{', '.join(self._value(item) for item in items)}]"

    def call_name(self, node: nodes.FunCall) -> str:
        """What is called, as messages show it."""
        name = call_name(node.name)
        if "\\" in name:
            # The name goes through a JavaScript text literal.
            name = _JS_ESCAPE.sub(lambda found: _JS_ESCAPES.get(found[1], found[1]), name)
        return name

    def _call(self, node: nodes.FunCall) -> str:
        name = self.call_name(node)
        target = node.name
        if isinstance(target, nodes.LookupVal) and not isinstance(target.val, nodes.Slice):
            owner = self._value(target.target)
            code = f"rt.call_member({owner}, {self._value(target.val)}, {name!r}, {self._arguments(node.args)})"
        else:
            code = f"rt.call_named({self._value(target, True)}, {name!r}, {self._arguments(node.args)})"
        self.forget()
        return code

    def _filter(self, node: nodes.Filter, shown: bool = False) -> Code:
        """Code for a filter. With ``shown``, what the common case does not cover is made text that can be printed."""
        name = node.name.value
        items = node.args.items
        lenient = name in ("default", "d")
        if name not in self.env.filters and isinstance(items[0], nodes.Capture):
            self.line(f"rt.filter({name!r})")  # fails before the body runs
        codes = []
        for index, item in enumerate(items):
            if isinstance(item, nodes.KeywordArgs):
                codes.append(f"keyword_object({self._object(item)})")
            else:
                codes.append(self._value(item, lenient and index == 0))
        if name not in self.env.filters:
            return f"rt.filter({name!r})(rt, {', '.join(codes)})", "any"
        if lenient and len(items) == 2 and isinstance(items[1], nodes.Literal):
            temp = self.temp()
            return f"({codes[1]} if ({temp} := {codes[0]}) is U else {temp})", "any"
        function = self.filter_name(name)
        if len(items) == 1 and (found := _INLINE_FILTERS.get(self.env.filters[name])) is not None:
            first, temp = self.held(codes[0])
            plain, kind = found
            other = f"emit(rt, {function}(rt, {temp}))" if shown else f"{function}(rt, {temp})"
            return f"({plain.replace('$', temp).replace('@', first, 1)} else {other})", "made" if shown else kind
        if self.env.filters[name] is replace and len(items) == 3 and _shrinks(items[1], items[2]):
            first, temp = self.held(codes[0])
            plain = f"{temp}.replace({codes[1]}, {codes[2]}) if type({first}) is str and len({temp}) < 257"
            return f"({plain} else {function}(rt, {temp}, {codes[1]}, {codes[2]}))", "any"
        return f"{function}(rt, {', '.join(codes)})", "str" if self.env.filters[name] is join else "any"

    def filter_name(self, name: str) -> str:
        """The module's name for a filter of the environment."""
        key = f"f_{name}" if name.isidentifier() and name.isascii() else self.constant(self.env.filters[name])
        self.constants[key] = self.env.filters[name]
        return key


def _shrinks(old: Any, new: Any) -> bool:
    """Whether both are constant texts and the second one is not longer."""
    if type(old) is not nodes.Literal or type(new) is not nodes.Literal:
        return False
    return type(old.value) is str and type(new.value) is str and 0 < len(old.value) >= len(new.value)


def inlined(env: Environment, node: Any) -> bool:
    """Whether a node is a filter whose common case is written out."""
    return (
        type(node) is nodes.Filter and len(node.args.items) == 1 and env.filters.get(node.name.value) in _INLINE_FILTERS
    )
