"""Quota: divided exactly, bounded by the tier and its maximum; labels; placement of renderers."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.builders import tenant
from unjucks_api import names
from unjucks_api.v1alpha1.common import quantity
from unjucks_operator.config import Config
from unjucks_operator.config.regions import Regions
from unjucks_operator.config.tiers import RendererPods, Tier, TierMaximum, TierQuota
from unjucks_operator.tenant.desired import Scope
from unjucks_operator.tenant.desired.quota import build_limits, build_quota
from unjucks_operator.tenant.desired.renderer import build_deployment

CONFIG = Config()
COUNTS = {
    "pods": "pods",
    "services": "services",
    "secrets": "secrets",
    "configmaps": "config_maps",
    "persistentvolumeclaims": "persistent_volume_claims",
    "count/generationjobs.unjucks.io": "generation_jobs",
    "count/templateregistries.unjucks.io": "template_registries",
}


def scope(tier: Tier, config: Config = CONFIG, **spec: Any) -> Scope:
    return Scope(tenant(spec=spec), tier, config)


def hard(given_scope: Scope) -> list[dict[str, str]]:
    return [build_quota(given_scope, name)["spec"]["hard"] for name in given_scope.namespaces]


@given(
    count=st.integers(1, 20),
    numbers=st.fixed_dictionaries({name: st.integers(40, 500) for name in set(COUNTS.values())}),
    cpu=st.integers(1, 20000).map(lambda value: f"{value}m"),
    memory=st.integers(1, 999).map(lambda value: f"{value}Gi"),
)
def test_the_sum_of_all_namespaces_is_never_more_than_the_tenants_amount(
    count: int, numbers: dict[str, int], cpu: str, memory: str
) -> None:
    quota = TierQuota(cpu=cpu, memory=memory, ephemeral_storage=memory, **numbers)
    tier = Tier(namespaces=count, quota=quota)
    parts = hard(scope(tier, namespaces=[{"name": f"n{number}"} for number in range(count)]))
    for key, field in COUNTS.items():
        shares = [int(part[key]) for part in parts]
        assert sum(shares) == numbers[field], key
        assert max(shares) - min(shares) <= 1
        assert shares[0] == max(shares)  # the home is never the poorest
    for key, total in (
        ("limits.cpu", cpu),
        ("requests.cpu", cpu),
        ("limits.memory", memory),
        ("limits.ephemeral-storage", memory),
    ):
        assert sum(quantity(part[key]) for part in parts) <= quantity(total), key


def test_each_benchmarks_key_is_there_and_the_forbidden_ones_are_zero() -> None:
    (only,) = hard(scope(CONFIG.tiers.starter))
    assert only["services.nodeports"] == only["services.loadbalancers"] == only["replicationcontrollers"] == "0"
    assert {"requests.cpu", "limits.memory", "requests.ephemeral-storage", "resourcequotas", *COUNTS} <= only.keys()


MORE = TierMaximum(cpu="16", memory="64Gi", ephemeral_storage="9Gi", pods=30, concurrent_jobs=8, jobs_per_hour=900)


@pytest.mark.parametrize(
    ("maximum", "asked", "key", "expected"),
    [
        (TierMaximum(), {"cpu": "500m"}, "limits.cpu", "500m"),
        (TierMaximum(), {"cpu": "64"}, "limits.cpu", "4000m"),
        (MORE, {"cpu": "12"}, "limits.cpu", "12000m"),
        (MORE, {"cpu": "64"}, "limits.cpu", "16000m"),
        (MORE, {}, "limits.cpu", "4000m"),
        (MORE, {"memory": "1Gi"}, "limits.memory", "1024Mi"),
        (MORE, {"memory": "1Ti"}, "limits.memory", "65536Mi"),
        (MORE, {"ephemeralStorage": "10Gi"}, "limits.ephemeral-storage", "9216Mi"),
        (MORE, {"pods": 100}, "pods", "30"),
        (TierMaximum(), {"pods": 100}, "pods", "10"),
        (TierMaximum(pods=3), {"pods": 100}, "pods", "10"),
    ],
)
def test_a_tenant_goes_up_only_as_far_as_the_platform_allows(
    maximum: TierMaximum, asked: Any, key: str, expected: str
) -> None:
    (only,) = hard(scope(replace(CONFIG.tiers.starter, maximum=maximum), quota=asked))
    assert only[key] == expected


def test_limits_on_jobs_are_bounded_the_same_way() -> None:
    tier, more = CONFIG.tiers.professional, replace(CONFIG.tiers.professional, maximum=MORE)
    assert [tier.jobs_at_once(asked) for asked in (None, 2, 99)] == [5, 2, 5]
    assert [more.jobs_at_once(asked) for asked in (None, 7, 99)] == [5, 7, 8]
    assert [tier.runs_hourly(asked) for asked in (None, 10, 10**6)] == [5000, 10, 5000]


def test_a_container_has_a_ceiling_for_everything_that_the_quota_counts() -> None:
    (limit,) = build_limits(scope(CONFIG.tiers.starter), "tenant-acme")["spec"]["limits"]
    for part in ("default", "defaultRequest", "max"):
        assert limit[part].keys() == {"cpu", "memory", "ephemeral-storage"}


def test_a_tier_whose_quota_starves_a_namespace_is_refused() -> None:
    with pytest.raises(ValueError, match=r"quota\.pods is 10, too few to give each of 20 namespaces"):
        Tier(namespaces=20)


def test_fields_that_are_labels_too_stand_on_every_child() -> None:
    labels = {"team": "loses", "other": "x"}
    made = scope(
        CONFIG.tiers.starter, team="core", environment="production", region="eu-1", costCenter="CC-1", labels=labels
    )
    found = build_quota(made, "tenant-acme")["metadata"]["labels"]
    custom = {
        key.removeprefix(names.LABEL_CUSTOM_PREFIX): value for key, value in found.items() if key.startswith("labels.")
    }
    assert custom == {
        "team": "core",
        "environment": "production",
        "region": "eu-1",
        "cost-center": "CC-1",
        "other": "x",
    }


def test_renderers_run_where_the_tier_and_the_region_say() -> None:
    pods = RendererPods(
        runtime_class="gvisor",
        priority_class="high",
        node_selector={"pool": "big"},
        tolerations=({"key": "big", "operator": "Exists"},),
    )
    tier = replace(CONFIG.tiers.starter, renderer_pods=pods)
    config = replace(CONFIG, regions=Regions(served=("eu-1",), database="eu-1"))
    spec = build_deployment(scope(tier, config, region="eu-1"), 1)["spec"]["template"]["spec"]
    assert spec["runtimeClassName"] == "gvisor"
    assert spec["priorityClassName"] == "high"
    assert spec["nodeSelector"] == {"pool": "big", "topology.kubernetes.io/region": "eu-1"}
    assert spec["tolerations"] == [{"key": "big", "operator": "Exists"}]
    plain = build_deployment(scope(CONFIG.tiers.starter), 1)["spec"]["template"]["spec"]
    assert not {"runtimeClassName", "priorityClassName", "nodeSelector", "tolerations"} & plain.keys()
