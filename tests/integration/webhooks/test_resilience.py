"""What must hold when things go wrong or at once: two replicas and one code, kills, rotation, absence, forgery, bad bodies."""

import asyncio
import io
import json
import os
import ssl
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
import yaml
from aiohttp import web

from support.webhooks import USER, Device, Replica, WebhookSite
from unjucks_api import approvals, names
from unjucks_api.approvals import Change

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300), pytest.mark.asyncio(loop_scope="module")]

CODE = names.ANNOTATION_APPROVAL
UNPROTECT = {"spec": {"protected": False}}
GOOD = {"_templates/model/new/a.njk": "---\nto: a.txt\n---\n{{ name }}\n"}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def replicas(site: WebhookSite) -> AsyncIterator[tuple[Replica, Replica]]:
    """Two processes."""
    async with site.replica() as one, site.replica() as two:
        await site.in_force()
        yield one, two


def review(tenant: dict[str, Any], user: str, code: str) -> dict[str, Any]:
    """What the API server asks when somebody unprotects this Tenant with a code."""
    metadata = {**tenant["metadata"], "annotations": {CODE: code}}
    return {
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "request": {
            "uid": "00000000-0000-4000-8000-000000000001",
            "kind": {"group": names.GROUP, "version": names.VERSION, "kind": "Tenant"},
            "name": tenant["metadata"]["name"],
            "operation": "UPDATE",
            "userInfo": {"username": user},
            "object": {**tenant, "metadata": metadata, "spec": {**tenant["spec"], "protected": False}},
            "oldObject": tenant,
        },
    }


async def ask(session: aiohttp.ClientSession, port: int, body: dict[str, Any]) -> dict[str, Any]:
    """Post a review to a replica; its response."""
    async with session.post(f"https://localhost:{port}/approve", json=body) as answer:
        assert answer.status == 200, await answer.text()
        found: dict[str, Any] = (await answer.json())["response"]
        return found


@pytest.mark.isolation("T-approval-replay", state="up")
async def test_one_code_at_two_replicas_at_once_counts_once(
    site: WebhookSite, replicas: tuple[Replica, Replica]
) -> None:
    tenants = [await site.tenant(f"wh-twice-{number}", protected=True) for number in range(2)]
    for round_ in range(4):
        user = f"twin{round_}@acme.example"
        device = await site.enrol(user)
        digits = await device.fresh()
        async with site.session() as session:
            asked = [
                ask(session, replica.port, review(tenant, user, digits))
                for tenant in tenants
                for replica in replicas
                for _ in range(3)
            ]
            answers = await asyncio.gather(*asked)
        accepted = [answer for answer in answers if answer["allowed"]]
        assert len(accepted) == 1
        assert all("used already" in it["status"]["message"] for it in answers if not it["allowed"])


@pytest.mark.isolation("T-approval-replay", state="up")
async def test_one_recovery_code_at_two_replicas_at_once_counts_once(
    site: WebhookSite, replicas: tuple[Replica, Replica]
) -> None:
    tenant = await site.tenant("wh-spent", protected=True)
    device = await site.enrol("rita@acme.example")
    async with site.session() as session:
        asked = [
            ask(session, replica.port, review(tenant, device.user, device.recovery[0]))
            for replica in replicas
            for _ in range(2)
        ]
        answers = await asyncio.gather(*asked)
    assert [answer["allowed"] for answer in answers].count(True) == 1


@pytest.mark.isolation("T-approval-guess", state="up")
async def test_guesses_at_two_replicas_at_once_are_all_counted(
    site: WebhookSite, replicas: tuple[Replica, Replica]
) -> None:
    tenant = await site.tenant("wh-stormed", protected=True)
    device = await site.enrol("sam@acme.example")
    right = {device.code(offset) for offset in (-1, 0, 1, 2)}
    wrong = [f"{number:06d}" for number in range(30) if f"{number:06d}" not in right][:12]
    async with site.session() as session:
        asked = [
            ask(session, replicas[number % 2].port, review(tenant, device.user, digits))
            for number, digits in enumerate(wrong)
        ]
        answers = await asyncio.gather(*asked)
    told = [answer["status"]["message"] for answer in answers]
    assert sum("wrong code:" in text for text in told) == 5
    assert sum("none is looked at before" in text for text in told) == 7


