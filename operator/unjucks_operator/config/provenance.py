"""Settings about statements of where generated files come from. Pure."""

from typing import Annotated

from pydantic import Field
from pydantic.dataclasses import dataclass

from unjucks_operator.config.base import STRICT


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Provenance:
    """The in-toto statement beside every output."""

    signing_secret: Annotated[str, Field(max_length=253, pattern=r"^([a-z0-9]([-a-z0-9.]*[a-z0-9])?)?$")] = ""
    """Name of a Secret in the platform's namespace whose key provenance.key is an Ed25519 or ECDSA P-256 private key in PEM.
    Statements are signed with it (DSSE). Default empty: statements are not signed."""
