"""Every label, annotation, finalizer, field manager and object name of the project, once.

Nothing else in the code spells one of these out; a reader who greps for a label finds it here. Pure constants and the pure
functions that derive names. Called by everyone.
"""

import hashlib
from typing import Final

GROUP: Final = "unjucks.io"
VERSION: Final = "v1alpha1"
API_VERSION: Final = f"{GROUP}/{VERSION}"
PLATFORM_NAMESPACE: Final = "unjucks-system"  # where the operator itself lives; never a tenant's

# --- finalizers and annotations people may set --------------------------------------------------------------------------
FINALIZER_TENANT: Final = f"{GROUP}/tenant-cleanup"
ANNOTATION_RECONCILE: Final = f"{GROUP}/reconcile"  # "disabled" pauses the object; shown as the condition Paused
RECONCILE_DISABLED: Final = "disabled"
ANNOTATION_REQUESTED_AT: Final = f"{GROUP}/requested-at"  # any new value: run again now
ANNOTATION_APPROVAL: Final = f"{GROUP}/approval"
ANNOTATION_APPROVED: Final = f"{GROUP}/approved"  # by the webhooks: sealed records of who approved what
ANNOTATION_CONFIRM_DELETE: Final = f"{GROUP}/confirm-delete"
ANNOTATION_BACKUP_CONFIRMED: Final = (
    f"{GROUP}/backup-confirmed"  # the time of a backup that holds the tenant's last state
)
ANNOTATION_ADOPTION_CONSENT: Final = (
    f"{GROUP}/adoption-consent"  # on a namespace, by an administrator: the tenant's name
)
ANNOTATION_DIFF_OF: Final = (
    f"{GROUP}/diff-of"  # on a dry run, by kubectl unjucks diff: the job of the same namespace whose output it looks at
)
# What a person's request may set or change on our kinds; the chart's policy unjucks-kinds refuses every other annotation of ours.
USER_ANNOTATIONS: Final = (
    ANNOTATION_APPROVAL,
    ANNOTATION_APPROVED,
    ANNOTATION_BACKUP_CONFIRMED,
    ANNOTATION_CONFIRM_DELETE,
    ANNOTATION_DIFF_OF,
    ANNOTATION_RECONCILE,
    ANNOTATION_REQUESTED_AT,
)

# --- annotations we write on our own children ---------------------------------------------------------------------------
ANNOTATION_MANIFEST_DIGEST: Final = f"{GROUP}/manifest-digest"
ANNOTATION_RUN_KEY: Final = f"{GROUP}/run-key"
ANNOTATION_CERT_NOT_AFTER: Final = f"{GROUP}/certificate-not-after"
ANNOTATION_CERT_SERIAL: Final = f"{GROUP}/certificate-serial"
ANNOTATION_CREDENTIAL_VERSION: Final = f"{GROUP}/credential-version"
ANNOTATION_CACHE_HASH: Final = f"{GROUP}/cache-password-sha256"
ANNOTATION_CACHE_PREVIOUS_HASH: Final = f"{GROUP}/cache-previous-password-sha256"
ANNOTATION_CACHE_ROTATED_AT: Final = f"{GROUP}/cache-rotated-at"
ANNOTATION_SHAPE_PREFIX: Final = (
    f"{GROUP}/shape-"  # + concern; the child writer's digest of which fields it wrote (no values)
)

# --- labels on children -------------------------------------------------------------------------------------------------
LABEL_NAME: Final = "app.kubernetes.io/name"
LABEL_COMPONENT: Final = "app.kubernetes.io/component"
LABEL_PART_OF: Final = "app.kubernetes.io/part-of"
LABEL_MANAGED_BY: Final = "app.kubernetes.io/managed-by"
LABEL_TENANT: Final = f"{GROUP}/tenant"
LABEL_TENANT_UID: Final = f"{GROUP}/tenant-uid"
LABEL_JOB: Final = f"{GROUP}/job"
LABEL_JOB_UID: Final = f"{GROUP}/job-uid"
LABEL_CUSTOM_PREFIX: Final = f"labels.{GROUP}/"  # spec.labels of a Tenant arrive on children under this prefix only
PART_OF: Final = "unjucks"
MANAGED_BY: Final = "unjucks-operator"
MANAGED_SELECTOR: Final = f"{LABEL_MANAGED_BY}={MANAGED_BY}"

COMPONENT_OPERATOR: Final = "operator"
COMPONENT_TENANT: Final = "tenant"
COMPONENT_RENDERER: Final = "renderer"
COMPONENT_COURIER: Final = "courier"
COMPONENT_CACHE: Final = "cache"
COMPONENT_DATABASE: Final = "database"
COMPONENT_PROBE_SERVER: Final = "network-probe-server"  # the two pods that try whether policies are enforced
COMPONENT_PROBE_CLIENT: Final = "network-probe-client"
COMPONENT_OUTPUT: Final = "output"
COMPONENT_DIFF: Final = "diff"  # ConfigMap <job>-diff
COMPONENT_WEBHOOKS: Final = "webhooks"

# --- field managers of server-side apply, one for each concern -----------------------------------------------------------
FIELD_MANAGER_PREFIX: Final = "unjucks-operator/"
MANAGER_TENANT: Final = FIELD_MANAGER_PREFIX + "tenant"
MANAGER_RENDERER: Final = FIELD_MANAGER_PREFIX + "renderer"
MANAGER_COURIER: Final = FIELD_MANAGER_PREFIX + "courier"
MANAGER_JOB: Final = FIELD_MANAGER_PREFIX + "job"
MANAGER_REGISTRY: Final = FIELD_MANAGER_PREFIX + "registry"
MANAGER_CACHE: Final = FIELD_MANAGER_PREFIX + "cache"
MANAGER_DATABASE: Final = FIELD_MANAGER_PREFIX + "database"
MANAGER_STATUS: Final = FIELD_MANAGER_PREFIX + "status"
MANAGER_PLATFORM: Final = FIELD_MANAGER_PREFIX + "platform"  # our own CA Secret, Lease
RECOUNT_HAND: Final = "unjucks-recount"  # not one of ours on purpose: what it changes is repaired as a stranger's edit