@pytest.mark.isolation("T-approval-forged", state="up")
async def test_records_that_are_made_up_or_of_another_object_count_for_nothing(
    site: WebhookSite, replicas: tuple[Replica, Replica]
) -> None:
    user = "mallory@acme.example"
    tenant = await site.tenant("wh-forged", protected=True)
    other = await site.tenant("wh-forged-other", protected=True)
    change = Change(approvals.PROTECTED, "false", "")
    uid, generation = tenant["metadata"]["uid"], tenant["metadata"]["generation"]
    genuine = approvals.seal(site.key, uid, change, by=user, at="now", generation=generation)
    forgeries = {
        "made up": approvals.seal(os.urandom(32), uid, change, by=user, at="now", generation=generation),
        "of another object": approvals.seal(
            site.key, other["metadata"]["uid"], change, by=user, at="now", generation=generation
        ),
        "of another user": approvals.seal(site.key, uid, change, by="ada", at="now", generation=generation),
        "of an earlier generation": approvals.seal(site.key, uid, change, by=user, at="now", generation=generation - 1),
        "for another value": approvals.seal(
            site.key, uid, Change(approvals.PROTECTED, "true", ""), by=user, at="now", generation=generation
        ),
    }
    for what, record in forgeries.items():
        annotations = {names.ANNOTATION_APPROVED: approvals.merge([], [record])}
        said = await site.patch(user, "wh-forged", {"metadata": {"annotations": annotations}, **UNPROTECT})
        assert not said.ok, what
        assert "needs an approval" in said.text, what
    # The control: a record with the key and about this very change is what is looked for.
    annotations = {names.ANNOTATION_APPROVED: approvals.merge([], [genuine])}
    said = await site.patch(user, "wh-forged", {"metadata": {"annotations": annotations}, **UNPROTECT})
    assert said.ok, said.text


async def test_a_certificate_is_exchanged_without_a_lost_request(
    site: WebhookSite, replicas: tuple[Replica, Replica]
) -> None:
    failures: list[str] = []
    answered = 0
    going = True
    serials: set[str] = set()

    async def load(number: int) -> None:
        nonlocal answered
        while going:
            # A registry that only the webhook finds fault with: that it is refused shows that the webhook was asked.
            spec = {
                "configMapRef": {"name": "x"},
                "variables": {"schema": {"type": "object", "properties": {"a": {"type": "strin"}}}},
            }
            said = await site.create_registry("loader", f"loaded-{number}", spec, dry_run=True)
            answered += 1
            if said.status != 422 or "spec.variables.schema" not in said.text:
                failures.append(said.text)

    async def connect() -> None:
        """New connections all the time: API servers keep theirs."""
        tls = ssl.create_default_context(cadata=site.authority.bundle.decode())
        while going:
            for replica in replicas:
                try:
                    _, writer = await asyncio.open_connection("localhost", replica.port, ssl=tls)
                except (OSError, ssl.SSLError) as error:
                    failures.append(repr(error))
                    continue
                serials.add(writer.get_extra_info("peercert")["serialNumber"])
                writer.close()

    tasks = [asyncio.create_task(load(number)) for number in range(3)] + [asyncio.create_task(connect())]
    try:
        issued = []
        for _ in range(4):
            for replica in replicas:
                issued.append(site.write_certificate(replica.folder).serial)
            async with asyncio.timeout(30):
                while not {serial.zfill(40)[-40:].upper().lstrip("0") for serial in issued[-2:]} <= {
                    serial.lstrip("0") for serial in serials
                }:
                    await asyncio.sleep(0.05)
    finally:
        going = False
        await asyncio.gather(*tasks)
    assert failures == []
    assert answered > 10
    assert len(serials) >= 8


