"""What besides a tree and its variables decides a render: the part of a request that is the same for many. Pure.

Apart from ``tasks``, so that the server, which never runs template code, does not have to import the engine for it.
"""

from typing import Any

from pydantic import BaseModel, ConfigDict

from unjucks_api.render_protocol import EngineOptions, Limits, RenderRequest


class Setting(BaseModel):
    """What besides the tree decides how an action is compiled; ``LOAD`` tasks carry it. The same for many renders."""

    model_config = ConfigDict(frozen=True)

    generator: str
    action: str
    engine: EngineOptions
    limits: Limits
    shared_schema: dict[str, Any]


def setting_of(task: RenderRequest) -> Setting:
    """The setting that a render needs."""
    return Setting(
        generator=task.generator,
        action=task.action,
        engine=task.engine,
        limits=task.limits,
        shared_schema=task.shared_schema,
    )
