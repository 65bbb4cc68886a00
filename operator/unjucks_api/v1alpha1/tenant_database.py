"""What a Tenant says about its database, and what its status tells of it: the part ``spec.database`` and ``status.database``.

Pure. Called by ``tenant`` (the kind) and by the operator's planner of the database.
"""

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from unjucks_api.markers import Switch
from unjucks_api.v1alpha1.common import Line, Model, Time, Word, duration_seconds
from unjucks_api.v1alpha1.tenant_cache import RotationPeriod


class DatabaseMode(StrEnum):
    """How the tenant's records are kept apart."""

    SHARED = "Shared"
    DEDICATED = "Dedicated"
    NONE = "None"


class ReclaimPolicy(StrEnum):
    """What happens to data when its owner goes."""

    RETAIN = "Retain"
    DELETE = "Delete"


class DatabaseRotation(Model):
    """When the password of the tenant's login is replaced."""

    every: RotationPeriod | None = Field(
        default=None,
        description="Age at which the password is replaced, from 1h to 8760h. Absent: what the platform has configured, 720h by "
        "default. The one before works on for a while (an hour by default).",
    )

    @property
    def seconds(self) -> int | None:
        """The age in seconds; None: the platform's."""
        return duration_seconds(self.every) if self.every else None


class Database(Model):
    """Where the tenant's history and job records are kept."""

    mode: DatabaseMode | None = Field(
        default=None,
        description="How records are kept: Shared (one database, separated by row-level security), Dedicated (a database of the "
        "tenant's own) or None (no records). Absent: a new tenant gets what its tier has by default, and keeps it. Changing "
        "between Shared and Dedicated moves the records while the tenant works; changing back before the move is decided takes "
        "it back. A "
        "tenant that has a database cannot change to None.",
    )
    direct_access: Annotated[bool, Switch("either a login exists or none does")] = Field(
        default=False,
        description="Whether the tenant's own programs may read its records with SQL. True puts a login and its password into the "
        "Secret <name of the Tenant>-database in its first namespace; false ends the login at once.",
    )
    rotation: DatabaseRotation = Field(
        default=DatabaseRotation(), description="When the password of that login is replaced."
    )
    reclaim_policy: ReclaimPolicy | None = Field(
        default=None,
        description="What happens to the records when the Tenant is deleted with deletionPolicy Delete: "
        "Retain (locked and kept) or Delete. Absent: Retain.",
    )


class MigrationStatus(Model):
    """A move of the tenant's records that is under way."""

    to: Word = Field(default="", description="Where they go: Shared or Dedicated.")
    phase: Word = Field(
        default="",
        description="How far it is: Preparing, Copying, Fencing (writes wait), Verifying, Switching, or RollingBack.",
    )
    started_at: Time | None = Field(default=None, description="When the move began.")


class DatabaseStatus(Model):
    """The tenant's database identity as it is."""

    mode: Word = Field(default="", description="Mode in effect: Shared, Dedicated or None.")
    name: Word = Field(default="", description="Database on the server with the tenant's records.")
    role: Word = Field(
        default="", description="PostgreSQL role that is the tenant's identity; made from the Tenant's UID."
    )
    state: Word = Field(default="", description="State of the identity: Ready, Pending or Disabled.")
    secret: Line = Field(
        default="", description="Secret with the tenant's login, as namespace/name. Empty without direct access."
    )
    rotated_at: Time | None = Field(default=None, description="When the password in the Secret was made.")
    migration: MigrationStatus | None = Field(default=None, description="A move that is under way. Absent without one.")
