"""The kind Tenant: an organisation with its namespaces, members, limits, database and renderers. Cluster-scoped.

Only fields that the operator acts upon are here; a field that does nothing would be a lie. Pure. Called by the operator's
tenant package and by the CRD generator.
"""

import re
from enum import StrEnum
from typing import Annotated, ClassVar

from pydantic import Field

from unjucks_api import names
from unjucks_api.markers import Cel, Defaulted, EnumSpelling, ListAtomic, ListMap, Switch
from unjucks_api.v1alpha1.common import (
    AGE_COLUMN,
    MESSAGE_COLUMN,
    READY_COLUMNS,
    Bytes,
    Column,
    ConditionModel,
    Count,
    Cpu,
    Definition,
    DnsLabel,
    Generation,
    Line,
    Memory,
    Message,
    Model,
    Object,
    Ruled,
    Suspend,
    Time,
    Word,
)
from unjucks_api.v1alpha1.data_policy import DataPolicy
from unjucks_api.v1alpha1.tenant_cache import Cache, CacheStatus
from unjucks_api.v1alpha1.tenant_database import Database, DatabaseStatus
from unjucks_api.v1alpha1.tenant_database import DatabaseMode as DatabaseMode
from unjucks_api.v1alpha1.tenant_database import ReclaimPolicy as ReclaimPolicy
from unjucks_api.v1alpha1.tenant_network import IsolationStatus, Network

MAX_NAME = 63 - len(names.default_namespace(""))
RESERVED_NAMESPACES = ("default", names.PLATFORM_NAMESPACE)
RESERVED_PREFIXES = ("kube-", "openshift-")
MAX_NAMESPACES = 20
MAX_RENDERERS = 100


class Tier(StrEnum):
    """What the platform offers; what each one means is the operator's configuration."""

    STARTER = "starter"
    PROFESSIONAL = "professional"
    ENTERPRISE = "enterprise"


class MemberKind(StrEnum):
    """Who a member is for the API server."""

    USER = "User"
    GROUP = "Group"
    SERVICE_ACCOUNT = "ServiceAccount"


class Execution(StrEnum):
    """Where a job's templates run."""

    POOLED = "Pooled"
    ISOLATED = "Isolated"


def is_reserved_namespace(name: str) -> bool:
    """Whether a tenant may never have the namespace of that name."""
    return name in RESERVED_NAMESPACES or name.startswith(RESERVED_PREFIXES)


class TenantNamespace(Model):
    """One namespace of the tenant."""

    name: Annotated[
        DnsLabel,
        Cel(
            "!(self in ['"
            + "', '".join(RESERVED_NAMESPACES)
            + "'])"
            + "".join(f" && !self.startsWith('{prefix}')" for prefix in RESERVED_PREFIXES),
            "this namespace belongs to the cluster or the platform; choose one that is neither "
            + ", ".join(RESERVED_NAMESPACES)
            + " nor starts with "
            + " or ".join(RESERVED_PREFIXES),
            reason="FieldValueForbidden",
            check=lambda name: not is_reserved_namespace(name),
        ),
    ] = Field(
        description="Name of the namespace. The operator creates it; an existing one of somebody else is never taken, unless "
        "adopt says so."
    )
    adopt: Annotated[bool, Switch("consent is given or it is not; there is no third way of taking over")] = Field(
        default=False,
        description="Takes over a namespace of that name that exists already, if an administrator consents: it must carry the "
        f"annotation {names.ANNOTATION_ADOPTION_CONSENT} with this Tenant's name, and hold no pods, RoleBindings or "
        "NetworkPolicies.",
    )


