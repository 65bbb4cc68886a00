"""Registries and jobs for tests against a real API server."""

from typing import Any

from support.operator_process import Site
from unjucks_api import names

TEMPLATES = {
    "_templates/greet/new/action.yaml": (
        "description: greets\n"
        "variables:\n"
        "  name: {type: string, pattern: '^[a-z]+$'}\n"
        "  count: {type: integer, default: 1, maximum: 5}\n"
        "  token: {type: string, default: none}\n"
    ),
    "_templates/greet/new/{{ name }}.txt.njk": "Hello {{ name }}!\n{% for i in range(count) %}{{ i }}\n{% endfor %}",
    "_templates/greet/new/docs/token.txt.njk": "{{ token }}\n",
    "_templates/greet/undefined/action.yaml": "variables: {settings: {type: object, default: {}}}\n",
    "_templates/greet/undefined/x.txt.njk": "first\n{{ settings.missing }}\n",
    "_templates/greet/big/action.yaml": "variables: {size: {type: integer}}\n",
    "_templates/greet/big/big.txt.njk": "{% for i in range(size) %}0123456789012345678901234567890123456789\n{% endfor %}",
    "_templates/greet/slow/action.yaml": "variables: {rounds: {type: integer, default: 500}}\n",
    # The engine bounds the work of one file to a fraction of a second, so what has to take long has many files.
    **{
        f"_templates/greet/slow/part{number:02}.txt.njk": (
            "{% for i in range(rounds) %}{% for j in range(1000) %}{% set x = i + j %}{% endfor %}{% endfor %}done\n"
        )
        for number in range(60)
    },
}


def registry_manifest(
    namespace: str, name: str = "templates", files: dict[str, str] | None = None, **spec: Any
) -> dict[str, Any]:
    """An inline registry as a user writes it."""
    return {
        "apiVersion": names.API_VERSION,
        "kind": "TemplateRegistry",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"inline": {"files": files or TEMPLATES}, **spec},
    }


def job_manifest(
    namespace: str,
    name: str,
    variables: dict[str, Any] | None = None,
    *,
    action: str = "new",
    registry: str = "templates",
    **spec: Any,
) -> dict[str, Any]:
    """A job that runs greet/<action> into the ConfigMap of its own name."""
    return {
        "apiVersion": names.API_VERSION,
        "kind": "GenerationJob",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "registryRef": {"name": registry},
            "template": {"generator": "greet", "action": action},
            "variables": variables or {},
            "output": {"configMap": {"name": name}},
            **spec,
        },
    }


def ready_of(body: dict[str, Any] | None) -> dict[str, Any]:
    """The condition Ready of an object; an empty one when there is none."""
    assert body is not None
    conditions = (body.get("status") or {}).get("conditions") or ()
    return next((item for item in conditions if item["type"] == "Ready"), {})


async def wait_job(site: Site, namespace: str, name: str, seconds: float = 60) -> None:
    """Until the job has succeeded."""
    await site.wait_for(f"generationjob/{name}", "condition=Ready", seconds, namespace)
