"""Fetched sources in the operator: schedule, history and pins, what is asked of the courier, where it may connect to."""

import random
from datetime import UTC, datetime
from typing import Any

import pytest

from support.clock import FakeClock
from unjucks_api.courier_protocol import FetchResponse, GitSource, HttpSource
from unjucks_api.reasons import Reason
from unjucks_api.render_protocol import SourceFile
from unjucks_api.v1alpha1.data_policy import DataPolicy
from unjucks_api.v1alpha1.template_registry import TemplateRegistry
from unjucks_api.v1alpha1.tenant import Tenant
from unjucks_operator.config import Config, Courier
from unjucks_operator.config.courier import CourierEgress
from unjucks_operator.errors import Retryable, Terminal, Waiting
from unjucks_operator.network.ranges import NOTHING_KNOWN, cluster_ranges
from unjucks_operator.registry.history import find_version, updated_history
from unjucks_operator.registry.plan import REMOTE, Ingest, Keep, Serve, fingerprint, plan_registry
from unjucks_operator.registry.remote import fetch_request, fetch_source, flux_source, needed_secrets
from unjucks_operator.registry.schedule import Schedule
from unjucks_operator.registry.status import compute_unchanged, compute_unfetched
from unjucks_operator.renderers.allow import allow_list
from unjucks_operator.renderers.calls import RenderFailure
from unjucks_operator.renderers.courier import verified_fetch

NOW = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)
ONE, TWO, THREE = (f"sha256:{digit * 64}" for digit in "123")


def registry(
    status: dict[str, Any] | None = None, *, generation: int = 1, asked: str = "", **spec: Any
) -> TemplateRegistry:
    annotations = {"unjucks.io/requested-at": asked} if asked else {}
    source = {"git": {"url": "https://git.example.com/t.git"}, "interval": "10m"}
    return TemplateRegistry.parse(
        {
            "apiVersion": "unjucks.io/v1alpha1",
            "kind": "TemplateRegistry",
            "metadata": {
                "name": "web",
                "namespace": "tenant-acme",
                "uid": "u-1",
                "generation": generation,
                "resourceVersion": "1",
                "annotations": annotations,
            },
            "spec": source | spec,
            "status": status or {},
        }
    )


def tenant(*cidrs: str) -> Tenant:
    rules = [{"cidr": cidr, "ports": [443]} for cidr in cidrs]
    return Tenant.parse(
        {
            "apiVersion": "unjucks.io/v1alpha1",
            "kind": "Tenant",
            "metadata": {"name": "acme", "uid": "t-1", "generation": 1, "resourceVersion": "1"},
            "spec": {"tier": "starter", "network": {"egressTo": rules}} if rules else {"tier": "starter"},
        }
    )


# --- schedule ------------------------------------------------------------------------------------------------------------
def test_a_source_is_looked_at_on_its_interval_sooner_after_failures_and_at_once_when_asked() -> None:
    clock = FakeClock()
    schedule = Schedule(clock, random.Random(1), least=60)
    key, subject = ("tenant-acme", "web"), registry()
    assert schedule.due(key, subject, settled=False) == 0
    assert 570 <= schedule.succeeded(key, subject) <= 630
    assert schedule.due(key, subject, settled=True) > 500
    assert schedule.due(key, registry(asked="now"), settled=True) == 0
    assert schedule.due(key, registry(generation=2), settled=True) == 0
    delays = [schedule.failed(key, subject, transient=True) for _ in range(9)]
    assert delays[0] < 6
    assert all(delay <= 300 * 1.05 for delay in delays)
    assert delays[-1] > delays[0]
    assert schedule.failed(key, subject, transient=False) > 500
    assert schedule.interval(registry(interval="10s")) == 60  # the platform's least


def test_after_a_restart_what_is_in_order_waits_and_what_is_not_does_not() -> None:
    schedule = Schedule(FakeClock(), random.Random(1), least=60)
    waits = [schedule.due(("n", str(number)), registry(), settled=True) for number in range(50)]
    assert all(0 <= wait <= 600 for wait in waits)
    assert max(waits) - min(waits) > 300  # not all at once
    assert schedule.due(("n", "broken"), registry(), settled=False) == 0


