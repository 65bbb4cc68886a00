"""Registers the shared fixtures of ``tests/support`` for every test, and how property tests run.

Property tests have no deadline (machines are shared; pytest's own timeout holds) and draw the same examples every time.
"""

from hypothesis import HealthCheck, settings

settings.register_profile(
    "unjucks", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
settings.load_profile("unjucks")

pytest_plugins = [
    "support.cluster",
    "support.controlplane",
    "support.isolation",
    "support.postgres",
    "support.redis_server",
]
