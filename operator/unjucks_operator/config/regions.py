"""Settings about where things are. Pure."""

from typing import Annotated

from pydantic import Field
from pydantic.dataclasses import dataclass

from unjucks_operator.config.base import STRICT

Region = Annotated[str, Field(max_length=63, pattern=r"^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$")]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Regions:
    """Regions that tenants may ask for. What cannot be kept is refused (reason RegionNotServed)."""

    served: tuple[Region, ...] = ()
    """Names that ``spec.region`` of a Tenant may have. Default none: a Tenant that names a region is refused."""

    database: Region = ""
    """Region of the platform's PostgreSQL. Default empty: not known, so a Tenant with a region can only be one without database."""

    node_label: Annotated[str, Field(max_length=253)] = "topology.kubernetes.io/region"
    """Label of nodes that says in which region they are; renderers of a Tenant with a region run there only. Default
    topology.kubernetes.io/region. Empty: nodes are not chosen, all of them are in every region served."""
