"""Reading the configuration: defaults, file, environment, and every problem at once with its path."""

import dataclasses
import importlib
import inspect
import pkgutil
from pathlib import Path

import pytest
import yaml

from unjucks_operator import config
from unjucks_operator.config import Config, ConfigError, dump, load


def problems(tmp_path: Path, text: str, **environment: str) -> list[str]:
    path = tmp_path / "operator.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load(path, environment)
    return caught.value.problems


def loaded(tmp_path: Path, text: str, **environment: str) -> Config:
    path = tmp_path / "operator.yaml"
    path.write_text(text)
    return load(path, environment)


def test_no_file_and_no_environment_are_the_defaults() -> None:
    assert load(None, {}) == Config()


def test_an_empty_file_is_the_defaults(tmp_path: Path) -> None:
    assert loaded(tmp_path, "# nothing yet\n") == Config()


def test_the_dump_loads_back_to_the_same(tmp_path: Path) -> None:
    text = yaml.safe_dump(dump(Config()))
    assert loaded(tmp_path, text) == Config()


def test_tiers_are_those_of_the_design() -> None:
    known = Config().tiers
    assert [known[name].namespaces for name in ("starter", "professional", "enterprise")] == [1, 3, 20]
    assert [(tier.renderers.min, tier.renderers.max) for _, tier in known.items()] == [(0, 1), (1, 5), (2, 20)]
    assert [tier.concurrent_jobs for _, tier in known.items()] == [1, 5, 50]
    with pytest.raises(KeyError):
        known["gold"]


def test_a_tier_keeps_its_own_defaults_where_the_file_says_nothing(tmp_path: Path) -> None:
    changed = loaded(tmp_path, "tiers: {enterprise: {concurrentJobs: 60, quota: {cpu: 128}}}")
    assert changed.tiers.enterprise.concurrent_jobs == 60
    assert changed.tiers.enterprise.quota.cpu == "128"
    assert changed.tiers.enterprise.quota.pods == Config().tiers.enterprise.quota.pods
    assert changed.tiers.enterprise.renderers.max == 20
    assert changed.tiers.starter == Config().tiers.starter


def test_labels_of_the_file_replace_the_default_ones(tmp_path: Path) -> None:
    assert loaded(tmp_path, "dns: {podLabels: {app: coredns}}").dns.pod_labels == {"app": "coredns"}


@pytest.mark.parametrize(("text", "seconds"), [("90", 90), ("15m", 900), ("1h30m", 5400), ("0.5", 0.5)])
def test_durations_are_numbers_or_text(tmp_path: Path, text: str, seconds: float) -> None:
    assert loaded(tmp_path, f"renderer: {{idleAfter: {text}}}").renderer.idle_after == seconds


def test_the_environment_wins_over_the_file(tmp_path: Path) -> None:
    changed = loaded(
        tmp_path,
        "renderer: {image: from-file}\nworkers: {jobs: 3}",
        UNJUCKS_RENDERER__IMAGE="from-environment",
        UNJUCKS_TIERS__STARTER__CONCURRENT_JOBS="4",
        UNJUCKS_DNS__ADDRESSES="[10.0.0.10/32]",
        POD_NAMESPACE="platform",
        POD_NAME="operator-0",
    )
    assert changed.renderer.image == "from-environment"
    assert changed.workers.jobs == 3
    assert changed.tiers.starter.concurrent_jobs == 4
    assert changed.dns.addresses == ("10.0.0.10/32",)
    assert (changed.platform_namespace, changed.leader.identity) == ("platform", "operator-0")


def test_variables_that_kubernetes_injects_are_no_settings() -> None:
    assert load(None, {"UNJUCKS_OPERATOR_SERVICE_HOST": "10.0.0.1", "UNJUCKS_PORT": "tcp://x"}) == Config()


def test_an_empty_variable_changes_nothing() -> None:
    assert load(None, {"UNJUCKS_DATABASE_DSN": "", "POD_NAMESPACE": ""}) == Config()


