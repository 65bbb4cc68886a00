"""What a TemplateRegistry serves, as the job and the registry rooms both read it. Pure functions over the object."""

import hashlib

import orjson

from unjucks_api.render_protocol import EngineOptions, Policy
from unjucks_api.v1alpha1.data_policy import DataPolicy
from unjucks_api.v1alpha1.template_registry import Inject, TemplateRegistry
from unjucks_operator.errors import NotPermitted


def artifact_digest(registry: TemplateRegistry) -> str:
    """The digest of the tree that is served; empty while nothing is."""
    return str((registry.status.get("artifact") or {}).get("digest") or "")


def engine_options(registry: TemplateRegistry) -> EngineOptions:
    """``spec.engine`` in the words of the render protocol."""
    engine = registry.spec.engine
    return EngineOptions(
        undefined=engine.undefined.value,
        trim_blocks=engine.trim_blocks,
        lstrip_blocks=engine.lstrip_blocks,
        autoescape=engine.autoescape,
    )


def template_policy(registry: TemplateRegistry) -> Policy:
    """``spec.policy`` in the words of the render protocol."""
    asked = registry.spec.policy
    return Policy(
        allow_paths=list(asked.paths.allow) or ["**"],
        deny_paths=list(asked.paths.deny),
        allow_inject=asked.inject is not Inject.FORBID,
    )


def refuse_classification(registry: TemplateRegistry, policy: DataPolicy) -> None:
    """Raise NotPermitted for a registry that is more confidential than its tenant may have."""
    if policy.refuses(registry.classification):
        raise NotPermitted(
            f"TemplateRegistry {registry.name} is classified {registry.classification.value}; the Tenant's "
            f"spec.dataPolicy.maximumClassification is {policy.maximum_classification}"
        )


def catalog_key(registry: TemplateRegistry, digest: str) -> str:
    """``sha256:<hex>`` that names the catalogue of a tree as this registry reads it: its options and shared schema matter too."""
    parts = [digest, engine_options(registry).model_dump(), registry.spec.variables.schema_]
    return "sha256:" + hashlib.sha256(orjson.dumps(parts, option=orjson.OPT_SORT_KEYS)).hexdigest()
