"""A namespace that exists already and may be taken over, as plain data. Pure.

Read by ``kube.adoption``, judged by ``tenant.namespaces``.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

SHOWN = 5
"""Most things in the way that a message names."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A namespace that exists and is not the tenant's (yet). ``strangers``: what is in it and must not be."""

    uid: str
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    deleting: bool = False
    strangers: tuple[str, ...] = ()


def strangers_text(namespace: str, strangers: tuple[str, ...]) -> str:
    """What is in the way, and what to do."""
    shown = ", ".join(strangers[:SHOWN]) + (" and more" if len(strangers) > SHOWN else "")
    return (
        f"namespace {namespace} cannot be taken over while it holds what was let in without guards: {shown}. Save what you need, "
        "delete these (scale Deployments to 0), and the operator goes on; bring pods back once the Tenant is Ready"
    )