def test_all_problems_come_at_once_with_their_paths(tmp_path: Path) -> None:
    found = problems(
        tmp_path,
        """
        tiers:
          starter: {renderers: {min: 5}}
          professional: {renderers: {max: 0}}
          gold: {}
        renderer: {image: 5, imagePulPolicy: Always, idleAfter: soon}
        dns: {addresses: [10.0.0.1]}
        leader: {leaseDuration: 5s}
        database: {poolMax: 0}
        """,
        UNJUCKS_JOBS__FILES="0",
        UNJUCKS_RENDERER__IDEL="5",
    )
    expected = [
        ("$UNJUCKS_RENDERER__IDEL", "no setting renderer.idel"),
        ("tiers.starter", "renderers.min is greater than renderers.max"),
        ("tiers.professional.renderers.max", "greater than or equal to 1"),
        ("tiers.gold", "no such setting"),
        ("renderer.image", "valid string"),
        ("renderer.imagePulPolicy", "did you mean imagePullPolicy?"),
        ("renderer.idleAfter", "'soon' is not a duration"),
        ("dns.addresses.0", "should match pattern"),
        ("leader", "leaseDuration must be longer than renewDeadline"),
        ("database.poolMax", "greater than or equal to 1"),
        ("jobs.files", "from $UNJUCKS_JOBS__FILES"),
    ]
    for path, text in expected:
        assert [it for it in found if it.startswith(f"{path}:") and text in it], (path, text, found)
    assert len(found) == len(expected)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: [1", "line 1, column 6 is not YAML"),
        ("- a\n", "must be a mapping of settings, not list"),
    ],
)
def test_a_file_that_is_no_mapping_is_named(tmp_path: Path, text: str, expected: str) -> None:
    (problem,) = problems(tmp_path, text)
    assert expected in problem
    assert "operator.yaml" in problem


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"absent\.yaml: cannot be read: No such file"):
        load(tmp_path / "absent.yaml", {})


def test_a_renderer_that_cannot_hold_its_jobs_is_refused(tmp_path: Path) -> None:
    (problem,) = problems(tmp_path, "jobs: {memoryBytes: 900000000}")
    assert "1813Mi" in problem
    assert "killed in the middle" in problem


def test_a_renderer_that_no_tenant_may_start_is_refused(tmp_path: Path) -> None:
    (problem,) = problems(tmp_path, "tiers: {starter: {limits: {maxCpu: 500m}}}")
    assert "tiers.starter.limits" in problem


def test_the_databases_password_shows_nowhere(tmp_path: Path) -> None:
    secret = "postgresql://unjucks:hunter22@db/unjucks"
    changed = load(None, {"UNJUCKS_DATABASE_DSN": secret})
    assert changed.database.dsn is not None
    assert changed.database.dsn.get_secret_value() == secret
    assert "hunter22" not in repr(changed) + str(dump(changed))
    shown = problems(tmp_path, "database: {dsn: [hunter22], pool_max: hunter22}")
    assert "hunter22" not in str(shown)


def test_a_configuration_does_not_change() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Config().workers.jobs = 5  # type: ignore[misc]


def test_each_setting_says_what_it_is_and_its_default() -> None:
    """The kopf style: a docstring below each field; the schema takes the text from there."""
    definitions = config.json_schema()["$defs"] | {"Config": config.json_schema()}
    missing = [
        f"{name}.{setting}"
        for name, definition in definitions.items()
        for setting, schema in definition.get("properties", {}).items()
        if not schema.get("description", "").strip().endswith(".")
    ]
    assert missing == []
    count = 0
    for found in pkgutil.iter_modules(config.__path__):
        module = importlib.import_module(f"{config.__name__}.{found.name}")
        for _, kind in inspect.getmembers(module, inspect.isclass):
            count += dataclasses.is_dataclass(kind) and kind.__module__ == module.__name__
    assert count == len(definitions)
