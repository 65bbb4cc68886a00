"""Settings of a generation: how the engine reads templates, what the policy allows, and the budgets. Plain data."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from unjucks_api.render_protocol import EngineOptions, Limits

CONFLICT = "conflict"
OVERWRITE = "overwrite"
SKIP = "skip"
MARKERS = "markers"


@dataclass(frozen=True)
class Options:
    """What holds for one run.

    ``on_conflict``: what to do with an existing file of other content that no template may change: ``conflict`` (report it,
    the result
    is not ok), ``overwrite``, ``skip``, or ``markers`` (write both, between marks). ``previous``: path -> sha256 of what the
    templates gave in the last run, without files that they only changed in places; a file that is still so is ours and may be
    updated. ``update``: merge with ``last``, the bytes of that run as far as they are known. ``prune``: remove files of the last
    run that this one does not make. ``sensitive``: dotted names of secret variables besides those the schema marks. ``text``:
    dotted names of variables that came as text and may be turned into the schema's type where that loses nothing.
    ``shared_schema``: JSON Schema of variables that every action of the set has besides its own and the set's, which win over it.
    """

    engine: EngineOptions = field(default_factory=EngineOptions)
    limits: Limits = field(default_factory=Limits)
    on_conflict: str = CONFLICT
    allow_force: bool = True
    allow_inject: bool = True
    allow_paths: tuple[str, ...] = ("**",)
    deny_paths: tuple[str, ...] = ()
    previous: Mapping[str, str] = field(default_factory=dict)
    last: Mapping[str, tuple[bytes, int]] = field(default_factory=dict)
    update: bool = False
    prune: bool = False
    sensitive: tuple[str, ...] = ()
    text: tuple[str, ...] = ()
    shared_schema: Mapping[str, Any] = field(default_factory=dict)
