"""The children of a Tenant, one module for each concern, all pure: a ``Scope`` goes in, manifests come out.

Never awaits, never reads a clock, never looks at what exists. Called by ``tenant.plan`` only.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from unjucks_api import names
from unjucks_api.v1alpha1.tenant import Tenant
from unjucks_operator.config import Config, Tier

Manifest = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Scope:
    """All that the builders need to know: the Tenant, its tier and the platform's configuration."""

    tenant: Tenant
    tier: Tier
    config: Config
    without: frozenset[str] = frozenset()
    """Listed namespaces that the tenant does not get: the spec is not valid, and they do not exist."""
    stuck: frozenset[str] = frozenset()
    """Listed namespaces that cannot be had just now; they keep their share."""

    @property
    def namespaces(self) -> tuple[str, ...]:
        """The tenant's namespaces that there is something to do about."""
        return tuple(name for name in self.tenant.namespaces if name not in self.without and name not in self.stuck)

    @property
    def sharing(self) -> tuple[str, ...]:
        """The namespaces that divide the tenant's quota between them."""
        return tuple(name for name in self.tenant.namespaces if name not in self.without)

    @property
    def home(self) -> str:
        """The namespace of the renderers: the first that the Tenant lists."""
        return self.tenant.namespaces[0]

    def labels(self, component: str) -> dict[str, str]:
        """Our labels plus the Tenant's own ones, these under our prefix only (a foreign label could make others act)."""
        return names.tenant_labels(self.tenant.name, self.tenant.uid, component) | self.tenant.custom_labels

    def metadata(
        self, name: str, namespace: str | None, component: str, extra_labels: Mapping[str, str] | None = None
    ) -> dict[str, Any]:
        """``metadata`` of a child."""
        metadata: dict[str, Any] = {"name": name, "labels": self.labels(component) | dict(extra_labels or {})}
        if namespace is not None:
            metadata["namespace"] = namespace
        return metadata
