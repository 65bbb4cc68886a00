"""What the chart makes of its values: every set rendered, and the rules that each rendering has to keep."""

import base64
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from support import chart, policies, webhooks
from unjucks_api import names
from unjucks_api.v1alpha1 import KINDS

SETS = list(chart.VALUES)
CLUSTER_WIDE = ("ClusterRole", "ClusterRoleBinding", "CustomResourceDefinition", *policies.KINDS, *webhooks.KINDS)
# Events about cluster-scoped objects live in the namespace "default", and so does the API server's own Service.
IN_DEFAULT = {"unjucks-webhooks-events", "unjucks-operator-endpoints"}
TEMPLATES = sorted(path.name for path in (chart.CHART / "templates").rglob("*.yaml"))


def test_every_template_is_rendered_by_some_set() -> None:
    rendered = set()
    for values in chart.VALUES.values():
        for line in chart.render_text(values).splitlines():
            if line.startswith("# Source: "):
                rendered.add(Path(line).name)
    assert rendered == set(TEMPLATES)


@pytest.mark.parametrize("name", SETS)
def test_equal_values_give_equal_objects(name: str) -> None:
    def stable(text: str) -> list[dict[str, Any]]:
        return [_without_password(item) for item in yaml.safe_load_all(text) if item]

    command = ("template", "unjucks", str(chart.CHART), "--kube-version", chart.KUBE_VERSION, "--values", "-")
    again = chart.helm(*command, "--namespace", chart.NAMESPACE, stdin=yaml.safe_dump(chart.VALUES[name]))
    assert again.returncode == 0, again.stderr
    assert stable(chart.render_text(chart.VALUES[name])) == stable(again.stdout)


@pytest.mark.parametrize("name", SETS)
def test_names_are_unique_and_labels_complete(name: str) -> None:
    manifests = chart.render(chart.VALUES[name])
    keys = [(it["kind"], it["metadata"].get("namespace"), it["metadata"]["name"]) for it in manifests]
    assert len(keys) == len(set(keys))
    common = chart.VALUES[name].get("commonLabels", {})
    for manifest in manifests:
        if manifest["kind"] == "CustomResourceDefinition":
            continue
        labels = manifest["metadata"]["labels"]
        assert labels[names.LABEL_PART_OF] == names.PART_OF, manifest["metadata"]["name"]
        assert common.items() <= labels.items()
        # The operator takes objects with this label for its own children of tenants; none of the chart's may look like one.
        assert labels[names.LABEL_MANAGED_BY] != names.MANAGED_BY
        assert all(isinstance(value, str) for value in labels.values())


@pytest.mark.parametrize("name", SETS)
def test_namespaced_objects_live_in_the_release_namespace(name: str) -> None:
    for manifest in chart.render(chart.VALUES[name], namespace="platform"):
        if manifest["kind"] in CLUSTER_WIDE:
            assert "namespace" not in manifest["metadata"]
        elif manifest["metadata"]["name"] in IN_DEFAULT:
            assert manifest["metadata"]["namespace"] == "default"
        else:
            assert manifest["metadata"]["namespace"] == "platform"
        for subject in manifest.get("subjects", ()):
            assert subject["namespace"] == "platform"


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("keep", [True, False])
def test_crds_are_those_of_the_repository(kind: Any, keep: bool) -> None:
    plural = kind.definition.plural
    wanted = yaml.safe_load((chart.ROOT / f"crds/{plural}.yaml").read_text(encoding="utf-8"))
    found = chart.named(chart.render({"crds": {"keep": keep}}), "CustomResourceDefinition", f"{plural}.unjucks.io")
    annotations = found["metadata"].get("annotations", {})
    assert annotations.pop("helm.sh/resource-policy", None) == ("keep" if keep else None)
    if not annotations:
        found["metadata"].pop("annotations", None)
    assert found == wanted


def test_crds_can_be_left_out() -> None:
    assert chart.of_kind(chart.render({"crds": {"enabled": False}}), "CustomResourceDefinition") == []


def test_an_external_database_replaces_the_bundled_one() -> None:
    for values in (chart.EXTERNAL, chart.VALUES["external wins over bundled"]):
        manifests = chart.render(values)
        assert chart.of_kind(manifests, "StatefulSet") == []
        assert chart.of_kind(manifests, "Secret") == []
        assert not any("postgres" in it["metadata"]["name"] for it in manifests)
        reference = values["database"]["dsnSecretRef"]
        assert _dsn_source(manifests) == {"name": reference["name"], "key": reference.get("key", "dsn")}