class Member(Ruled):
    """A user, group or service account that belongs to the tenant."""

    atomic = True
    rules: ClassVar[tuple[Cel, ...]] = (
        Cel(
            "self.kind == 'ServiceAccount' ? has(self.namespace) : true",
            "a member of kind ServiceAccount needs the namespace it lives in",
            reason="FieldValueRequired",
            field_path=".namespace",
            check=lambda member: member.kind is not MemberKind.SERVICE_ACCOUNT or member.namespace is not None,
        ),
        Cel(
            "self.kind != 'ServiceAccount' ? !has(self.namespace) : true",
            "only a member of kind ServiceAccount has a namespace; leave it out for User and Group",
            reason="FieldValueForbidden",
            field_path=".namespace",
            check=lambda member: member.kind is MemberKind.SERVICE_ACCOUNT or member.namespace is None,
        ),
    )

    kind: MemberKind = Field(description="Whether it is a User, a Group or a ServiceAccount.")
    name: Annotated[
        str,
        Field(min_length=1, max_length=253),
        Cel(
            "!self.startsWith('system:')",
            "names that start with system: belong to Kubernetes itself; name a user, group or service account of your own",
            reason="FieldValueForbidden",
            check=lambda name: not name.startswith("system:"),
        ),
    ] = Field(description="Name as the API server knows it after authentication, for example ada@acme.example.")
    namespace: (
        Annotated[
            DnsLabel,
            Cel(
                f"self != '{names.PLATFORM_NAMESPACE}'"
                + "".join(f" && !self.startsWith('{prefix}')" for prefix in RESERVED_PREFIXES),
                "service accounts of the cluster and of the platform are no members; name one that belongs to people's programs",
                reason="FieldValueForbidden",
                check=lambda name: name != names.PLATFORM_NAMESPACE and not name.startswith(RESERVED_PREFIXES),
            ),
        ]
        | None
    ) = Field(default=None, description="Namespace of a ServiceAccount. Needed for that kind, refused for the others.")


# Not a set: server-side apply fails on sets of objects. Not a map: two service accounts may share a name.
MemberList = Annotated[tuple[Member, ...], Field(max_length=100), ListAtomic()]


class Members(Model):
    """Who may do what in the tenant's namespaces."""

    owners: MemberList = Field(
        default=(),
        description="Members who manage registries and jobs and read everything of the tenant, logs included.",
    )
    editors: MemberList = Field(default=(), description="Members who write registries and jobs.")
    viewers: MemberList = Field(default=(), description="Members who only read registries, jobs and generated files.")


class JobQuota(Model):
    """Limits on generation jobs."""

    concurrent: Annotated[int, Field(ge=1, le=1000)] | None = Field(
        default=None, description="Most jobs of this tenant that run at one time. Absent: what the tier allows."
    )
    per_hour: Annotated[int, Field(ge=1, le=1_000_000)] | None = Field(
        default=None,
        description="Most runs of jobs that start within any 60 minutes; further ones wait. Absent: what the tier allows.",
    )


class Quota(Model):
    """Limits of the tenant as a whole, shared by its namespaces. They lower what the tier gives, or raise it up to its maximum."""

    cpu: Cpu | None = Field(
        default=None, description='CPU of all pods together, in cores: "4", "500m". Absent: what the tier allows.'
    )
    memory: Memory | None = Field(
        default=None, description="Memory of all pods together: 8Gi, 512Mi. Absent: what the tier allows."
    )
    ephemeral_storage: Memory | None = Field(
        default=None, description="Local disk of all pods together: 8Gi. Absent: what the tier allows."
    )
    pods: Annotated[int, Field(ge=1, le=100_000)] | None = Field(
        default=None, description="Pods that exist at one time, renderers included. Absent: what the tier allows."
    )
    jobs: JobQuota | None = Field(default=None, description="Limits on generation jobs.")


class Renderers(Ruled):
    """The pods that run templates for this tenant, and for no other."""

    rules: ClassVar[tuple[Cel, ...]] = (
        Cel(
            "!has(self.min) || !has(self.max) || self.min <= self.max",
            "min must not be greater than max",
            field_path=".min",
            check=lambda it: it.min is None or it.max is None or it.min <= it.max,
        ),
    )

    min: Annotated[int, Field(ge=0, le=MAX_RENDERERS)] | None = Field(
        default=None,
        description="Renderers kept warm while nothing runs; 0 starts them on demand. Absent: from the tier.",
    )
    max: Annotated[int, Field(ge=1, le=MAX_RENDERERS)] | None = Field(
        default=None, description="Most renderers under load. Absent: from the tier."
    )
    execution: Execution | None = Field(
        default=None,
        description="Where jobs run unless they say otherwise: Pooled (a warm renderer of this tenant, a fresh process for each "
        "job) or Isolated (a fresh pod for each job). Absent: from the tier.",
    )


