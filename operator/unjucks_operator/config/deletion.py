"""Settings about the deletion of Tenants. Pure."""

from dataclasses import field
from typing import Annotated

from pydantic import Field
from pydantic.dataclasses import dataclass

from unjucks_operator.config.base import STRICT, AtLeastOne, Positive, Seconds


@dataclass(frozen=True, kw_only=True, config=STRICT)
class MassDeletion:
    """When many Tenants are deleted at once, that is taken for an accident (a deleted CRD, a bad prune): nothing is torn down until
    somebody confirms."""

    most: AtLeastOne = 5
    """So many Tenants may be deleted within ``window`` in any case. Default 5."""

    share: Annotated[int, Field(ge=1, le=100)] = 20
    """And so many of a hundred. Default 20. The larger of the two numbers counts; each Tenant beyond it is held, and so are those
    before it that are not torn down yet."""

    window: Positive = 600.0
    """Deletions within this time of each other count together, in seconds. Default 10 minutes."""

    settle: Seconds = 3.0
    """How long a deletion waits to see whether many more come, in seconds. Default 3. Only where there are more Tenants than may be
    deleted at once."""

    release_after: Seconds = 0.0
    """After this time a held deletion goes on by itself, in seconds. Default 0: never, somebody has to confirm each."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Deletion:
    """What stands between the deletion of a Tenant and its teardown."""

    mass: MassDeletion = field(default_factory=MassDeletion)
    """The brake against accidents."""

    database_grace: Seconds = 86400.0
    """How long after a confirmed deletion the tenant's database is still only put away, in seconds. Default 1 day. Taking the
    confirmation back meanwhile keeps it. 0: it is dropped at once."""

    require_backup: bool = True
    """Whether a database is dropped only after the annotation unjucks.io/backup-confirmed says that a backup was made after the
    deletion. Default true."""
