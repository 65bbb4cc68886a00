"""What is to be done for a GenerationJob now: ``plan_job`` gives exactly one decision. Pure.

    Done            finished at this generation (perhaps to be deleted after its ttl)
    Stop            it ends here without a run: cancelled, or a failure that only the user can mend
    Pause           suspended, by itself or by its tenant
    Run             render and publish; everything that is needed is frozen in it

Waiting for something else (registry, ConfigMap, tenant) is raised as ``errors.Waiting``. Called by ``job.reconcile``.
"""

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

import orjson

from unjucks_api.conditions import ConditionType, find_condition
from unjucks_api.reasons import Reason
from unjucks_api.render_protocol import Action, EngineOptions, OnFinding, Policy
from unjucks_api.v1alpha1.data_policy import DataPolicy
from unjucks_api.v1alpha1.generation_job import GenerationJob
from unjucks_api.v1alpha1.template_registry import TemplateRegistry
from unjucks_api.variable_messages import ProblemKind
from unjucks_api.variables import validate
from unjucks_operator.artifact import artifact_digest, engine_options, refuse_classification, template_policy
from unjucks_operator.errors import Terminal, Waiting
from unjucks_operator.job.dependencies import require_dependencies
from unjucks_operator.job.matrix import Item, expand_matrix
from unjucks_operator.job.schedule import next_time
from unjucks_operator.job.variables import Merged, SourceKey, merge_variables

RETRY_REGISTRY = 15.0
"""Seconds until a registry that is missing or not ready is looked at again; its events tell earlier."""


@dataclass(frozen=True, slots=True)
class Done:
    """Nothing to run. ``delete_at``: when the ttl of the outcome ends."""

    delete_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Stop:
    """The job ends now with this reason."""

    reason: Reason
    message: str


@dataclass(frozen=True, slots=True)
class Pause:
    """The job may not start."""

    message: str


@dataclass(frozen=True, slots=True)
class Occasion:
    """Why a job runs once more although nothing that it reads has changed. ``name`` becomes a part of the run's key.

    ``repair``: edits of the output are undone. ``dry``: only the diff is made.
    """

    name: str = ""
    repair: bool = False
    dry: bool = False
    scheduled: datetime | None = None


@dataclass(frozen=True, slots=True)
class Run:
    """A run, frozen: what is rendered with what, and the key under which it is published at most once."""

    key: str
    inputs_digest: str
    tree: str
    generator: str
    action: str
    variables: dict[str, Any]
    sensitive: tuple[str, ...]
    engine: EngineOptions
    shared_schema: dict[str, Any] = field(default_factory=dict)
    on_finding: OnFinding = OnFinding.WARN
    items: tuple[Item, ...] = ()
    """The runs of a matrix, each with its whole variables as ``values``."""
    action_digest: str = ""
    deprecation: str = ""
    occasion: Occasion = Occasion()
    policy: Policy = field(default_factory=Policy)
    """What the registry lets its templates do."""


Decision = Done | Stop | Pause | Run


@dataclass(frozen=True, slots=True)
class JobObserved:
    """Everything read before planning. ``actions`` are those of the registry's current artifact."""

    tenant_suspended: bool
    data_policy: DataPolicy
    registry: TemplateRegistry | None
    actions: tuple[Action, ...] | None
    sources: Mapping[SourceKey, Mapping[str, str] | None]
    inputs_key: bytes
    """Secret key of this tenant: digests of inputs must not let anybody guess the inputs."""
    dependencies: Mapping[str, Mapping[str, Any] | None] = field(default_factory=dict)
    """Bodies of the jobs that ``dependsOn`` leads to, also over others, by name; None for one that does not exist."""


def has_ended(status: Mapping[str, Any]) -> bool:
    """Whether the status tells of an end, of whatever generation."""
    return any(
        (find_condition(status, kind) or {}).get("status") == "True"
        for kind in (ConditionType.COMPLETE, ConditionType.FAILED)
    )


def is_finished(job: GenerationJob) -> bool:
    """Whether the job ended at its current generation and nobody asked for another run since."""
    status = job.status
    return (
        has_ended(status)
        and status.get("observedGeneration") == job.generation
        and (status.get("lastHandledRequestedAt") or "") == job.requested_at
    )


def plan_at_rest(job: GenerationJob) -> Stop | Pause | None:
    """What the job's own switches decide, whatever the outside is like: a job can be cancelled while its database is down."""
    if job.spec.cancel:
        return Stop(Reason.CANCELLED, "spec.cancel: the job was cancelled")
    if job.spec.suspend:
        return Pause("spec.suspend: the job does not start")
    return None


def plan_job(
    job: GenerationJob, observed: JobObserved, occasion: Occasion | None = None, now: datetime | None = None
) -> Decision:
    """The one decision for now. Raises Waiting for dependencies, Terminal for inputs that cannot work.

    ``occasion``: a finished job runs once more. ``now``: a schedule must have a time after it.
    """
    if is_finished(job) and occasion is None:
        return Done(delete_at(job))
    at_rest = plan_at_rest(job)
    if at_rest is not None:
        return at_rest
    if observed.tenant_suspended:
        return Pause("the tenant is suspended: no job starts")
    if job.spec.schedule is not None and now is not None:
        next_time(job.spec.schedule, now)
    require_dependencies(job.name, [it.name for it in job.spec.depends_on], observed.dependencies)
    registry = require_registry(job, observed)
    refuse_classification(registry, observed.data_policy)
    action = require_action(job, registry, observed)
    return _freeze(job, registry, action, observed, occasion or Occasion())