def test_the_bundled_database_is_what_the_operator_is_pointed_at() -> None:
    manifests = chart.render({}, namespace="platform")
    source = _dsn_source(manifests)
    secret = chart.named(manifests, "Secret", source["name"])
    service = chart.named(manifests, "Service", "unjucks-postgres")
    database = chart.named(manifests, "StatefulSet", "unjucks-postgres")
    password = secret["stringData"]["password"]
    assert len(password) >= 32
    assert secret["stringData"][source["key"]] == (
        f"postgresql://unjucks_operator:{password}@unjucks-postgres.platform.svc:5432/unjucks"
    )
    (container,) = database["spec"]["template"]["spec"]["containers"]
    assert {"name": "POSTGRES_LOGIN", "value": "unjucks_operator"} in container["env"]
    labels = database["spec"]["template"]["metadata"]["labels"]
    assert service["spec"]["selector"].items() <= labels.items()
    assert database["spec"]["selector"]["matchLabels"].items() <= labels.items()
    assert secret["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"


def test_only_the_operator_may_call_the_bundled_database() -> None:
    manifests = chart.render({})
    policy = chart.named(manifests, "NetworkPolicy", "unjucks-postgres")["spec"]
    database = chart.named(manifests, "StatefulSet", "unjucks-postgres")["spec"]["template"]["metadata"]["labels"]
    operator = chart.named(manifests, "Deployment", "unjucks-operator")["spec"]["template"]["metadata"]["labels"]
    assert policy["podSelector"]["matchLabels"].items() <= database.items()
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    assert "egress" not in policy
    (rule,) = policy["ingress"]
    (peer,) = rule["from"]
    assert list(peer) == ["podSelector"]
    assert peer["podSelector"]["matchLabels"].items() <= operator.items()
    assert not peer["podSelector"]["matchLabels"].items() <= database.items()
    assert rule["ports"] == [{"port": 5432, "protocol": "TCP"}]


def test_without_a_redis_the_operator_is_not_pointed_at_one() -> None:
    for name in ("defaults", "external database"):
        manifests = chart.render(chart.VALUES[name])
        assert not [it for it in manifests if "redis" in it["metadata"]["name"]]
        assert "UNJUCKS_CACHE_URLS" not in yaml.safe_dump_all(manifests)


def test_the_bundled_redis_is_what_the_operator_is_pointed_at() -> None:
    manifests = chart.render(chart.VALUES["bundled redis"])
    (secret,) = (it for it in manifests if it["kind"] == "Secret" and it["metadata"]["name"] == "unjucks-cache")
    (service,) = (it for it in manifests if it["kind"] == "Service" and it["metadata"]["name"] == "unjucks-redis")
    urls, password = secret["stringData"]["urls"], secret["stringData"]["password"]
    assert urls == f"redis://:{password}@unjucks-redis.{chart.NAMESPACE}.svc:6379"
    assert len(password) == 32
    assert service["spec"]["ports"][0]["port"] == 6379
    (pod,) = (
        it["spec"]["template"] for it in manifests if it["kind"] == "StatefulSet" and "redis" in it["metadata"]["name"]
    )
    assert service["spec"]["selector"].items() <= pod["metadata"]["labels"].items()
    assert password not in yaml.safe_dump(pod)
    (policy,) = (it for it in manifests if it["kind"] == "NetworkPolicy" and "redis" in it["metadata"]["name"])
    assert policy["spec"]["podSelector"]["matchLabels"].items() <= pod["metadata"]["labels"].items()
    (rule,) = policy["spec"]["ingress"]
    assert rule["from"] == [
        {"podSelector": {"matchLabels": {names.LABEL_NAME: "unjucks", names.LABEL_COMPONENT: "operator"}}}
    ]
    assert policy["spec"]["policyTypes"] == ["Ingress", "Egress"]
    assert "egress" not in policy["spec"]
    assert cache_variable(manifests) == {"name": "unjucks-cache", "key": "urls"}


def test_an_external_redis_replaces_the_bundled_one() -> None:
    manifests = chart.render(chart.VALUES["external redis wins over bundled"])
    assert not [it for it in manifests if "redis" in it["metadata"]["name"]]
    assert cache_variable(manifests) == {"name": "redis", "key": "addresses"}


def cache_variable(manifests: list[dict[str, Any]]) -> Any:
    """Where the operator's pod finds the addresses of Redis."""
    (operator,) = (
        it for it in manifests if it["kind"] == "Deployment" and it["metadata"]["name"] == "unjucks-operator"
    )
    environment = operator["spec"]["template"]["spec"]["containers"][0]["env"]
    (found,) = (it["valueFrom"]["secretKeyRef"] for it in environment if it["name"] == "UNJUCKS_CACHE_URLS")
    return found


def test_a_volume_is_claimed_only_when_asked_for() -> None:
    ephemeral = chart.named(chart.render({}), "StatefulSet", "unjucks-postgres")["spec"]
    assert "volumeClaimTemplates" not in ephemeral
    assert {"name": "data", "emptyDir": {}} in ephemeral["template"]["spec"]["volumes"]
    kept = chart.named(chart.render(chart.VALUES["bundled with a volume"]), "StatefulSet", "unjucks-postgres")["spec"]
    (claim,) = kept["volumeClaimTemplates"]
    assert claim["spec"]["resources"]["requests"]["storage"] == "5Gi"
    assert claim["spec"]["storageClassName"] == "fast"
    assert "data" not in [volume["name"] for volume in kept["template"]["spec"]["volumes"]]


@pytest.mark.parametrize("name", SETS)
def test_the_operator_accepts_its_configuration(name: str, tmp_path: Path) -> None:
    assert _check_config(chart.render(chart.VALUES[name]), tmp_path) == (0, "the configuration is good\n", "")


def test_the_values_in_the_documentation_work(tmp_path: Path) -> None:
    page = (chart.ROOT / "docs/operations.md").read_text(encoding="utf-8")
    (text,) = re.findall(r"```yaml\n# values\.yaml\n(.*?)```", page, re.DOTALL)
    manifests = chart.render(yaml.safe_load(text))
    assert chart.of_kind(manifests, "StatefulSet") == []
    assert _check_config(manifests, tmp_path) == (0, "the configuration is good\n", "")
    assert _config(manifests)["renderer"]["idleAfter"] == "15m"


def test_the_values_arrive_in_the_configuration() -> None:
    config = _config(chart.render(chart.VALUES["everything set"], namespace="platform"))
    assert config["platformNamespace"] == "platform"
    assert config["logging"] == {"level": "DEBUG", "format": "text"}
    assert config["renderer"]["image"] == "registry.example/unjucks/unjucks-renderer:1.2.3"
    assert config["renderer"]["imagePullPolicy"] == "Always"
    assert config["renderer"]["limits"] == {"cpu": "1", "memory": "700Mi", "ephemeral-storage": "128Mi"}
    assert config["renderer"]["idleAfter"] == "1m"
    assert config["tiers"]["starter"]["concurrentJobs"] == 2
    assert config["dns"] == chart.VALUES["everything set"]["dns"]
    assert config["leader"] == {"leaseDuration": 15, "renewDeadline": 10, "retryPeriod": 2}


def test_a_setting_that_does_not_exist_is_named_by_the_operator(tmp_path: Path) -> None:
    code, _, told = _check_config(chart.render({"config": {"renderer": {"idelAfter": "1m"}}}), tmp_path)
    assert code == 3
    assert "renderer.idelAfter: there is no such setting; did you mean idleAfter?" in told


def test_a_change_of_the_configuration_restarts_the_operator() -> None:
    def digest(values: dict[str, Any]) -> str:
        template = chart.named(chart.render(values), "Deployment", "unjucks-operator")["spec"]["template"]
        return str(template["metadata"]["annotations"]["unjucks.io/config-digest"])

    assert digest({}) == digest({"replicaCount": 2})
    assert digest({}) != digest({"config": {"renderer": {"idleAfter": "1m"}}})


def test_no_secret_stands_in_the_configuration_or_the_deployment() -> None:
    manifests = chart.render({})
    password = chart.named(manifests, "Secret", "unjucks-database")["stringData"]["password"]
    others = [item for item in manifests if item["kind"] != "Secret"]
    assert password not in yaml.safe_dump_all(others)
    assert base64.b64encode(password.encode()).decode() not in yaml.safe_dump_all(others)


def test_image_references() -> None:
    manifests = chart.render(chart.VALUES["everything set"])
    operator = chart.named(manifests, "Deployment", "unjucks-operator")["spec"]["template"]["spec"]["containers"][0]
    assert operator["image"] == "registry.example/operator@sha256:" + "a" * 64
    postgres = chart.named(manifests, "StatefulSet", "unjucks-postgres")["spec"]["template"]["spec"]["containers"][0]
    assert postgres["image"] == "registry.example/unjucks/unjucks-postgres:1.2.3"
    version = yaml.safe_load((chart.CHART / "Chart.yaml").read_text(encoding="utf-8"))["appVersion"]
    assert _config(chart.render({}))["renderer"]["image"] == f"unjucks-renderer:{version}"


def _dsn_source(manifests: list[chart.Manifest]) -> dict[str, str]:
    operator = chart.named(manifests, "Deployment", "unjucks-operator")["spec"]["template"]["spec"]["containers"][0]
    (source,) = (it["valueFrom"]["secretKeyRef"] for it in operator["env"] if it["name"] == "UNJUCKS_DATABASE_DSN")
    return dict(source)


def _config(manifests: list[chart.Manifest]) -> dict[str, Any]:
    text = chart.named(manifests, "ConfigMap", "unjucks-operator")["data"]["config.yaml"]
    config: dict[str, Any] = yaml.safe_load(text)
    return config


def _check_config(manifests: list[chart.Manifest], folder: Path) -> tuple[int, str, str]:
    path = folder / "config.yaml"
    path.write_text(chart.named(manifests, "ConfigMap", "unjucks-operator")["data"]["config.yaml"], encoding="utf-8")
    environment = {"UNJUCKS_DATABASE_DSN": "postgresql://u:p@db:5432/x", "POD_NAME": "unjucks-operator-0"}
    operator = chart.named(manifests, "Deployment", "unjucks-operator")["spec"]["template"]["spec"]["containers"][0]
    environment |= {it["name"]: it["value"] for it in operator["env"] if "value" in it}
    command = [sys.executable, "-m", "unjucks_operator", "--config", str(path), "--check-config"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout, done.stderr


def _without_password(manifest: chart.Manifest) -> chart.Manifest:
    if manifest["kind"] == "Secret":
        manifest["stringData"] = sorted(manifest["stringData"])
    return manifest


def test_without_the_webhooks_nothing_of_them_is_there_but_the_rule_about_codes() -> None:
    found = [item for item in chart.render({}) if "webhooks" in item["metadata"]["name"]]
    assert found == []
    chart.named(chart.render({}), "ValidatingAdmissionPolicy", "unjucks-approval-codes")
    assert _config(chart.render({}))["webhooks"] == {"enabled": False}


def test_the_webhooks_are_called_for_our_kinds_only_and_only_what_destroys_fails_closed() -> None:
    manifests = chart.render(chart.VALUES["webhooks"])
    assert _config(manifests)["webhooks"] == {"enabled": True}
    found = {}
    for kind in webhooks.KINDS:
        for webhook in chart.named(manifests, kind, names.WEBHOOKS)["webhooks"]:
            found[webhook["name"].partition(".")[0]] = webhook
            assert webhook["timeoutSeconds"] <= 5
            assert webhook["clientConfig"]["service"]["name"] == names.WEBHOOKS
            assert "caBundle" not in webhook["clientConfig"]  # the operator's; Helm must not take it away again
            for rule in webhook["rules"]:
                assert rule["apiGroups"] == [names.GROUP]
                assert set(rule["resources"]) <= {kind.definition.plural for kind in KINDS}
                assert "DELETE" not in rule["operations"]
    assert {name: it["failurePolicy"] for name, it in found.items()} == {
        "approve": "Fail",
        "validate": "Ignore",
        "verify": "Fail",
    }
    assert found["approve"]["sideEffects"] == "NoneOnDryRun"
    assert all(found[name]["matchConditions"] for name in ("approve", "verify"))
    service = chart.named(manifests, "Service", names.WEBHOOKS)
    deployment = chart.named(manifests, "Deployment", names.WEBHOOKS)["spec"]
    budget = chart.named(manifests, "PodDisruptionBudget", names.WEBHOOKS)["spec"]
    policy = chart.named(manifests, "NetworkPolicy", names.WEBHOOKS)["spec"]
    labels = deployment["template"]["metadata"]["labels"]
    for selector in (
        service["spec"]["selector"],
        budget["selector"]["matchLabels"],
        policy["podSelector"]["matchLabels"],
    ):
        assert selector.items() <= labels.items()
    assert deployment["replicas"] >= 2
    assert policy["ingress"][0]["from"] == [{"ipBlock": {"cidr": "10.0.0.10/32"}}]