# --- plan ----------------------------------------------------------------------------------------------------------------
def test_what_is_due_is_read_but_not_from_the_beginning() -> None:
    version = fingerprint(registry(), REMOTE, DataPolicy())
    settled = {"sourceVersion": version, "artifact": {"digest": ONE}}
    decide = plan_registry(registry(settled), REMOTE, DataPolicy(), artifact_stored=True, due=True)
    assert decide == Ingest(version, fresh=False)
    assert isinstance(plan_registry(registry(settled), REMOTE, DataPolicy(), artifact_stored=True), Keep)
    lost = plan_registry(registry(settled), REMOTE, DataPolicy(), artifact_stored=False, due=True)
    assert lost == Ingest(version, fresh=True)
    for scheduling in ({"interval": "1h"}, {"timeout": "5s"}, {"revisionHistoryLimit": 2}):
        assert fingerprint(registry(**scheduling), REMOTE, DataPolicy()) == version


def test_a_pin_serves_what_the_history_has_and_nothing_else() -> None:
    history = [{"revision": "v2", "digest": TWO}, {"revision": "v1", "digest": ONE}]
    status = {"artifact": {"revision": "v2", "digest": TWO}, "history": history}
    for pin in ("v1", ONE):
        decision = plan_registry(registry(status, pin=pin), REMOTE, DataPolicy(), artifact_stored=True)
        assert isinstance(decision, Serve)
        assert decision.entry["digest"] == ONE
    with pytest.raises(Terminal) as caught:
        plan_registry(registry(status, pin="v9"), REMOTE, DataPolicy(), artifact_stored=True)
    assert caught.value.reason is Reason.REVISION_NOT_FOUND


def test_the_history_is_bounded_and_keeps_what_is_pinned() -> None:
    status: dict[str, Any] = {}
    for number, digest in enumerate((ONE, TWO, THREE), start=1):
        artifact = {"revision": f"v{number}", "digest": digest, "lastUpdateTime": f"2026-01-0{number}T00:00:00Z"}
        status = {"artifact": artifact, "history": updated_history(status, artifact, 2)}
    assert [(it["revision"], it["state"]) for it in status["history"]] == [("v3", "Current"), ("v2", "Available")]
    pinned = updated_history(status, status["history"][1], 1, pinned=True)
    assert [(it["revision"], it["state"]) for it in pinned] == [("v2", "Pinned")]
    assert find_version(status, "v1") is None
    again = updated_history(status, {"revision": "v3-moved", "digest": THREE}, 5)
    assert [it["revision"] for it in again] == ["v3-moved", "v2"]


# --- status --------------------------------------------------------------------------------------------------------------
def test_a_failure_keeps_what_is_served_and_makes_the_next_look_a_whole_one() -> None:
    served = {"artifact": {"digest": ONE}, "sourceVersion": "sha256:x", "history": [{"digest": ONE}]}
    transient = compute_unfetched(registry(served), Retryable("later", reason=Reason.FETCH_FAILED), now=NOW)
    lasting = compute_unfetched(registry(served), Terminal("no", reason=Reason.VERIFICATION_FAILED), now=NOW)
    for status, expected in (
        (transient, {"Ready", "ArtifactInStorage", "FetchFailed", "Reconciling"}),
        (lasting, {"Ready", "ArtifactInStorage", "FetchFailed", "Stalled", "SourceVerified"}),
    ):
        assert {item["type"] for item in status["conditions"]} == expected
        assert status["artifact"] == {"digest": ONE}
        assert status["history"] == [{"digest": ONE}]
        assert "sourceVersion" not in status
    again = compute_unfetched(registry(transient), Retryable("later", reason=Reason.FETCH_FAILED), now=NOW)
    assert again == transient  # told once
    quiet = compute_unchanged(registry(served | {"observedGeneration": 1, "conditions": []}), now=NOW)
    assert quiet["artifact"] == {"digest": ONE}


# --- what is asked, and where it may connect to --------------------------------------------------------------------------
def test_only_the_keys_that_a_source_needs_leave_the_secret() -> None:
    subject = registry(
        git={
            "url": "https://git.example.com/t.git",
            "secretRef": {"name": "s"},
            "ref": {"tag": "v1"},
            "verify": {"mode": "Tag", "secretRef": {"name": "keys"}},
        }
    )
    assert (needed_secrets(subject.spec).credentials, needed_secrets(subject.spec).signers) == ("s", "keys")
    request = fetch_request(
        subject,
        fetch_source(subject.spec),
        {"s": {"username": "dQ==", "other": "eA=="}, "keys": {"a": "eA=="}},
        tenant(),
        cluster_ranges([]),
        Config(),
        "v0@sha1:x",
    )
    assert isinstance(request.source, GitSource)
    assert request.credentials == {"username": "dQ=="}
    assert request.signers == {"a": "eA=="}
    assert "dQ==" not in repr(request)
    assert request.limits.wall_seconds == 60