def require_registry(job: GenerationJob, observed: JobObserved) -> TemplateRegistry:
    name = job.spec.registry_ref.name
    if observed.registry is None:
        raise Waiting(
            f"TemplateRegistry {name} does not exist in namespace {job.namespace}",
            reason=Reason.REGISTRY_NOT_FOUND,
            after=RETRY_REGISTRY,
        )
    if not artifact_digest(observed.registry) or observed.actions is None:
        ready = find_condition(observed.registry.status, ConditionType.READY) or {}
        why = ready.get("message") or "it was not read yet"
        raise Waiting(
            f"TemplateRegistry {name} serves no templates yet: {why}",
            reason=Reason.REGISTRY_NOT_READY,
            after=RETRY_REGISTRY,
        )
    if observed.registry.status.get("observedGeneration") != observed.registry.generation:
        # Applied together with the job: what it serves is still the state before the change.
        raise Waiting(
            f"TemplateRegistry {name} is being read again after a change",
            reason=Reason.REGISTRY_NOT_READY,
            after=RETRY_REGISTRY,
        )
    return observed.registry


def require_action(job: GenerationJob, registry: TemplateRegistry, observed: JobObserved) -> Action:
    template = job.spec.template
    wanted = f"{template.generator}/{template.action}"
    if template.digest and template.digest != artifact_digest(registry):
        raise Terminal(
            f"template.digest is {template.digest}, but TemplateRegistry {registry.name} serves {artifact_digest(registry)}",
            reason=Reason.TEMPLATE_NOT_FOUND,
        )
    actions = observed.actions or ()
    for action in actions:
        if (action.generator, action.action) == (template.generator, template.action):
            if action.valid:
                return action
            problem = next(item for item in action.problems if item.severity == "error")
            raise Terminal(
                f"template {wanted} is invalid: {problem.path}:{problem.line}:{problem.column}: {problem.message}",
                reason=Reason.TEMPLATES_INVALID,
            )
    known = ", ".join(sorted(f"{action.generator}/{action.action}" for action in actions)[:20]) or "none"
    raise Terminal(
        f"TemplateRegistry {registry.name} has no template {wanted}; it has: {known}", reason=Reason.TEMPLATE_NOT_FOUND
    )


def _freeze(
    job: GenerationJob, registry: TemplateRegistry, action: Action, observed: JobObserved, occasion: Occasion
) -> Run:
    merged = merge_variables(job.spec.variables, job.spec.variables_from, observed.sources)
    variables: dict[str, Any] = {}
    items: tuple[Item, ...] = ()
    if job.spec.matrix is None:
        variables = _valid(action, merged, {}, "")
    else:
        items = tuple(
            replace(item, values=_valid(action, merged, item.values, item.label))
            for item in expand_matrix(job.spec.matrix)
        )
    engine = engine_options(registry)
    on_finding = observed.data_policy.on_finding_in(registry.classification)
    spec, policy = job.spec, template_policy(registry)
    inputs = orjson.dumps(
        {
            "action": action.digest,
            "template": [action.generator, action.action],
            "engine": engine.model_dump(),
            "sharedSchema": registry.spec.variables.schema_,
            "variables": variables,
            "matrix": [[item.below, item.values] for item in items],
            "output": spec.output.wire() if spec.output else None,
            "how": [job.mode, spec.on_conflict, spec.prune, spec.dry_run, spec.provenance.enabled],
            "onFinding": on_finding.value,
            "policy": policy.model_dump(),
        },
        option=orjson.OPT_SORT_KEYS,
    )
    digest = hmac.new(observed.inputs_key, inputs, hashlib.sha256).hexdigest()
    run = "\0".join((job.uid, str(job.generation), job.requested_at, occasion.name, digest))
    return Run(
        key=hmac.new(observed.inputs_key, run.encode(), hashlib.sha256).hexdigest()[:40],
        inputs_digest=f"hmac-sha256:{digest}",
        tree=artifact_digest(registry),
        generator=action.generator,
        action=action.action,
        variables=variables,
        sensitive=merged.sensitive,
        engine=engine,
        shared_schema=registry.spec.variables.schema_,
        on_finding=on_finding,
        items=items,
        action_digest=action.digest,
        deprecation=action.deprecation,
        occasion=occasion,
        policy=policy,
    )


def _valid(action: Action, merged: Merged, more: Mapping[str, Any], label: str) -> dict[str, Any]:
    """The variables of one run with defaults filled in. Raises Terminal with everything that is wrong."""
    values = {**merged.values, **more}
    texts = frozenset(text for text in merged.texts if text.split(".")[0] not in more)
    variables, problems = validate(action.schema_, values, text=texts, sensitive=merged.sensitive)
    if problems:
        missing = all(problem.kind is ProblemKind.MISSING for problem in problems)
        where = f"{label}: " if label else ""
        raise Terminal(
            where + "; ".join(str(problem) for problem in problems),
            reason=Reason.VARIABLES_MISSING if missing else Reason.VARIABLES_INVALID,
        )
    return variables


def delete_at(job: GenerationJob) -> datetime | None:
    """When the time to live of a finished job ends; None when it stays."""
    failed = find_condition(job.status, ConditionType.FAILED) is not None
    ttl = job.ttl_after_failure if failed else job.ttl_after_success
    ended = job.status.get("completionTime")
    if ttl is None or not ended:
        return None
    return datetime.fromisoformat(str(ended)) + timedelta(seconds=ttl)
