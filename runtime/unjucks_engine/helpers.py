"""Small functions that generated code calls by name: checks of undefined values, ``loop`` objects, imports, refusals."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from unjucks_engine.errors import TemplateError, UndefinedError
from unjucks_engine.member import member
from unjucks_engine.ops import truth, type_error
from unjucks_engine.runtime import trailing
from unjucks_engine.values import Kwargs, U

if TYPE_CHECKING:
    from unjucks_engine.runtime import Render


def defined(value: Any) -> Any:
    """Refuses to print null and undefined (Nunjucks' ``throwOnUndefined``)."""
    if value is None or value is U:
        raise UndefinedError("attempted to output null or undefined value")
    return value


def printable(value: Any, name: str) -> Any:
    """Refuses to print undefined."""
    if value is U:
        raise UndefinedError(f"{name} is undefined")
    return value


def used(value: Any, name: str) -> Any:
    """Refuses to use undefined."""
    if value is U:
        raise UndefinedError(f"{name} is undefined")
    return value


def no_target(value: Any) -> Any:
    """``++`` or ``--`` on something that cannot be assigned to."""
    raise TemplateError("Invalid left-hand side expression in prefix operation", prefix="ReferenceError: ")


def pasted(rt: Render, name: str) -> Any:
    """A test with several arguments, which Nunjucks writes without commas: a call of the first one."""
    rt.test(name)
    raise type_error("the arguments of a test are not separated; it takes one")


def keyword_object(values: dict[str, Any]) -> Kwargs:
    """Keyword arguments of a callee that does not take them."""
    return trailing(values)


def imported(exports: dict[str, Any], name: str) -> Any:
    """One name of an imported file."""
    if name not in exports:
        raise TemplateError(f"cannot import '{name}'", prefix="Error: ")
    return exports[name]


def no_length(rt: Render, value: Any) -> bool:
    """Whether the ``else`` of an asynchronous loop runs."""
    if value is None or value is U:
        raise type_error("Cannot read properties of undefined (reading 'length')")
    return not truth(member(rt, value, "length"))


def loop_object(loop: Any, index: int, length: Any) -> dict[str, Any]:
    """The ``loop`` object of a round: one object per loop, changed in place."""
    if loop is U:
        loop = {}
    loop["index"] = index + 1
    loop["index0"] = index
    loop["revindex"] = length - index
    loop["revindex0"] = length - index - 1
    loop["first"] = index == 0
    loop["last"] = index == length - 1
    loop["length"] = length
    return loop  # type: ignore[no-any-return]


def bind_loop(variables: dict[str, Any], index: int, length: Any) -> None:
    """Sets ``loop`` in a frame; a variable of that name gets the fields instead."""
    loop = variables.get("loop", U)
    if not truth(loop):
        loop = U
    elif type(loop) is not dict:
        if type(loop) in (str, int, float, bool):
            raise type_error("Cannot create property 'index' on a primitive value")
        return
    variables["loop"] = loop_object(loop, index, length)


def fields(rt: Render, value: Any, names: tuple[str, ...]) -> dict[str, Any]:
    """The fields that a stretch of code may read of a value that is no plain object."""
    if value is U or value is None:
        return {}
    return {name: member(rt, value, name) for name in names}