async def test_files_that_cannot_be_used_change_nothing(site: WebhookSite, replicas: tuple[Replica, Replica]) -> None:
    folder = replicas[0].folder
    good = os.readlink(folder / "current")
    bad = folder / "bad"
    bad.mkdir()
    for name in ("tls.crt", "tls.key", "ca.crt"):
        (bad / name).write_bytes((folder / good / name).read_bytes())
    (bad / "tls.key").write_text("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n")
    (folder / "next").symlink_to("bad")
    (folder / "next").replace(folder / "current")
    async with asyncio.timeout(20):
        while "cannot be used, the old one stays" not in replicas[0].log:
            await asyncio.sleep(0.05)
    assert (await replicas[0].get("/readyz"))[0] == 200
    async with site.session() as session, session.post(f"https://localhost:{replicas[0].port}/validate") as answer:
        assert answer.status == 415
    site.write_certificate(folder)


@pytest.mark.isolation("T-approval-missing", state="down")
async def test_without_the_webhooks_only_what_destroys_is_refused(
    site: WebhookSite, replicas: tuple[Replica, Replica]
) -> None:
    user = "ada@acme.example"
    await site.tenant("wh-alone", protected=True, database={"reclaimPolicy": "Delete"})
    async with site.balancer.only():
        # Everything ordinary works.
        await site.tenant("wh-alone-too")
        for change in (
            {"spec": {"suspend": True}},
            {"spec": {"tier": "professional"}},
            {"spec": {"tier": "starter"}},
            {"metadata": {"labels": {"a": "b"}}},
            {"metadata": {"finalizers": ["unjucks.io/tenant-cleanup"]}},
            {"spec": {"deletionPolicy": "Retain", "database": {"reclaimPolicy": "Retain"}}},
            {"metadata": {"finalizers": []}},
        ):
            said = await site.patch(user, "wh-alone", change)
            assert said.ok, said.text
        said = await site.create_registry(user, "wh-alone", {"inline": {"files": GOOD}})
        assert said.ok, said.text
        # What destroys is not.
        for change in (
            UNPROTECT,
            {"spec": {"protected": None}},
            {"spec": {"deletionPolicy": "Delete"}},
            {"spec": {"database": {"reclaimPolicy": "Delete"}}},
            {"metadata": {"annotations": {names.ANNOTATION_CONFIRM_DELETE: "wh-alone@2026-01-01"}}},
        ):
            said = await site.patch(user, "wh-alone", change)
            assert not said.ok, change
            assert "webhooks.unjucks.io" in said.text
        said = await site.patch(user, "wh-alone", {"metadata": {"annotations": {CODE: "123456"}}})
        assert not said.ok
        assert (await site.request("admin", "DELETE", "/apis/unjucks.io/v1alpha1/tenants/wh-alone-too", {})).ok


@pytest.mark.isolation("T-approval-missing", state="up")
async def test_every_destructive_change_needs_a_code_and_no_other_does(
    site: WebhookSite, replicas: tuple[Replica, Replica]
) -> None:
    """The chart's conditions and ``destructive_changes`` agree: what the one lets pass the other would, too."""
    user = "olga@acme.example"
    await site.tenant("wh-table", protected=True, tier="enterprise")
    for change, wanted in (
        (UNPROTECT, approvals.PROTECTED),
        ({"spec": {"protected": None}}, approvals.PROTECTED),
        ({"spec": None}, ""),
        ({"spec": {"deletionPolicy": "Delete"}}, approvals.DELETION_POLICY),
        ({"spec": {"deletionPolicy": None}}, ""),
        ({"spec": {"database": {"reclaimPolicy": "Delete"}}}, approvals.RECLAIM_POLICY),
        ({"spec": {"database": {"reclaimPolicy": "Retain"}}}, ""),
        ({"spec": {"tier": "starter"}}, ""),
        ({"metadata": {"annotations": {names.ANNOTATION_CONFIRM_DELETE: "table@x"}}}, approvals.CONFIRM_DELETE),
        ({"metadata": {"annotations": {names.ANNOTATION_CONFIRM_DELETE: ""}}}, ""),
    ):
        said = await site.patch(user, "wh-table", change, dry_run=True)
        if wanted:
            assert not said.ok, change
            assert "needs an approval" in said.text
        elif change != {"spec": None}:
            assert said.ok, (change, said.text)


