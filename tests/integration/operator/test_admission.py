"""What the operator does for the webhooks, and that it believes a confirmation only with a genuine record of its approval."""

import asyncio
import base64
import json
import ssl
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from support import chart
from support.operator_process import OPERATOR_USER, OperatorProcess, Site
from support.webhooks import KINDS
from unjucks_api import approvals, names
from unjucks_api.approvals import Change
from unjucks_operator.kube.resources import MUTATING_WEBHOOKS, SECRET, TENANT, VALIDATING_WEBHOOKS

pytestmark = [pytest.mark.integration, pytest.mark.timeout(180), pytest.mark.asyncio(loop_scope="module")]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def operator(site: Site) -> AsyncIterator[OperatorProcess]:
    """With the webhooks switched on, and the rights that the chart then adds."""
    wanted = []
    for item in chart.render({"webhooks": {"enabled": True}}):
        if item["metadata"]["name"] == "unjucks-operator-webhooks":
            for subject in item.get("subjects", ()):
                subject.clear()
                subject.update(kind="User", name=OPERATOR_USER, apiGroup="rbac.authorization.k8s.io")
            wanted.append(item)
        elif item["kind"] in KINDS:
            wanted.append(item)
    assert len(wanted) == 6
    await site.apply(*wanted)
    deletion = {"databaseGrace": 0, "requireBackup": False}
    async with site.operator(sweep={"interval": 1}, webhooks={"enabled": True}, deletion=deletion) as running:
        yield running


async def eventually(what: str, done: Callable[[], Awaitable[Any]], seconds: float = 60) -> Any:
    """The first true answer of ``done``."""
    try:
        async with asyncio.timeout(seconds):
            while not (found := await done()):
                await asyncio.sleep(0.1)
            return found
    except TimeoutError:
        raise AssertionError(f"not within {seconds} s: {what}") from None


async def secret(site: Site, name: str) -> dict[str, Any] | None:
    return await site.api.get(SECRET, name, names.PLATFORM_NAMESPACE)


async def bundles(site: Site) -> set[str]:
    """The authorities in both configurations."""
    found = set()
    for resource in (VALIDATING_WEBHOOKS, MUTATING_WEBHOOKS):
        body = await site.api.get(resource, names.WEBHOOKS)
        assert body is not None
        found |= {webhook["clientConfig"].get("caBundle", "") for webhook in body["webhooks"]}
    return found


