"""Reads what a GenerationJob refers to: its variables' sources and the registry's catalogue. Called by ``job.reconcile``."""

import base64
from collections.abc import Mapping

from unjucks_api.reasons import Reason
from unjucks_api.v1alpha1.generation_job import GenerationJob, VariablesKind
from unjucks_operator.errors import Terminal
from unjucks_operator.job.variables import SourceKey
from unjucks_operator.kube.api import KubeApi
from unjucks_operator.kube.resources import CONFIG_MAP, SECRET

_FORBIDDEN_TYPES = frozenset({"kubernetes.io/service-account-token", "bootstrap.kubernetes.io/token"})
"""Whoever may create jobs must not read through them what lets one act as somebody else in the cluster."""


async def read_sources(api: KubeApi, job: GenerationJob) -> dict[SourceKey, Mapping[str, str] | None]:
    """The text data of every ConfigMap and Secret that ``variablesFrom`` names; None for what does not exist.

    Only in the job's own namespace: a reference cannot name another one.
    """
    keys = sorted({(source.kind.value, source.name) for source in job.spec.variables_from})
    # One after the other: thirty-two objects of a megabyte each need not be in memory side by side while they are decoded.
    return {key: await _read(api, job.namespace, key) for key in keys}


async def _read(api: KubeApi, namespace: str, key: SourceKey) -> Mapping[str, str] | None:
    kind, name = key
    if kind == VariablesKind.SECRET:
        manifest = await api.get(SECRET, name, namespace)
        if manifest is None:
            return None
        if manifest.get("type") in _FORBIDDEN_TYPES:
            raise Terminal(
                f"Secret {name} is of type {manifest['type']}: credentials of the cluster are no variables",
                reason=Reason.VARIABLES_INVALID,
            )
        decoded: dict[str, str] = {}
        for item, data in (manifest.get("data") or {}).items():
            try:
                decoded[item] = base64.b64decode(data).decode("utf-8")
            except UnicodeDecodeError:
                continue  # no text, so no variable
        return decoded
    manifest = await api.get(CONFIG_MAP, name, namespace)
    return None if manifest is None else dict(manifest.get("data") or {})
