"""Objects for unit tests: the smallest valid ones, with any part replaced. Pure."""

from typing import Any

from unjucks_api.v1alpha1.generation_job import GenerationJob
from unjucks_api.v1alpha1.template_registry import TemplateRegistry
from unjucks_api.v1alpha1.tenant import Tenant

TENANT_UID = "5d9a3b1e-0000-4000-8000-00000000aaaa"
JOB_UID = "5d9a3b1e-0000-4000-8000-00000000bbbb"


def tenant_body(name: str = "acme", *, spec: dict[str, Any] | None = None, **metadata: Any) -> dict[str, Any]:
    """A Tenant as the API server holds it."""
    return {
        "apiVersion": "unjucks.io/v1alpha1",
        "kind": "Tenant",
        "metadata": {"name": name, "uid": TENANT_UID, "resourceVersion": "1", "generation": 1, **metadata},
        "spec": {"tier": "starter", **(spec or {})},
    }


def tenant(name: str = "acme", *, spec: dict[str, Any] | None = None, **metadata: Any) -> Tenant:
    """The same, parsed."""
    return Tenant.parse(tenant_body(name, spec=spec, **metadata))


def registry(
    *, spec: dict[str, Any] | None = None, status: dict[str, Any] | None = None, **metadata: Any
) -> TemplateRegistry:
    """A TemplateRegistry with one inline file."""
    return TemplateRegistry.parse(
        {
            "apiVersion": "unjucks.io/v1alpha1",
            "kind": "TemplateRegistry",
            "metadata": {
                "name": "platform",
                "namespace": "tenant-acme",
                "uid": "5d9a3b1e-0000-4000-8000-00000000cccc",
                "resourceVersion": "1",
                "generation": 1,
                **metadata,
            },
            "spec": {"inline": {"files": {"_templates/a/b/c.txt.njk": "hello"}}, **(spec or {})},
            "status": status or {},
        }
    )


def job(*, spec: dict[str, Any] | None = None, status: dict[str, Any] | None = None, **metadata: Any) -> GenerationJob:
    """A GenerationJob that runs service/new of the registry ``platform`` into the ConfigMap ``out``."""
    return GenerationJob.parse(
        {
            "apiVersion": "unjucks.io/v1alpha1",
            "kind": "GenerationJob",
            "metadata": {
                "name": "orders",
                "namespace": "tenant-acme",
                "uid": JOB_UID,
                "resourceVersion": "1",
                "generation": 1,
                **metadata,
            },
            "spec": {
                "registryRef": {"name": "platform"},
                "template": {"generator": "service", "action": "new"},
                "output": {"configMap": {"name": "out"}},
                **(spec or {}),
            },
            "status": status or {},
        }
    )
