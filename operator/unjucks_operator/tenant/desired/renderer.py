"""The tenant's pods, renderers and courier: ServiceAccount, certificate Secret, Deployment, and the pod of an isolated job.

One pod specification for all, so that they cannot drift apart; a ``Component`` says what differs. Pure; called by ``tenant.plan``,
``tenant.courier`` and, for the isolated pod, by the wiring that runs jobs. Tenants choose no field of it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from unjucks_api import names
from unjucks_operator.tenant.desired import Manifest, Scope

_USER = 65532
_CERTIFICATES = "/etc/unjucks/tls"
_SCRATCH = "/tmp"  # noqa: S108  an emptyDir of the pod's own
HEALTH_PORT = 8080


@dataclass(frozen=True, slots=True)
class Component:
    """What differs between renderers and couriers. ``name`` is that of all its objects, ``label`` that of its component."""

    name: str
    label: str
    port: int
    pods: Callable[[Scope], Any]
    """Image, policy of fetching it, requests and limits, from the configuration."""
    arguments: Callable[[Scope], Sequence[str]]


RENDERER = Component(
    names.RENDERER,
    names.COMPONENT_RENDERER,
    names.RENDERER_PORT,
    lambda scope: scope.config.renderer,
    lambda scope: ("--max-tasks", str(scope.config.renderer.jobs_per_replica)),
)
COURIER = Component(
    names.COURIER,
    names.COMPONENT_COURIER,
    names.COURIER_PORT,
    lambda scope: scope.config.courier,
    lambda scope: (
        *("--max-tasks", str(scope.config.courier.tasks)),
        *("--task-memory", str(scope.config.courier.memory_bytes)),
    ),
)


def build_service_account(scope: Scope, component: Component = RENDERER) -> Manifest:
    """An account without a token: these pods talk to no API server."""
    return {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": scope.metadata(component.name, scope.home, component.label),
        "automountServiceAccountToken": False,
    }


def build_certificate_secret(scope: Scope, component: Component = RENDERER) -> Manifest:
    """The Secret of the pods' certificate, without its data, which is made where the certificate authority is."""
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": "Opaque",
        "metadata": scope.metadata(component.name, scope.home, component.label),
    }


def build_deployment(scope: Scope, replicas: int, component: Component = RENDERER) -> Manifest:
    """The pool. A rollout replaces pods one by one; running tasks end within the grace period."""
    selector = {
        names.LABEL_COMPONENT: component.label,
        names.LABEL_TENANT_UID: scope.tenant.uid,
        names.LABEL_JOB: "",
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": scope.metadata(component.name, scope.home, component.label),
        "spec": {
            "replicas": replicas,
            "revisionHistoryLimit": 1,
            "progressDeadlineSeconds": 120,
            "selector": {"matchLabels": selector},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
            "template": {
                "metadata": {"labels": scope.labels(component.label) | selector},
                "spec": _pod_spec(scope, component),
            },
        },
    }


def build_isolated_pod(
    scope: Scope, job_namespace: str, job_name: str, job_uid: str, name: str, deadline_seconds: int
) -> Manifest:
    """A pod for one job: it serves one task and ends. Owned by the job, so that it goes with it."""
    labels = {names.LABEL_JOB: job_name[:63].rstrip("-."), names.LABEL_JOB_UID: job_uid}
    metadata = scope.metadata(name, scope.home, names.COMPONENT_RENDERER, labels)
    if scope.home == job_namespace:  # an owner in another namespace would be none
        owner = {"apiVersion": names.API_VERSION, "kind": "GenerationJob", "name": job_name, "uid": job_uid}
        metadata["ownerReferences"] = [owner]
    spec = _pod_spec(scope, RENDERER, "--once")
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": metadata,
        "spec": spec | {"restartPolicy": "Never", "activeDeadlineSeconds": deadline_seconds},
    }


def _pod_spec(scope: Scope, component: Component, *arguments: str) -> dict[str, Any]:
    settings, pods = component.pods(scope), scope.tier.renderer_pods
    selector = dict(pods.node_selector)
    if scope.tenant.spec.region and scope.config.regions.node_label:
        selector[scope.config.regions.node_label] = scope.tenant.spec.region
    placement: dict[str, Any] = {
        "runtimeClassName": pods.runtime_class,
        "priorityClassName": pods.priority_class,
        "nodeSelector": selector,
        "tolerations": [dict(item) for item in pods.tolerations],
    }
    probe = {"httpGet": {"path": "/readyz", "port": HEALTH_PORT, "scheme": "HTTP"}}
    return {key: value for key, value in placement.items() if value} | {
        "serviceAccountName": component.name,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": 30,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": _USER,
            "runAsGroup": _USER,
            "fsGroup": _USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [
            {
                "name": component.label,
                "image": settings.image,
                "imagePullPolicy": settings.image_pull_policy,
                "args": [
                    *arguments,
                    *("--certificates", _CERTIFICATES),
                    *("--tenant-uid", scope.tenant.uid),
                    *component.arguments(scope),
                ],
                "ports": [
                    {"name": "https", "containerPort": component.port, "protocol": "TCP"},
                    {"name": "health", "containerPort": HEALTH_PORT, "protocol": "TCP"},
                ],
                "readinessProbe": probe | {"periodSeconds": 2, "timeoutSeconds": 2, "failureThreshold": 2},
                "livenessProbe": {
                    "httpGet": {"path": "/healthz", "port": HEALTH_PORT, "scheme": "HTTP"},
                    # On a node that is very busy a start takes long; killing it then would only begin it anew. Not a startup
                    # probe: readiness would have to wait for that one, and a cold start with it.
                    "initialDelaySeconds": 90,
                    "periodSeconds": 10,
                    "timeoutSeconds": 5,
                    "failureThreshold": 3,
                },
                "resources": {"requests": dict(settings.requests), "limits": dict(settings.limits)},
                "securityContext": {
                    "allowPrivilegeEscalation": False,
                    "readOnlyRootFilesystem": True,
                    "capabilities": {"drop": ["ALL"]},
                },
                "volumeMounts": [
                    {"name": "certificates", "mountPath": _CERTIFICATES, "readOnly": True},
                    {"name": "scratch", "mountPath": _SCRATCH},
                ],
            }
        ],
        "volumes": [
            {"name": "certificates", "secret": {"secretName": component.name, "defaultMode": 0o440}},
            {"name": "scratch", "emptyDir": {"sizeLimit": "64Mi"}},
        ],
    }