async def test_the_certificate_fits_the_service_and_the_configurations_trust_it(
    site: Site, operator: OperatorProcess, tmp_path: Path
) -> None:
    made = await eventually("the Secret is there", lambda: secret(site, names.WEBHOOKS_TLS_SECRET))
    for name, content in made["data"].items():
        (tmp_path / name).write_bytes(base64.b64decode(content))
    (bundle,) = await bundles(site)
    (tmp_path / "bundle.pem").write_bytes(base64.b64decode(bundle))
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(tmp_path / "tls.crt", tmp_path / "tls.key")
    checked = subprocess.run(
        [
            *("openssl", "verify", "-x509_strict", "-purpose", "sslserver"),
            *("-verify_hostname", "unjucks-webhooks.unjucks-system.svc"),
            *("-CAfile", str(tmp_path / "bundle.pem"), str(tmp_path / "tls.crt")),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stderr
    key = await secret(site, names.APPROVALS_SECRET)
    assert key is not None
    assert len(base64.b64decode(key["data"][names.APPROVALS_KEY])) == approvals.KEY_BYTES


async def test_what_is_taken_away_comes_back_and_what_is_well_is_not_written(
    site: Site, operator: OperatorProcess
) -> None:
    before = await eventually("the Secret is there", lambda: secret(site, names.WEBHOOKS_TLS_SECRET))
    approvers = await secret(site, names.APPROVALS_SECRET)
    await site.kubectl("-n", names.PLATFORM_NAMESPACE, "delete", "secret", names.WEBHOOKS_TLS_SECRET)
    spoiled = {"op": "replace", "path": "/webhooks/0/clientConfig/caBundle", "value": ""}
    await site.kubectl(
        *("patch", "validatingwebhookconfiguration", names.WEBHOOKS),
        *("--type=json", f"--patch={json.dumps([spoiled])}"),
    )

    async def renewed() -> bool:
        found = await secret(site, names.WEBHOOKS_TLS_SECRET)
        return found is not None and found["metadata"]["uid"] != before["metadata"]["uid"]

    async def trusted() -> bool:
        found = await bundles(site)
        return len(found) == 1 and found != {""}

    await eventually("the Secret is made again", renewed)
    await eventually("the authority is written again", trusted)
    assert await secret(site, names.APPROVALS_SECRET) == approvers

    async def versions() -> list[str]:
        found = [await secret(site, names.WEBHOOKS_TLS_SECRET), await secret(site, names.APPROVALS_SECRET)]
        found += [await site.api.get(it, names.WEBHOOKS) for it in (VALIDATING_WEBHOOKS, MUTATING_WEBHOOKS)]
        return [body["metadata"]["resourceVersion"] for body in found if body is not None]

    quiet = await versions()
    await asyncio.sleep(3.5)  # three sweeps
    assert await versions() == quiet
    assert len(quiet) == 4


@pytest.mark.isolation("T-approval-forged", state="up")
async def test_a_confirmation_that_came_past_the_webhooks_is_not_believed(
    site: Site, operator: OperatorProcess
) -> None:
    manifest = {
        "apiVersion": names.API_VERSION,
        "kind": "Tenant",
        "metadata": {"name": "approved"},
        "spec": {"deletionPolicy": "Delete", "database": {"reclaimPolicy": "Delete"}},
    }
    await site.apply(manifest)
    await site.wait_for("tenant/approved", "condition=Ready", 90)
    await site.kubectl("delete", "tenant", "approved", "--wait=false")
    await site.wait_for("tenant/approved", "condition=DeletionHeld", 60)
    # Somebody who may do that takes the webhooks' configuration away and confirms without a code.
    await site.kubectl("delete", "validatingwebhookconfiguration", names.WEBHOOKS)
    held = await site.api.get(TENANT, "approved")
    assert held is not None
    value = f"approved@{held['metadata']['deletionTimestamp'][:10]}"
    confirm = f"{names.ANNOTATION_CONFIRM_DELETE}={value}"
    await eventually("the confirmation is taken", lambda: _annotates(site, confirm))
    forged = approvals.merge([], [_record(b"x" * 32, held, value)])
    await site.kubectl("annotate", "tenant", "approved", f"{names.ANNOTATION_APPROVED}={forged}")
    await asyncio.sleep(3)  # several sweeps: time enough to do what must not be done
    held = await site.api.get(TENANT, "approved")
    assert held is not None
    assert names.ANNOTATION_APPROVAL in held["status"]["deletion"]["blockedBy"][0]
    # The control: with the record that the webhook would have made, it goes.
    stored = await secret(site, names.APPROVALS_SECRET)
    assert stored is not None
    key = base64.b64decode(stored["data"][names.APPROVALS_KEY])
    genuine = approvals.merge([], [_record(key, held, value)])
    await site.kubectl("annotate", "--overwrite", "tenant", "approved", f"{names.ANNOTATION_APPROVED}={genuine}")
    await site.wait_for("tenant/approved", "delete", 60)


async def _annotates(site: Site, confirm: str) -> bool:
    """The API server needs a moment to forget a configuration."""
    return "annotated" in await site.kubectl("annotate", "tenant", "approved", confirm, check=False)


def _record(key: bytes, tenant: dict[str, Any], value: str) -> approvals.Approval:
    change = Change(approvals.CONFIRM_DELETE, value, "")
    return approvals.seal(key, tenant["metadata"]["uid"], change, by="ada", at="now", generation=1)
