"""The closed list of reasons that conditions and events carry. Each has a page in ``docs/runbooks/`` (a test checks).

A reason is CamelCase, names the cause, and is never reused for another meaning. Pure; called by everyone.
"""

from enum import StrEnum


class Reason(StrEnum):
    """Why a condition has its status. The value is what users see."""

    # progress
    RECONCILED = "Reconciled"
    PROGRESSING = "Progressing"
    PAUSED = "Paused"
    SUSPENDED = "Suspended"
    BLOCKED = "Blocked"  # an earlier stage has to finish first
    DELETING = "Deleting"
    DELETION_HELD = "DeletionHeld"
    PROTECTED = "Protected"  # deleted although spec.protected
    MASS_DELETION = "MassDeletion"  # one of very many deletions at once
    APPROVED = "Approved"  # of an event: a destructive change was approved with a second factor
    # every kind
    INVALID_SPEC = "InvalidSpec"
    NOT_PERMITTED = "NotPermitted"
    OWNERSHIP_CONFLICT = "OwnershipConflict"
    CONFLICT = "Conflict"
    THROTTLED = "Throttled"
    API_SERVER_UNAVAILABLE = "ApiServerUnavailable"
    DATABASE_UNAVAILABLE = "DatabaseUnavailable"
    RENDERER_UNAVAILABLE = "RendererUnavailable"
    INTERNAL_ERROR = "InternalError"
    TENANT_NOT_FOUND = "TenantNotFound"  # the object's namespace belongs to no Tenant
    TENANT_NOT_READY = "TenantNotReady"
    # Tenant
    NAMESPACE_TERMINATING = "NamespaceTerminating"
    ADOPTION_REFUSED = "AdoptionRefused"
    QUOTA_PENDING = "QuotaPending"
    REGION_NOT_SERVED = "RegionNotServed"
    POLICY_NOT_ENFORCED = "PolicyNotEnforced"  # forbidden packets get through
    POLICY_UNVERIFIED = "PolicyUnverified"
    NETWORK_RULE_REFUSED = "NetworkRuleRefused"
    CLUSTER_RANGES_UNKNOWN = "ClusterRangesUnknown"
    RENDERER_STARTING = "RendererStarting"
    SCALED_TO_ZERO = "ScaledToZero"
    DATABASE_DISABLED = "DatabaseDisabled"
    DATABASE_NOT_OFFERED = "DatabaseNotOffered"  # a mode or direct access that the tier or the platform does not give
    DATABASE_LOST = "DatabaseLost"  # the tenant's own database is not there any more, or only half
    CONNECTION_BUDGET = "ConnectionBudget"
    DIRECT_ACCESS_DISABLED = "DirectAccessDisabled"
    MIGRATING = "Migrating"
    CACHE_DISABLED = "CacheDisabled"
    CACHE_NOT_CONFIGURED = "CacheNotConfigured"
    CACHE_NOT_PROTECTED = "CacheNotProtected"  # the server lets anybody in without a password
    CACHE_UNAVAILABLE = "CacheUnavailable"
    ISOLATION_BROKEN = "IsolationBroken"  # a check found a way from one tenant to another
    ISOLATION_UNVERIFIED = "IsolationUnverified"
    # TemplateRegistry
    SUCCEEDED = "Succeeded"
    SOURCE_NOT_FOUND = "SourceNotFound"
    ARCHIVE_INVALID = "ArchiveInvalid"
    ARCHIVE_TOO_LARGE = "ArchiveTooLarge"
    PATH_NOT_FOUND = "PathNotFound"
    TEMPLATES_INVALID = "TemplatesInvalid"
    NO_TEMPLATES = "NoTemplates"
    URL_INVALID = "UrlInvalid"
    AUTHENTICATION_FAILED = "AuthenticationFailed"
    FETCH_FAILED = "FetchFailed"
    REVISION_NOT_FOUND = "RevisionNotFound"
    VERIFICATION_FAILED = "VerificationFailed"  # a signature or a digest is not the expected one
    EGRESS_REFUSED = "EgressRefused"  # the courier must not connect to where the URL leads
    DEPENDENCY_NOT_READY = "DependencyNotReady"  # something that is referred to does not exist, or is not ready
    COURIER_STARTING = "CourierStarting"
    COURIER_UNAVAILABLE = "CourierUnavailable"
    # GenerationJob
    UP_TO_DATE = "UpToDate"
    DRY_RUN_COMPLETE = "DryRunComplete"
    QUEUED = "Queued"
    RUNNING = "Running"
    REGISTRY_NOT_FOUND = "RegistryNotFound"
    REGISTRY_NOT_READY = "RegistryNotReady"
    TEMPLATE_NOT_FOUND = "TemplateNotFound"
    VARIABLES_INVALID = "VariablesInvalid"
    VARIABLES_MISSING = "VariablesMissing"
    VARIABLES_REF_NOT_FOUND = "VariablesRefNotFound"
    TEMPLATE_ERROR = "TemplateError"
    UNDEFINED_VARIABLE = "UndefinedVariable"
    PATH_REJECTED = "PathRejected"
    OUTPUT_COLLISION = "OutputCollision"
    ANCHOR_NOT_FOUND = "AnchorNotFound"
    LIMIT_EXCEEDED = "LimitExceeded"
    OUTPUT_TOO_LARGE = "OutputTooLarge"
    SENSITIVE_DATA_BLOCKED = "SensitiveDataBlocked"
    SENSITIVE_DATA_FOUND = "SensitiveDataFound"
    NOT_OWNED = "NotOwned"
    CANCELLED = "Cancelled"
    DEADLINE_EXCEEDED = "DeadlineExceeded"
    RETRY_LIMIT_REACHED = "RetryLimitReached"
    RENDERER_LOST = "RendererLost"
    MANIFEST_MISMATCH = "ManifestMismatch"
    MERGE_CONFLICT = "MergeConflict"  # files were changed where the templates change them too
    DRIFT_DETECTED = "DriftDetected"  # the output is not what the templates give, or not what was written
    TEMPLATE_OUTDATED = "TemplateOutdated"  # the registry serves a newer version of what ran
    TEMPLATE_DEPRECATED = "TemplateDeprecated"
    PUBLISH_FAILED = "PublishFailed"
    PROTECTED_BRANCH = "ProtectedBranch"  # the Git server refuses the push to this branch
