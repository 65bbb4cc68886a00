"""Settings about the admission process beside the operator. Pure."""

from pydantic.dataclasses import dataclass

from unjucks_operator.config.base import STRICT


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Webhooks:
    """The process ``unjucks-webhooks``: checks before objects are stored, and approvals."""

    enabled: bool = False
    """Whether it runs. Default false; the chart sets it. Then the operator makes its certificate, and a confirmation of a
    deletion counts only with the sealed record of an approval."""
