"""The command line against a real API server: what a platform administrator does with approvers."""

import json

import pyotp
import pytest

from support.webhooks import USER, WebhookSite
from unjucks_api import names

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300), pytest.mark.asyncio(loop_scope="module")]

ADA = "ada@acme.example"


async def test_the_life_of_an_approver(site: WebhookSite) -> None:
    code, out, error = await site.command("enroll", "--user", ADA)
    assert code == 0, error
    (uri,) = [line for line in out.splitlines() if line.startswith("otpauth://totp/Unjucks:")]
    assert "█" in out or "▀" in out
    assert sum(line.count("-") == 6 for line in out.splitlines()) == 5  # ten recovery codes in two columns

    code, out, error = await site.command("enroll", "--user", ADA)
    assert (code, out) == (4, "")
    assert "enrolled already" in error

    totp = pyotp.parse_uri(uri)
    assert isinstance(totp, pyotp.TOTP)
    digits = totp.now()
    assert (await site.command("check", "--user", ADA, stdin=f"{digits}\n"))[0] == 0
    code, _, error = await site.command("check", "--user", ADA, stdin=f"{digits}\n")
    assert code == 4
    assert "used already" in error

    code, out, _ = await site.command("list", "--output", "json")
    (row,) = (it for it in json.loads(out)["approvers"] if it["user"] == ADA)
    assert (row["user"], row["recoveryCodesLeft"], row["lockedUntil"]) == (ADA, 10, "")
    assert row["lastUsedAt"]
    assert totp.secret not in out

    code, out, _ = await site.command("recovery", "--user", ADA, "--output", "json")
    fresh = json.loads(out)["recoveryCodes"]
    assert len(set(fresh)) == 10
    assert (await site.command("check", "--user", ADA, stdin=fresh[0]))[0] == 0

    code, out, _ = await site.command("enroll", "--user", ADA, "--replace", "--output", "json")
    assert code == 0
    assert json.loads(out)["uri"] != uri
    assert (await site.command("revoke", "--user", ADA))[0] == 0
    assert (await site.command("revoke", "--user", ADA))[0] == 4
    assert (await site.command("list"))[1] == "nobody is enrolled\n"


async def test_errors_have_codes_of_their_own(site: WebhookSite) -> None:
    code, _, error = await site.command("enroll", "--user", "system:serviceaccount:a:b")
    assert (code, "is no person" in error) == (4, True)
    assert (await site.command("enroll"))[0] == 2
    nowhere = site.folder / "nowhere.kubeconfig"
    code, _, error = await site.command("list", kubeconfig=nowhere)
    assert code == 3
    assert str(nowhere) in error
    code, _, error = await site.command("list", "--namespace", "elsewhere")
    assert code == 4
    assert "there is no Secret elsewhere/unjucks-approvals" in error
    stranger = site.plane.kubeconfig_for("stranger")
    code, _, error = await site.command("list", kubeconfig=stranger)
    assert code == 5
    assert "403" in error


async def test_the_process_may_do_only_what_it_needs(site: WebhookSite) -> None:
    async def may(verb: str, what: str, namespace: str = names.PLATFORM_NAMESPACE) -> bool:
        out = await site.kubectl("auth", "can-i", verb, what, "-n", namespace, "--as", USER, check=False)
        return out.startswith("yes")

    assert await may("get", f"secret/{names.APPROVALS_SECRET}")
    assert await may("update", f"secret/{names.APPROVALS_SECRET}")
    assert await may("create", "events.events.k8s.io", "default")
    for verb, what in (
        ("list", "secrets"),
        ("create", "secrets"),
        ("get", f"secret/{names.CA_SECRET}"),
        ("delete", f"secret/{names.APPROVALS_SECRET}"),
        ("get", "tenants"),
        ("update", "tenants"),
        ("create", "pods"),
    ):
        assert not await may(verb, what), (verb, what)