_LABEL_NAME = r"^[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$"
LabelValue = Annotated[str, Field(max_length=63, pattern=r"^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$")]


def _label_names(labels: dict[str, str]) -> bool:
    return all(re.fullmatch(_LABEL_NAME, key) for key in labels)


class TenantSpec(Ruled):
    """What the tenant should have."""

    rules: ClassVar[tuple[Cel, ...]] = (
        Cel(
            "!(has(self.database) && has(self.database.mode) && self.database.mode == 'None')"
            " || (has(oldSelf.database) && has(oldSelf.database.mode) && oldSelf.database.mode == 'None')",
            "a tenant that has a database keeps it: mode cannot change to None; make a new Tenant without a database instead",
            field_path=".database.mode",
        ),
        Cel(
            "!has(oldSelf.region) || (has(self.region) && self.region == oldSelf.region)",
            "a tenant stays in its region; make a new Tenant in the other one and move its content",
            field_path=".region",
        ),
    )

    display_name: Annotated[str, Field(min_length=1, max_length=128)] | None = Field(
        default=None, description="Name of the organisation for people. Absent: the object's name."
    )
    tier: Annotated[Tier, Defaulted(), EnumSpelling("product names of the platform, as its price list spells them")] = (
        Field(
            default=Tier.STARTER,
            description="What the tenant is entitled to: starter, professional or enterprise. The limits of each are part of the "
            "operator's configuration.",
        )
    )
    region: LabelValue | None = Field(
        default=None,
        description="Where the tenant's data and pods have to be, as the platform names its regions. One that it cannot keep is "
        "refused. Cannot be changed once set. Absent: anywhere.",
    )
    namespaces: (
        Annotated[tuple[TenantNamespace, ...], Field(min_length=1, max_length=MAX_NAMESPACES), ListMap()] | None
    ) = Field(
        default=None, description="Namespaces that the tenant has. Absent: one, named tenant-<name of the Tenant>."
    )
    members: Members = Field(
        default=Members(), description="People and programs that belong to the tenant, in three roles."
    )
    quota: Quota = Field(default=Quota(), description="Limits of the tenant, within what its tier allows.")
    network: Network = Field(
        default=Network(), description="What may come in and go out, beyond the cluster's DNS. Absent: nothing."
    )
    database: Database = Field(
        default=Database(), description="Where the tenant's records are kept, and what becomes of them."
    )
    cache: Cache = Field(default=Cache(), description="The tenant's identity at the platform's Redis.")
    renderers: Renderers = Field(default=Renderers(), description="The pods that run the tenant's templates.")
    data_policy: DataPolicy = Field(
        default=DataPolicy(), description="What kind of data the tenant's templates and files may hold."
    )
    labels: Annotated[
        dict[str, LabelValue],
        Field(max_length=16),
        Cel(
            f"self.all(key, key.matches('{_LABEL_NAME}'))",
            "a label is named with at most 63 letters, digits, '-', '_' and '.', and has no prefix of its own",
            check=_label_names,
        ),
    ] = Field(
        default={},
        description=f"Labels for the tenant's namespaces and workloads. Each arrives as {names.LABEL_CUSTOM_PREFIX}<name>, "
        "so it can select nothing it should not.",
    )
    cost_center: LabelValue | None = Field(
        default=None,
        description=f"Who pays. Copied to the tenant's objects as the label {names.LABEL_CUSTOM_PREFIX}cost-center.",
    )
    team: LabelValue | None = Field(
        default=None,
        description=f"Who answers for it. Copied to the tenant's objects as the label {names.LABEL_CUSTOM_PREFIX}team.",
    )
    environment: LabelValue | None = Field(
        default=None,
        description="What it is for, for example production or test. Copied to the tenant's objects as the label "
        f"{names.LABEL_CUSTOM_PREFIX}environment.",
    )
    suspend: Suspend = Field(
        default=False,
        description="Stops the tenant: no job starts; runs under way end, then no renderer runs. Everything else stays as it is.",
    )
    protected: Annotated[bool, Switch("protection is on or off, as every console shows it")] = Field(
        default=False,
        description="Refuses the deletion of this Tenant. One that is deleted all the same keeps everything, with the condition "
        "DeletionHeld, until it is unprotected or the deletion is confirmed.",
    )
    deletion_policy: Annotated[ReclaimPolicy, Defaulted()] = Field(
        default=ReclaimPolicy.RETAIN,
        description="What deleting the Tenant does to its data: Retain keeps namespaces and records, locked: no members, no "
        "renderers. Delete removes the namespaces; records follow spec.database.reclaimPolicy.",
    )


