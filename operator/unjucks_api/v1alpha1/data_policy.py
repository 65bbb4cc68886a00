"""How confidential templates and files may be, and what a finding of sensitive data means. Models and the rules between them. Pure.

Called by the kinds Tenant and TemplateRegistry, by the registry and job rooms, and by the CRD generator.
"""

from enum import StrEnum

from pydantic import Field

from unjucks_api.render_protocol import OnFinding
from unjucks_api.v1alpha1.common import Model


class Classification(StrEnum):
    """How confidential something is, from open to closed."""

    PUBLIC = "Public"
    INTERNAL = "Internal"
    CONFIDENTIAL = "Confidential"
    RESTRICTED = "Restricted"

    def exceeds(self, other: "Classification") -> bool:
        """Whether this is more confidential than ``other``."""
        order = list(Classification)
        return order.index(self) > order.index(other)


class DataPolicy(Model):
    """What kind of data the tenant's templates and files may hold."""

    maximum_classification: Classification | None = Field(
        default=None,
        description="Most confidential registry that the tenant may have: Public, Internal, Confidential or Restricted. One above "
        "it is neither read nor used. Absent: Restricted.",
    )
    on_finding: OnFinding | None = Field(
        default=None,
        description="What finding credentials, payment cards or personal numbers does. Warn: it is told in status. Redact: in "
        "generated files it is taken out; in templates it is told. Block: the job fails and publishes nothing, and the template "
        "set is not served. Absent: Block for registries classified Public, Warn for the others.",
    )

    def refuses(self, classification: Classification) -> bool:
        """Whether a registry of that classification is more confidential than the tenant may have."""
        return self.maximum_classification is not None and classification.exceeds(self.maximum_classification)

    def on_finding_in(self, classification: Classification) -> OnFinding:
        """What a finding in templates of that classification, or in files made by them, does."""
        if self.on_finding is not None:
            return self.on_finding
        return OnFinding.BLOCK if classification is Classification.PUBLIC else OnFinding.WARN
