"""Version v1alpha1 of the API: Tenant, TemplateRegistry and GenerationJob as pydantic models. Pure.

``Tenant.parse(body)`` (and so on) reads an object and raises only InvalidObjectError.
"""

from unjucks_api.v1alpha1.common import InvalidObjectError, Object
from unjucks_api.v1alpha1.generation_job import GenerationJob
from unjucks_api.v1alpha1.template_registry import TemplateRegistry
from unjucks_api.v1alpha1.tenant import Tenant

KINDS: tuple[type[Object], ...] = (Tenant, TemplateRegistry, GenerationJob)

__all__ = ["KINDS", "GenerationJob", "InvalidObjectError", "Object", "TemplateRegistry", "Tenant"]
