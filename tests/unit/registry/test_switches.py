"""What a registry's status says of switches and of a spec that could not be read goes away with its cause."""

import random
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, cast

import pytest

from support.builders import registry, tenant
from support.clock import FakeClock
from unjucks_api.conditions import Condition as Told
from unjucks_api.conditions import ConditionType, find_condition, merge_conditions, paused_status
from unjucks_api.reasons import Reason
from unjucks_api.v1alpha1.data_policy import DataPolicy
from unjucks_operator.engine.store import ResourceStore
from unjucks_operator.errors import InvalidSpec
from unjucks_operator.registry.plan import INLINE, fingerprint
from unjucks_operator.registry.reconcile import RegistryReconciler

NOW = datetime(2026, 6, 1, tzinfo=UTC)
KEY = ("tenant-acme", "platform")
SPEC = {"inline": {"files": {"_templates/a/b/c.txt.njk": "hello"}}}


def good_status() -> dict[str, Any]:
    return {
        "observedGeneration": 1,
        "sourceVersion": fingerprint(registry(), INLINE, DataPolicy()),
        "lastHandledRequestedAt": "",
        "artifact": {"revision": "1", "digest": "sha256:" + "1" * 64, "size": 5},
        "conditions": merge_conditions(
            (), [Told(ConditionType.READY, "True", Reason.SUCCEEDED, "1 action(s)")], generation=1, now=NOW
        ),
    }


def body_of(status: dict[str, Any], spec: dict[str, Any] = SPEC) -> dict[str, Any]:
    made = registry()
    metadata = {
        "name": made.name,
        "namespace": made.namespace,
        "uid": made.uid,
        "generation": 1,
        "resourceVersion": "5",
    }
    return {
        "apiVersion": "unjucks.io/v1alpha1",
        "kind": "TemplateRegistry",
        "metadata": metadata,
        "spec": spec,
        "status": status,
    }


def reconciler(body: dict[str, Any]) -> tuple[RegistryReconciler, list[dict[str, Any]]]:
    store, written, nothing = ResourceStore(), [], cast(Any, None)
    store.put(body)

    async def write(_r: Any, _s: Any, before: Any, status: Any, *, action: str) -> Any:
        if status != before.get("status"):
            written.append(dict(status))
        return {**before, "status": status}

    async def actions(*_: Any) -> tuple[()]:
        return ()

    made = RegistryReconciler(
        api=nothing, store=store, config_maps=nothing, directory=cast(Any, SimpleNamespace(require=lambda _: tenant())),
        role_of=lambda _: "role", storage=cast(Any, SimpleNamespace(actions=actions)), pool=nothing, demand=nothing,
        fetcher=nothing, courier_demand=nothing, status=cast(Any, SimpleNamespace(write=write)),
        config=cast(Any, SimpleNamespace(courier=SimpleNamespace(minimum_interval=60.0))), clock=FakeClock(),
        rng=random.Random(1),
    )  # fmt: skip
    return made, written


@pytest.mark.asyncio
async def test_nothing_is_written_while_nothing_changes() -> None:
    reconcile, written = reconciler(body_of(good_status()))
    await reconcile(KEY)
    assert written == []


@pytest.mark.asyncio
async def test_a_pause_that_is_over_is_not_told_any_more() -> None:
    reconcile, written = reconciler(body_of(paused_status(good_status(), now=NOW)))
    await reconcile(KEY)
    assert [find_condition(it, ConditionType.PAUSED) for it in written] == [None]
    assert (find_condition(written[-1], ConditionType.READY) or {})["status"] == "True"


@pytest.mark.asyncio
async def test_a_spec_that_cannot_be_read_does_not_stay_told_once_it_is_as_it_was() -> None:
    """With the old spec the source looks as if it was dealt with: only reading it again says Ready."""
    reconcile, written = reconciler(body_of(good_status(), {"inline": {"files": {"a": 7}}}))
    with pytest.raises(InvalidSpec):
        await reconcile(KEY)
    assert (find_condition(written[-1], ConditionType.READY) or {})["reason"] == "InvalidSpec"
    assert "sourceVersion" not in written[-1]
    assert written[-1]["artifact"]["digest"], "what was served stays served"