REPORTING_CONTROLLER: Final = f"{GROUP}/operator"

# --- names of children --------------------------------------------------------------------------------------------------
QUOTA: Final = "unjucks-quota"
LIMITS: Final = "unjucks-limits"
DATABASE_SECRET_SUFFIX: Final = "-database"  # noqa: S105  Secret <tenant>-database: the tenant's own login
POLICY_DENY: Final = "unjucks-default-deny"
POLICY_DNS: Final = "unjucks-allow-dns"
POLICY_INGRESS: Final = "unjucks-allow-ingress"  # spec.network.ingressFrom of a Tenant
POLICY_EGRESS: Final = "unjucks-allow-egress"  # spec.network.egressTo of a Tenant
POLICY_RENDERER: Final = "unjucks-allow-operator-to-renderer"
RENDERER: Final = "unjucks-renderer"  # ServiceAccount, Secret and Deployment of the tenant's renderers
POLICY_COURIER: Final = "unjucks-allow-courier"
COURIER: Final = "unjucks-courier"  # ServiceAccount, Secret and Deployment of the tenant's courier
BINDING_OWNERS: Final = "unjucks-owners"
BINDING_EDITORS: Final = "unjucks-editors"
BINDING_VIEWERS: Final = "unjucks-viewers"
READER_PREFIX: Final = "unjucks-read-tenant-"  # + the Tenant's name: ClusterRole and ClusterRoleBinding
CLUSTER_ROLE_OWNER: Final = "unjucks-tenant-owner"
CLUSTER_ROLE_EDITOR: Final = "unjucks-tenant-editor"
CLUSTER_ROLE_VIEWER: Final = "unjucks-tenant-viewer"
CA_SECRET: Final = "unjucks-operator-ca"  # noqa: S105  the name of a Secret, not a secret
SIGNING_KEY: Final = "provenance.key"  # in the Secret of provenance.signingSecret: a private key in PEM
INPUTS_SECRET: Final = "unjucks-operator-inputs"  # noqa: S105  the name of a Secret, not a secret
WEBHOOKS: Final = "unjucks-webhooks"  # Deployment, Service, account and both webhook configurations
WEBHOOKS_TLS_SECRET: Final = "unjucks-webhooks-tls"  # noqa: S105  the name of a Secret, not a secret
APPROVALS_SECRET: Final = "unjucks-approvals"  # noqa: S105  the name of a Secret, not a secret
APPROVALS_KEY: Final = "approvals.key"  # in that Secret: seals the records of approvals
LEASE: Final = "unjucks-operator"
RENDERER_PORT: Final = 8443
COURIER_PORT: Final = 8443
PROBE: Final = "unjucks-network-probe"  # prefix of the probe's pods and policies; ConfigMap with its last result

DATABASE_NAME_DIGITS: Final = 12
CACHE_NAME_DIGITS: Final = 20


def database_secret(tenant: str) -> str:
    """The Secret with the tenant's own login, in its main namespace."""
    return tenant + DATABASE_SECRET_SUFFIX


def default_namespace(tenant: str) -> str:
    """The namespace that a Tenant without ``spec.namespaces`` gets."""
    return f"tenant-{tenant}"


def shape_annotation(manager: str) -> str:
    """The annotation under which a field manager notes the shape of what it wrote; one for each concern."""
    return ANNOTATION_SHAPE_PREFIX + manager.removeprefix(FIELD_MANAGER_PREFIX)


def database_role(tenant_uid: str) -> str:
    """The opaque PostgreSQL role of a tenant: from its UID, so that a recreated Tenant of the same name is somebody else."""
    return "ut_" + hashlib.sha256(tenant_uid.encode()).hexdigest()[:DATABASE_NAME_DIGITS]


def cache_user(tenant_uid: str) -> str:
    """The opaque Redis user of a tenant. It starts like its database role and is longer: no server refuses a second owner there."""
    return "ut_" + hashlib.sha256(tenant_uid.encode()).hexdigest()[:CACHE_NAME_DIGITS]


def cache_prefix(tenant_uid: str) -> str:
    """What every key and channel of a tenant starts with. Its last character is in no user's name: no prefix of another."""
    return cache_user(tenant_uid) + ":"


def cache_secret(tenant: str) -> str:
    """The Secret with a tenant's credential for Redis, in its first namespace."""
    return f"{tenant}-cache"


def renderer_identity(tenant_uid: str) -> str:
    """The DNS name in a renderer's server certificate; never resolved, only compared (one identity per tenant UID)."""
    return f"renderer.{tenant_uid}.{GROUP}"


def courier_identity(tenant_uid: str) -> str:
    """The DNS name in a courier's server certificate; never resolved, only compared."""
    return f"courier.{tenant_uid}.{GROUP}"


OPERATOR_IDENTITY: Final = f"operator.{GROUP}"  # the DNS name in the operator's client certificate


def tenant_labels(tenant: str, tenant_uid: str, component: str) -> dict[str, str]:
    """The labels that every child of a tenant carries; the UID guards against delete-and-recreate of the same name."""
    return {
        LABEL_NAME: "unjucks",
        LABEL_COMPONENT: component,
        LABEL_PART_OF: PART_OF,
        LABEL_MANAGED_BY: MANAGED_BY,
        LABEL_TENANT: tenant,
        LABEL_TENANT_UID: tenant_uid,
    }
