"""What a TemplateRegistry serves, as the job and the registry rooms both read it. Pure functions over the object."""

from unjucks_api.render_protocol import EngineOptions
from unjucks_api.v1alpha1.template_registry import TemplateRegistry


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
