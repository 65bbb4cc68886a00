"""What a render keeps variables and code in: frames, contexts and templates. Called by the runtime and the generated code."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from unjucks_engine.errors import LimitExceeded
from unjucks_engine.ops import truth, type_error
from unjucks_engine.values import U

if TYPE_CHECKING:
    from unjucks_engine.environment import Environment


class Frame:
    """Run-time variables of a scope. Writes do not leave an ``isolated`` frame at its own level."""

    __slots__ = ("isolated", "parent", "top", "vars")

    def __init__(self, parent: Frame | None = None, isolated: bool = False, top: bool = False) -> None:
        self.vars: dict[str, Any] = {}
        self.parent = parent
        self.isolated = isolated
        self.top = top

    def resolve(self, name: str) -> Frame | None:
        """The frame that a write of ``name`` goes to. Only the first frame's isolation counts, as in Nunjucks."""
        if self.vars.get(name, U) is not U:
            return self
        if self.isolated:
            return None
        frame = self.parent
        while frame is not None:
            if frame.vars.get(name, U) is not U:
                return frame
            frame = frame.parent
        return None

    def assign(self, name: str, value: Any) -> None:
        """``set``: changes the variable where it lives, or makes it here."""
        if "." in name:
            self._assign_path(name, value)
            return
        frame = self.resolve(name)
        (frame or self).vars[name] = value

    def _assign_path(self, name: str, value: Any) -> None:
        path = name.split(".")
        frame = self.resolve(path[0]) or self
        target = frame.vars
        for part in path[:-1]:
            inner = target.get(part, U)
            if not truth(inner):
                inner = target[part] = {}
            if type(inner) is not dict:
                raise type_error(f"Cannot create property '{path[-1]}'")
            target = inner
        target[path[-1]] = value

    def bare(self) -> bool:
        """Whether no variable can be found from here."""
        frame: Frame | None = self
        while frame is not None:
            if frame.vars:
                return False
            frame = frame.parent
        return True


def lookup(frame: Frame | None, variables: dict[str, Any], name: str) -> Any:
    """A name that is not known at compile time: frames outwards, then the context (which holds the globals)."""
    while frame is not None:
        value = frame.vars.get(name, U)
        if value is not U:
            return value
        frame = frame.parent
    return variables.get(name, U)


class Context:
    """Variables, exports and blocks of one file being rendered."""

    __slots__ = ("blocks", "exported", "vars")

    def __init__(self, variables: dict[str, Any], blocks: dict[str, Any]) -> None:
        self.vars = variables
        self.exported: list[str] = []
        self.blocks: dict[str, list[Any]] = {name: [block] for name, block in blocks.items()}

    def add_blocks(self, blocks: dict[str, Any]) -> None:
        """Queues the blocks of a parent behind the ones that are there."""
        for name, block in blocks.items():
            self.blocks.setdefault(name, []).append(block)


class Template:
    """One source, ready to run. ``root(rt, context, frame, out)`` appends text to ``out``; ``blocks`` has a function for each.

    It may start as closures (``direct``); ``compile`` then puts generated code in their place.
    """

    __slots__ = ("blocks", "changes", "macros_only", "make", "name", "root", "uses")

    def __init__(
        self,
        name: str,
        root: Callable[..., None],
        blocks: dict[str, Callable[..., None]],
        make: Callable[[Environment], tuple[Callable[..., None], dict[str, Callable[..., None]]]] | None = None,
    ) -> None:
        self.name = name
        self.root = root
        self.blocks = blocks
        #: Makes the generated code, as long as there is none. It does not hold the environment: that would be a cycle.
        self.make = make
        #: How often it was asked for, until it is compiled.
        self.uses = 0
        #: Whether the file has nothing but macros that change nothing outside, and text.
        self.macros_only = False
        #: Whether a run was seen to change its data (or to need it looked through), so that it gets a copy from the start.
        self.changes = False

    def compile(self, env: Environment) -> None:
        """From now on generated code runs. The environment is the one that the template belongs to."""
        make, self.make = self.make, None
        if make is not None:
            try:
                self.root, self.blocks = make(env)
            except (LimitExceeded, RecursionError, MemoryError):
                pass  # too much for CPython's compiler; closures can still run it
