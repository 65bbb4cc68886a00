"""Types that the settings are made of: durations, quantities, counts. Pure; called by the other modules of this package."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ConfigDict, Field
from pydantic.alias_generators import to_camel

from unjucks_api.v1alpha1.common import CPU_PATTERN, MEMORY_PATTERN, duration_seconds

STRICT = ConfigDict(
    extra="forbid",
    alias_generator=to_camel,
    validate_by_name=True,
    validate_by_alias=True,
    use_attribute_docstrings=True,
    hide_input_in_errors=True,
)


def _seconds(value: Any) -> Any:
    return float(duration_seconds(value)) if isinstance(value, str) else value


def _quantity(value: Any) -> Any:
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


Seconds = Annotated[float, BeforeValidator(_seconds), Field(ge=0, allow_inf_nan=False)]
Positive = Annotated[float, BeforeValidator(_seconds), Field(gt=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=0, le=1_000_000)]
AtLeastOne = Annotated[int, Field(ge=1, le=1_000_000)]
Port = Annotated[int, Field(ge=0, le=65535)]
Cpu = Annotated[str, BeforeValidator(_quantity), Field(pattern=CPU_PATTERN)]
Memory = Annotated[str, BeforeValidator(_quantity), Field(pattern=MEMORY_PATTERN)]
Resources = Mapping[Literal["cpu", "memory", "ephemeral-storage"], Annotated[str, BeforeValidator(_quantity)]]