# --- status --------------------------------------------------------------------------------------------------------------
class NamespaceStatus(Model):
    """One namespace as it is."""

    name: DnsLabel = Field(description="Name of the namespace.")
    uid: Word = Field(default="", description="UID of the namespace, so that a recreated one is not taken for it.")
    ready: bool = Field(default=False, description="Whether all of the namespace's guards are in place.")
    adopted: bool | None = Field(
        default=None, description="Whether it was taken over (adopt) and found empty behind its guards."
    )


class RenderersStatus(Model):
    """The tenant's renderers as they are."""

    ready: Count | None = Field(default=None, description="Renderers that answer.")
    desired: Count | None = Field(default=None, description="Renderers wanted now.")


class TenantUsage(Model):
    """What the tenant uses."""

    jobs_active: Count | None = Field(default=None, description="Generation jobs that run now.")
    jobs_last_hour: Count | None = Field(
        default=None, description="Runs of jobs that started within the last 60 minutes."
    )
    cpu: Word = Field(default="", description="CPU that the tenant's pods reserve, in cores.")
    memory: Word = Field(default="", description="Memory that the tenant's pods reserve.")
    pods: Count | None = Field(default=None, description="Pods that exist and are not finished.")
    database_bytes: Bytes | None = Field(default=None, description="Size of what the tenant keeps in the database.")
    refreshed_at: Time | None = Field(
        default=None, description="When these figures last changed by enough to be told; jobsActive is always as now."
    )


class DeletionStep(Model):
    """One thing that deleting the Tenant does."""

    what: Line = Field(default="", description="Kind of thing, for example namespace or database.")
    name: Line = Field(default="", description="Name of the thing.")
    action: Word = Field(
        default="", description="What happens to it: Delete, Drop, Retain or Tombstone (locked and kept)."
    )
    bytes: Bytes | None = Field(
        default=None, description="Its size when the deletion was asked for, where that is known."
    )
    objects: Count | None = Field(
        default=None,
        description="How many things are in it: database rows, or objects that the namespace's quota counts.",
    )


class DeletionStatus(Model):
    """How far a deletion is."""

    plan: Annotated[tuple[DeletionStep, ...], Field(max_length=100), ListAtomic()] = Field(
        default=(), description="What the deletion does, in order."
    )
    blocked_by: Annotated[tuple[Message, ...], Field(max_length=20), ListAtomic()] = Field(
        default=(), description="What the deletion waits for."
    )


class TenantSummary(Model):
    """Short texts for kubectl get."""

    namespaces: Word = Field(default="", description="Ready and wanted namespaces, for example 2/2.")
    database: Word = Field(default="", description="State of the database in a word, for example shared.")
    renderers: Word = Field(default="", description="Ready and wanted renderers, for example 1/1.")
    jobs: Count | None = Field(default=None, description="Generation jobs that run now.")