class SlowApi:
    """Passes requests on to the real API server, and holds a write of the approvers' Secret until told."""

    def __init__(self, site: WebhookSite) -> None:
        self._site = site
        self.held = asyncio.Event()
        self.forward_first = False
        self.url = ""

    async def handle(self, request: web.Request) -> web.Response:
        body = await request.read()

        async def forward() -> web.Response:
            headers = {
                "Impersonate-User": USER,
                "Content-Type": request.headers.get("Content-Type", "application/json"),
            }
            url = f"{self._site.plane.server}{request.path_qs}"
            async with self._site.http.request(request.method, url, headers=headers, data=body) as answer:
                return web.Response(status=answer.status, body=await answer.read(), content_type="application/json")

        if request.method != "PUT":
            return await forward()
        if self.forward_first:
            done = await forward()
            assert done.status == 200
        self.held.set()
        await asyncio.sleep(60)
        return web.Response(status=500)


@pytest.mark.isolation("T-approval-replay", state="up")
@pytest.mark.parametrize("stored", [False, True], ids=["before the store", "after the store"])
async def test_a_kill_between_accepting_and_storing(
    site: WebhookSite, replicas: tuple[Replica, Replica], stored: bool
) -> None:
    user = f"kim{int(stored)}@acme.example"
    device: Device = await site.enrol(user)
    name = f"wh-killed-{int(stored)}"
    tenant = await site.tenant(name, protected=True)
    slow = SlowApi(site)
    slow.forward_first = stored
    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", slow.handle)
    runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    kubeconfig = site.folder / f"slow-{int(stored)}.kubeconfig"
    cluster = {"name": "slow", "cluster": {"server": f"http://127.0.0.1:{runner.addresses[0][1]}"}}
    config: dict[str, Any] = {"apiVersion": "v1", "kind": "Config", "clusters": [cluster], "current-context": "slow"}
    config["users"] = [{"name": "nobody", "user": {"token": "unused"}}]
    config["contexts"] = [{"name": "slow", "context": {"cluster": "slow", "user": "nobody"}}]
    kubeconfig.write_text(yaml.safe_dump(config))
    try:
        async with site.replica(kubeconfig=kubeconfig, balanced=False) as victim:
            digits = await device.fresh()
            change = {"metadata": {"annotations": {CODE: digits}}, **UNPROTECT}
            async with site.balancer.only(victim.port):
                asked = asyncio.create_task(site.patch(user, name, change))
                async with asyncio.timeout(30):
                    await slow.held.wait()
                victim.kill()
                said = await asked
        assert not said.ok
        assert (await site.get("tenant", name))["spec"]["protected"] is True
        assert tenant["metadata"]["generation"] == (await site.get("tenant", name))["metadata"]["generation"]
        # Nobody was told that it counts. If it was stored it is spent; if not, it is as good as before. Never twice.
        said = await site.patch(user, name, change)
        assert said.ok is not stored, said.text
    finally:
        await runner.cleanup()


async def test_bodies_that_are_no_reviews_are_refused(site: WebhookSite, replicas: tuple[Replica, Replica]) -> None:
    url = f"https://localhost:{replicas[0].port}"
    async with site.session() as session:
        for path, data, content, status in (
            ("/validate", b"{", "application/json", 400),
            ("/validate", b"[]", "application/json", 400),
            (
                "/validate",
                json.dumps({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview"}),
                "application/json",
                400,
            ),
            ("/approve", b"{}", "text/plain", 415),
            ("/verify", io.BytesIO(b" " * (9 * 1024 * 1024)), "application/json", 413),
            ("/nowhere", b"{}", "application/json", 404),
        ):
            async with session.post(url + path, data=data, headers={"Content-Type": content}) as answer:
                assert answer.status == status, path


async def test_old_tls_is_refused(site: WebhookSite, replicas: tuple[Replica, Replica]) -> None:
    tls = ssl.create_default_context(cadata=site.authority.bundle.decode())
    tls.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises((ssl.SSLError, ConnectionError)):
        await asyncio.open_connection("localhost", replicas[0].port, ssl=tls)