def test_the_allow_list_is_the_platforms_and_what_the_tenants_rules_are_granted() -> None:
    config = Config(courier=Courier(egress=CourierEgress(hosts=("git.example.com",), cidrs=("192.0.2.0/24",))))
    found = allow_list(tenant("203.0.113.0/24", "10.1.0.0/16"), cluster_ranges([]), config)
    assert found.cidrs == ["192.0.2.0/24", "203.0.113.0/24", "10.1.0.0/16"]
    assert found.hosts == ["git.example.com"]
    assert "127.0.0.0/8" in " ".join(found.closed)
    with pytest.raises(Waiting) as caught:
        allow_list(tenant(), NOTHING_KNOWN, config)
    assert caught.value.reason is Reason.CLUSTER_RANGES_UNKNOWN


@pytest.mark.parametrize(
    "cidr", ["127.0.0.0/8", "127.0.0.1/32", "169.254.0.0/16", "::1/128", "fe80::/10", "224.0.0.0/4"]
)
def test_no_configuration_opens_loopback_or_metadata(cidr: str) -> None:
    with pytest.raises(ValueError, match="can never be allowed"):
        CourierEgress(cidrs=(cidr,))


def test_an_artifact_of_flux_is_taken_from_the_platforms_host_only() -> None:
    host = "source-controller.flux-system.svc.cluster.local."
    body = {
        "metadata": {"name": "t", "namespace": "tenant-acme"},
        "status": {
            "artifact": {
                "url": f"http://{host}/gitrepository/tenant-acme/t/a.tar.gz",
                "digest": ONE,
                "revision": "main@sha1:a",
            }
        },
    }
    found = flux_source("GitRepository", body, host)
    assert (found.flux, found.digest, found.revision) == (True, ONE, "main@sha1:a")
    with pytest.raises(Waiting):
        flux_source("GitRepository", {"metadata": {"name": "t"}}, host)
    for url in (
        "http://evil.example/a",
        "http://u:p@source-controller.flux-system.svc.cluster.local/a",
        "file:///etc/x",
        f"http://{host}/gitrepository/tenant-globex/t/a.tar.gz",
        f"http://{host}/gitrepository/tenant-acme/other/a.tar.gz",
        f"http://{host}/gitrepository/tenant-acme/t/../../tenant-globex/t/a.tar.gz",
        f"http://{host}/gitrepository/tenant-acme/t/..%2f..%2ftenant-globex/t/a.tar.gz",
        f"http://{host}/gitrepository/tenant-acme/t/..",
        f"http://{host}/bucket/tenant-acme/t/a.tar.gz",
    ):
        body["status"] = {"artifact": {"url": url, "digest": ONE}}
        with pytest.raises(Terminal) as caught:
            flux_source("GitRepository", body, host)
        assert caught.value.reason is Reason.URL_INVALID


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"files": [SourceFile(path="../x", content="")]}, Reason.PATH_REJECTED),
        ({"files": [SourceFile(path="a", content=""), SourceFile(path="A", content="")]}, Reason.PATH_REJECTED),
        ({"files": [SourceFile(path="a", content="eA=")]}, Reason.MANIFEST_MISMATCH),
        ({"unchanged": True}, Reason.MANIFEST_MISMATCH),
        ({"revision": "a\nb"}, Reason.MANIFEST_MISMATCH),
        ({"revision": ""}, Reason.MANIFEST_MISMATCH),
    ],
)
def test_a_couriers_word_is_not_taken(changes: dict[str, Any], reason: Reason) -> None:
    request = fetch_request(
        registry(), HttpSource(url="https://x.example/t"), {}, tenant(), cluster_ranges([]), Config(), ""
    )
    response = FetchResponse(revision="r", files=[SourceFile(path="a", content="")])
    assert verified_fetch(response, request).revision == "r"
    with pytest.raises(RenderFailure) as caught:
        verified_fetch(response.model_copy(update=changes), request)
    assert caught.value.reason is reason