class TenantStatus(Model):
    """What the tenant has, as the operator last saw it."""

    observed_generation: Generation | None = Field(
        default=None, description="The metadata.generation that this status is about."
    )
    conditions: Annotated[tuple[ConditionModel, ...], Field(max_length=40), ListMap("type")] = Field(
        default=(), description="State in detail. Ready is true when all of the others that promise something are."
    )
    namespaces: Annotated[tuple[NamespaceStatus, ...], Field(max_length=64), ListMap()] = Field(
        default=(), description="Namespaces of the tenant as they are."
    )
    database: DatabaseStatus | None = Field(default=None, description="The tenant's database identity as it is.")
    cache: CacheStatus | None = Field(default=None, description="The tenant's identity at Redis as it is.")
    renderers: RenderersStatus | None = Field(default=None, description="The tenant's renderers as they are.")
    usage: TenantUsage | None = Field(default=None, description="What the tenant uses.")
    isolation: IsolationStatus | None = Field(
        default=None, description="What was tried to prove the isolation, and what came of it."
    )
    deletion: DeletionStatus | None = Field(
        default=None, description="How far a deletion is. Absent while there is none."
    )
    summary: TenantSummary | None = Field(default=None, description="Short texts for kubectl get.")
    last_handled_requested_at: Line = Field(
        default="", description=f"Value of the annotation {names.ANNOTATION_REQUESTED_AT} that was last acted upon."
    )


class Tenant(Object):
    """A Tenant as read from the API server."""

    definition: ClassVar[Definition] = Definition(
        kind="Tenant",
        plural="tenants",
        short_name="utn",
        namespaced=False,
        summary="Tenant is an organisation on the platform: its namespaces, members, limits, database and renderers.",
        columns=(
            Column("Tier", ".spec.tier", "What the tenant is entitled to."),
            *READY_COLUMNS,
            Column("Namespaces", ".status.summary.namespaces", "Ready and wanted namespaces."),
            Column("Database", ".status.summary.database", "State of the database."),
            Column("Renderers", ".status.summary.renderers", "Ready and wanted renderers."),
            Column("Jobs", ".status.summary.jobs", "Generation jobs that run now.", type="integer"),
            AGE_COLUMN,
            Column("Region", ".spec.region", "Where its data and pods have to be.", wide=True),
            Column("CPU", ".status.usage.cpu", "CPU that its pods reserve.", wide=True),
            Column("Memory", ".status.usage.memory", "Memory that its pods reserve.", wide=True),
            Column("Role", ".status.database.role", "PostgreSQL role of the tenant.", wide=True),
            MESSAGE_COLUMN,
        ),
        status=TenantStatus,
        selectable=(".spec.tier",),
    )
    rules: ClassVar[tuple[Cel, ...]] = (
        Cel(
            f"self.metadata.name.size() <= {MAX_NAME} && self.metadata.name.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')",
            f"the name of a Tenant has at most {MAX_NAME} lower-case letters, digits and '-', as tenant-<name> names a namespace",
            check=lambda tenant: len(tenant.name) <= MAX_NAME and "." not in tenant.name,
        ),
    )

    spec: TenantSpec

    @property
    def namespaces(self) -> tuple[str, ...]:
        """Names of the namespaces that the tenant should have, in the order of the spec; the first is its main one."""
        if self.spec.namespaces is None:
            return (names.default_namespace(self.name),)
        return tuple(item.name for item in self.spec.namespaces)

    @property
    def database_mode(self) -> DatabaseMode:
        """The mode in effect when the spec says nothing."""
        return self.spec.database.mode or DatabaseMode.SHARED

    @property
    def reclaim_policy(self) -> ReclaimPolicy:
        """What happens to the records at deletion: Delete only when the Tenant and its database both say so."""
        both = (self.spec.deletion_policy, self.spec.database.reclaim_policy)
        return ReclaimPolicy.DELETE if both == (ReclaimPolicy.DELETE, ReclaimPolicy.DELETE) else ReclaimPolicy.RETAIN

    @property
    def custom_labels(self) -> dict[str, str]:
        """``spec.labels``, and the fields that are labels too, as they stand on children, under our prefix."""
        spec = self.spec
        own = {
            "cost-center": spec.cost_center,
            "team": spec.team,
            "environment": spec.environment,
            "region": spec.region,
        }
        labels = {**spec.labels, **{key: value for key, value in own.items() if value}}
        return {names.LABEL_CUSTOM_PREFIX + key: value for key, value in sorted(labels.items())}
