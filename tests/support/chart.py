"""The chart as its users meet it: rendered, linted and refused by the real Helm; the sets of values that its tests go through.

Renders are remembered: the tests ask for the same few again and again. Used by ``tests/chart`` and by ``support.generated``.
"""

import functools
import json
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import yaml

from e2e.cluster import golang

ROOT: Final = Path(__file__).resolve().parents[2]
CHART: Final = ROOT / "charts/unjucks-operator"
NAMESPACE: Final = "unjucks-system"
KUBE_VERSION: Final = "1.36.3"
EXTERNAL: Final = {"database": {"dsnSecretRef": {"name": "unjucks-database"}, "bundled": {"enabled": False}}}

Manifest = dict[str, Any]

VALUES: Final[Mapping[str, dict[str, Any]]] = {
    "defaults": {},
    "external database": EXTERNAL,
    "external wins over bundled": {"database": {"dsnSecretRef": {"name": "mine", "key": "url"}}},
    "bundled with a volume": {
        "database": {"bundled": {"storage": "5Gi", "storageClassName": "fast", "image": "registry.example/postgres:15"}}
    },
    "bundled redis": {"cache": {"bundled": {"enabled": True, "image": "registry.example/redis:7"}}},
    "external redis wins over bundled": {
        "cache": {"bundled": {"enabled": True}, "urlSecretRef": {"name": "redis", "key": "addresses"}}
    },
    "two replicas": {
        "replicaCount": 2,
        "podDisruptionBudget": {"enabled": True},
        "leaderElection": {"leaseSeconds": 30, "renewDeadlineSeconds": 20, "retrySeconds": 5},
        "affinity": {
            "podAntiAffinity": {
                "requiredDuringSchedulingIgnoredDuringExecution": [
                    {
                        "topologyKey": "kubernetes.io/hostname",
                        "labelSelector": {"matchLabels": {"app.kubernetes.io/component": "operator"}},
                    }
                ]
            }
        },
    },
    "webhooks": {
        "webhooks": {"enabled": True, "apiServers": ["10.0.0.10/32"]},
        "imagePullSecrets": [{"name": "registry-login"}],
        "priorityClassName": "system-cluster-critical",
        "nodeSelector": {"kubernetes.io/os": "linux"},
        "tolerations": [{"key": "dedicated", "operator": "Equal", "value": "platform", "effect": "NoSchedule"}],
    },
    "everything small": {
        "crds": {"enabled": False},
        "networkPolicy": {"enabled": False},
        "metrics": {"enabled": False},
        "replicaCount": 0,
        "policies": {"enabled": False},
    },
    "everything set": {
        "image": {
            "repository": "registry.example/unjucks/unjucks",
            "tag": "1.2.3",
            "operator": "registry.example/operator@sha256:" + "a" * 64,
            "pullPolicy": "Always",
        },
        "imagePullSecrets": [{"name": "registry-login"}],
        "crds": {"keep": False},
        "serviceAccount": {"annotations": {"example.com/role": "unjucks"}},
        "commonLabels": {"example.com/team": "platform", "example.com/number": "7"},
        "podAnnotations": {"example.com/scrape": "true"},
        "podLabels": {"example.com/tier": "control"},
        "resources": {"requests": {"cpu": 1, "memory": "1Gi"}, "limits": {"memory": "2Gi"}},
        "nodeSelector": {"kubernetes.io/os": "linux"},
        "tolerations": [{"key": "dedicated", "operator": "Equal", "value": "platform", "effect": "NoSchedule"}],
        "priorityClassName": "system-cluster-critical",
        "extraEnv": [{"name": "UNJUCKS_RENDERER__IDLE_AFTER", "value": "5m"}],
        "logLevel": "debug",
        "logFormat": "text",
        "config": {"tiers": {"starter": {"concurrentJobs": 2}}, "renderer": {"idleAfter": "1m"}},
        "renderer": {"resources": {"limits": {"cpu": "1", "memory": "700Mi"}}},
        "dns": {"namespace": "dns", "podLabels": {"app": "dns"}, "addresses": ["169.254.20.10/32", "fd00::10/128"]},
        "podDisruptionBudget": {"enabled": True},
        "policies": {
            "exemptGroups": ["platform-administrators"],
            "exemptUsers": ["system:serviceaccount:backup:restore"],
            "pods": {
                "images": ["registry.example/unjucks", "registry.example/tool@sha256:" + "b" * 64],
                "imagePullPolicies": ["Always"],
                "schedulerNames": ["default-scheduler", "tenants"],
                "runtimeClassNames": ["gvisor"],
                "priorityClassNames": ["tenants"],
                "nodeSelectors": ["example.com/pool=tenants"],
                "tolerationKeys": ["example.com/tenants"],
            },
        },
    },
}
"""Name of a set → values. Together they pass every branch of every template."""


class Refused(Exception):
    """Helm refused to render; the text is what its user reads."""


def render(values: Mapping[str, Any], *, namespace: str = NAMESPACE) -> list[Manifest]:
    """The chart's objects, CRDs included. Raises Refused."""
    return [document for document in yaml.safe_load_all(render_text(values, namespace=namespace)) if document]


def render_text(values: Mapping[str, Any], *, namespace: str = NAMESPACE) -> str:
    """The same as Helm prints it."""
    return _template(json.dumps(values, sort_keys=True), namespace)


@functools.cache
def _template(values: str, namespace: str) -> str:
    done = helm(
        *("template", "unjucks", str(CHART), "--namespace", namespace, "--kube-version", KUBE_VERSION),
        *("--values", "-"),
        stdin=values,
    )
    if done.returncode:
        raise Refused(done.stderr)
    return done.stdout


def helm(*arguments: str, stdin: str | None = None) -> "subprocess.CompletedProcess[str]":
    """The real Helm."""
    return subprocess.run([str(golang.helm()), *arguments], input=stdin, capture_output=True, text=True, check=False)


def named(manifests: list[Manifest], kind: str, name: str) -> Manifest:
    """The one object of that kind and name."""
    (found,) = (item for item in manifests if (item["kind"], item["metadata"]["name"]) == (kind, name))
    return found


def of_kind(manifests: list[Manifest], kind: str) -> list[Manifest]:
    """All objects of that kind."""
    return [item for item in manifests if item["kind"] == kind]


def pods(manifests: list[Manifest]) -> Iterator[Manifest]:
    """A Pod for each pod template among the objects, as its controller would make it."""
    for item in manifests:
        template = item.get("spec", {}).get("template")
        if item["kind"] not in ("Deployment", "StatefulSet", "DaemonSet", "Job") or template is None:
            continue
        spec = dict(template["spec"])
        claims = [claim["metadata"]["name"] for claim in item["spec"].get("volumeClaimTemplates", ())]
        spec["volumes"] = [
            *spec.get("volumes", ()),
            *({"name": claim, "persistentVolumeClaim": {"claimName": f"{claim}-0"}} for claim in claims),
        ]
        metadata = {
            **template["metadata"],
            "name": item["metadata"]["name"],
            "namespace": item["metadata"]["namespace"],
        }
        yield {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}
