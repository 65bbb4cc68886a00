"""The webhooks as the API server calls them: everything wrong at once, codes that are never stored, approvals."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from support.webhooks import Replica, WebhookSite
from unjucks_api import approvals, names

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300), pytest.mark.asyncio(loop_scope="module")]

ADA = "ada@acme.example"
CODE = names.ANNOTATION_APPROVAL
UNPROTECT = {"spec": {"protected": False}}


def with_code(code: str, body: dict[str, Any]) -> dict[str, Any]:
    """The same change with a code."""
    annotations = {**(body.get("metadata") or {}).get("annotations", {}), CODE: code}
    return {**body, "metadata": {"annotations": annotations}}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def replicas(site: WebhookSite) -> AsyncIterator[tuple[Replica, Replica]]:
    """Two processes."""
    async with site.replica() as one, site.replica() as two:
        await site.in_force()
        yield one, two


def inline(files: dict[str, str], **spec: Any) -> dict[str, Any]:
    """The spec of a registry with these files."""
    return {"inline": {"files": files}, **spec}


async def test_everything_that_is_wrong_is_said_at_once(site: WebhookSite, replicas: tuple[Replica, Replica]) -> None:
    files = {
        "_templates/model/new/a.njk": "---\nto: a.txt\n---\n{% if %}\n",
        "_templates/model/old/b.njk": "---\nto: b.txt\nwhen: x\n---\n{{ a | nosuchfilter }}\n",
    }
    schema = {"type": "object", "properties": {"a": {"type": "strin"}}}
    answer = await site.create_registry(ADA, "broken", inline(files, variables={"schema": schema}))
    assert answer.status == 422
    said = answer.text
    assert "validate.webhooks.unjucks.io" in said
    assert "spec.variables.schema/properties/a" in said
    assert "spec.inline.files[_templates/model/new/a.njk]:4" in said
    assert "spec.inline.files[_templates/model/old/b.njk]:3" in said


async def test_a_good_registry_and_one_that_serves_what_is_valid(
    site: WebhookSite, replicas: tuple[Replica, Replica]
) -> None:
    good = {"_templates/model/new/a.njk": "---\nto: a.txt\n---\n{{ name }}\n"}
    said = await site.create_registry(ADA, "good", inline(good))
    assert said.ok, said.text
    bad = {**good, "_templates/model/old/a.njk": "---\nto: b.txt\n---\n{% if %}\n"}
    policy = {"onInvalidTemplate": "ServeValid"}
    said = await site.create_registry(ADA, "partly", inline(bad, policy=policy))
    assert said.ok, said.text
    assert any(text.startswith("spec.inline.files[_templates/model/old/a.njk]:4") for text in said.warnings)


@pytest.mark.isolation("T-approval-replay", state="up")
async def test_an_approval_from_beginning_to_end(site: WebhookSite, replicas: tuple[Replica, Replica]) -> None:
    await site.tenant("wh-acme", protected=True)
    ada = await site.enrol(ADA)
    said = await site.patch(ADA, "wh-acme", UNPROTECT)
    assert not said.ok
    assert "spec.protected from true to false" in said.text
    assert CODE in said.text

    digits = await ada.fresh()
    before = (await site.get("tenant", "wh-acme"))["metadata"]["generation"]
    said = await site.patch(ADA, "wh-acme", with_code(digits, UNPROTECT))
    assert said.ok, said.text
    stored = await site.get("tenant", "wh-acme", "--show-managed-fields")
    assert stored["spec"]["protected"] is False
    assert CODE not in stored["metadata"]["annotations"]
    assert digits not in json.dumps(stored)
    (record,) = approvals.approvals_of(stored, site.key)
    assert (record.path, record.by, record.generation) == (approvals.PROTECTED, ADA, before)

    # The same code for the same thing again.
    assert (await site.patch(ADA, "wh-acme", {"spec": {"protected": True}})).ok
    said = await site.patch(ADA, "wh-acme", with_code(digits, UNPROTECT))
    assert not said.ok
    assert "used already" in said.text
    assert (await site.get("tenant", "wh-acme"))["spec"]["protected"] is True

    # Who approved is told, the code is not.
    async with asyncio.timeout(20):  # it is posted after the answer
        while not (notes := await _notes(site, "wh-acme")):
            await asyncio.sleep(0.1)
    assert notes == [f"{ADA} approved: spec.protected (at generation {before})"]
    for replica in replicas:
        assert digits not in replica.log


async def _notes(site: WebhookSite, tenant: str) -> list[str]:
    events = json.loads(await site.kubectl("get", "events.events.k8s.io", "-n", "default", "-o", "json"))
    return [item["note"] for item in events["items"] if item["regarding"].get("name") == tenant]


@pytest.mark.isolation("T-approval-forged", state="up")
async def test_a_dry_run_uses_no_code_and_its_record_is_worth_nothing(
    site: WebhookSite, replicas: tuple[Replica, Replica]
) -> None:
    user = "dora@acme.example"
    await site.tenant("wh-dry", protected=True)
    dora = await site.enrol(user)
    wrong = with_code("000000", UNPROTECT)
    said = await site.patch(user, "wh-dry", wrong, dry_run=True)
    assert said.ok, said.text
    assert "neither checked nor used" in said.text
    stolen = said.object["metadata"]["annotations"][names.ANNOTATION_APPROVED]
    assert (await site.get("tenant", "wh-dry"))["spec"]["protected"] is True

    forged = {"metadata": {"annotations": {names.ANNOTATION_APPROVED: stolen}}, **UNPROTECT}
    said = await site.patch(user, "wh-dry", forged)
    assert not said.ok
    assert "needs an approval" in said.text
    renamed = json.loads(stolen.replace("dry-run:", ""))
    forged = {"metadata": {"annotations": {names.ANNOTATION_APPROVED: json.dumps(renamed)}}, **UNPROTECT}
    assert not (await site.patch(user, "wh-dry", forged)).ok
    # Nothing was counted, nothing used up.
    said = await site.patch(user, "wh-dry", with_code(await dora.fresh(), UNPROTECT))
    assert said.ok, said.text


async def test_the_code_leaves_kubectls_own_copy_too(site: WebhookSite, replicas: tuple[Replica, Replica]) -> None:
    user = "eve@acme.example"
    eve = await site.enrol(user)
    tenant = {"apiVersion": names.API_VERSION, "kind": "Tenant", "metadata": {"name": "wh-copied"}}
    code, said = await site.try_as(user, "apply", "-f", "-", stdin=json.dumps({**tenant, "spec": {"protected": True}}))
    assert code == 0, said
    digits = await eve.fresh()
    approved = {
        **tenant,
        "metadata": {"name": "wh-copied", "annotations": {CODE: digits}},
        "spec": {"protected": False},
    }
    code, said = await site.try_as(user, "apply", "-f", "-", stdin=json.dumps(approved))
    assert code == 0, said
    stored = await site.get("tenant", "wh-copied", "--show-managed-fields")
    assert stored["spec"]["protected"] is False
    assert "last-applied" in json.dumps(stored)
    assert digits not in json.dumps(stored)


async def test_a_code_that_is_not_needed_is_neither_used_nor_stored(
    site: WebhookSite, replicas: tuple[Replica, Replica]
) -> None:
    user = "finn@acme.example"
    finn = await site.enrol(user)
    await site.tenant("wh-spare", protected=True)
    digits = await finn.fresh()
    said = await site.patch(user, "wh-spare", with_code(digits, {"spec": {"suspend": True}}))
    assert said.ok, said.text
    assert "needs no approval" in said.text
    assert CODE not in ((await site.get("tenant", "wh-spare"))["metadata"].get("annotations") or {})
    assert (await site.patch(user, "wh-spare", with_code(digits, UNPROTECT))).ok


async def test_other_kinds_never_store_a_code(site: WebhookSite, replicas: tuple[Replica, Replica]) -> None:
    spec = inline({"_templates/m/n/a.njk": "---\nto: a\n---\n"})
    said = await site.create_registry(ADA, "coded", spec, approval="123456")
    assert not said.ok
    assert "a code is never stored" in said.text


@pytest.mark.isolation("T-approval-guess", state="up")
async def test_guessing_is_slowed_down_and_the_lock_survives_restarts(
    site: WebhookSite, replicas: tuple[Replica, Replica]
) -> None:
    user = "gus@acme.example"
    gus = await site.enrol(user)
    await site.tenant("wh-guessed", protected=True)
    right = {gus.code(offset) for offset in (-1, 0, 1, 2)}
    wrong = [f"{number:06d}" for number in range(20) if f"{number:06d}" not in right]
    for guess in wrong[:5]:
        said = await site.patch(user, "wh-guessed", with_code(guess, UNPROTECT))
        assert not said.ok
        assert "wrong code" in said.text
    said = await site.patch(user, "wh-guessed", with_code(await gus.fresh(), UNPROTECT))
    assert not said.ok
    assert "after 5 wrong codes none is looked at before" in said.text
    # A process that has seen none of this.
    async with site.replica(balanced=False) as other, site.balancer.only(other.port):
        said = await site.patch(user, "wh-guessed", with_code(gus.code(), UNPROTECT))
    assert not said.ok
    listed = json.loads((await site.command("list", "--output", "json"))[1])["approvers"]
    assert next(it for it in listed if it["user"] == user)["lockedUntil"]
    assert (await site.command("unlock", "--user", user))[0] == 0
    assert (await site.patch(user, "wh-guessed", with_code(await gus.fresh(), UNPROTECT))).ok


async def test_a_recovery_code_counts_once(site: WebhookSite, replicas: tuple[Replica, Replica]) -> None:
    user = "hal@acme.example"
    hal = await site.enrol(user)
    await site.tenant("wh-recovered", protected=True)
    spent = hal.recovery[3]
    said = await site.patch(user, "wh-recovered", with_code(spent, UNPROTECT))
    assert said.ok, said.text
    assert "9 are left" in said.text
    assert (await site.patch(user, "wh-recovered", {"spec": {"protected": True}})).ok
    said = await site.patch(user, "wh-recovered", with_code(spent, UNPROTECT))
    assert not said.ok
    assert "used already" in said.text
    secret = await site.get("secret", names.APPROVALS_SECRET, "-n", names.PLATFORM_NAMESPACE)
    everything = b"".join(base64.b64decode(value) for value in secret["data"].values()).decode(errors="replace")
    assert not any(known.replace("-", "") in everything for known in hal.recovery)


async def test_only_the_enrolled_approve_and_only_for_themselves(
    site: WebhookSite, replicas: tuple[Replica, Replica]
) -> None:
    ines = await site.enrol("ines@acme.example")
    await site.tenant("wh-theirs", protected=True)
    said = await site.patch("mallory@acme.example", "wh-theirs", with_code(await ines.fresh(), UNPROTECT))
    assert not said.ok
    assert "not enrolled" in said.text
    assert (await site.patch("ines@acme.example", "wh-theirs", with_code(ines.code(), UNPROTECT))).ok
    assert (await site.command("revoke", "--user", "ines@acme.example"))[0] == 0
    assert (await site.patch("ines@acme.example", "wh-theirs", {"spec": {"protected": True}})).ok
    said = await site.patch("ines@acme.example", "wh-theirs", with_code(ines.code(1), UNPROTECT))
    assert not said.ok
    assert "not enrolled" in said.text


async def test_several_changes_are_approved_together_and_each_is_named(
    site: WebhookSite, replicas: tuple[Replica, Replica]
) -> None:
    user = "jo@acme.example"
    jo = await site.enrol(user)
    await site.tenant("wh-several", protected=True)
    change = {"spec": {"protected": False, "deletionPolicy": "Delete", "database": {"reclaimPolicy": "Delete"}}}
    said = await site.patch(user, "wh-several", change)
    assert not said.ok
    assert all(word in said.text for word in ("spec.protected", "spec.deletionPolicy", "spec.database.reclaimPolicy"))
    said = await site.patch(user, "wh-several", with_code(await jo.fresh(), change))
    assert said.ok, said.text
    stored = await site.get("tenant", "wh-several")
    assert {it.path for it in approvals.approvals_of(stored, site.key)} == {
        approvals.PROTECTED,
        approvals.DELETION_POLICY,
        approvals.RECLAIM_POLICY,
    }


async def test_metrics_tell_verdicts_and_no_names(site: WebhookSite, replicas: tuple[Replica, Replica]) -> None:
    texts = await asyncio.gather(*(replica.get("/metrics") for replica in replicas))
    together = "".join(text for _, text in texts)
    assert 'unjucks_webhooks_approvals_total{verdict="accepted"}' in together
    assert "unjucks_webhooks_certificate_not_after_seconds" in together
    assert "acme" not in together
