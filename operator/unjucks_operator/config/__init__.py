"""The operator's configuration: frozen dataclasses, filled from a YAML file and the environment, all problems reported at once.

Keys of the file are the fields' names in camelCase; unknown keys are refused. Any field can be set from the environment: the
path of keys in upper case, joined by two underscores, after ``UNJUCKS_``: ``UNJUCKS_RENDERER__IDLE_AFTER=5m``. A few variables
have names of their own (``ENVIRONMENT``), among them ``UNJUCKS_DATABASE_DSN``, which is a secret and belongs nowhere else.

Durations are numbers of seconds, or texts such as ``90s``, ``15m``, ``720h``. Quantities are Kubernetes' (``500m``, ``2Gi``).

Must not: talk to anything but the file. Called by ``__main__``; everybody else gets a ``Config`` or a part of it as a parameter.
"""

from unjucks_operator.config.courier import Courier
from unjucks_operator.config.loading import ENVIRONMENT, ConfigError, dump, json_schema, load
from unjucks_operator.config.process import Cache, Database, Health, Kubernetes, Leader, Logging, Sweep, Workers
from unjucks_operator.config.settings import Config
from unjucks_operator.config.tenants import Dns, Jobs, Renderer
from unjucks_operator.config.tiers import ContainerLimits, RendererRange, Tier, TierQuota, Tiers

__all__ = [
    "ENVIRONMENT",
    "Cache",
    "Config",
    "ConfigError",
    "ContainerLimits",
    "Courier",
    "Database",
    "Dns",
    "Health",
    "Jobs",
    "Kubernetes",
    "Leader",
    "Logging",
    "Renderer",
    "RendererRange",
    "Sweep",
    "Tier",
    "TierQuota",
    "Tiers",
    "Workers",
    "dump",
    "json_schema",
    "load",
]
