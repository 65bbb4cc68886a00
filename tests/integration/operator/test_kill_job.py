"""kill -9 of the operator after each write of a job: the files are published once, whatever happens.

The proxy counts every write and notes those to the output; the ledger in PostgreSQL is what keeps the second operator from
publishing again what the first one had published before it could say so.
"""

import asyncpg
import pytest

from support.jobs import job_manifest, ready_of, registry_manifest, wait_job
from support.operator_process import Site
from support.tenants import tenant_manifest
from unjucks_operator.kube.resources import CONFIG_MAP, GENERATION_JOB

pytestmark = [pytest.mark.integration, pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(600)]
NS = "tenant-killed"


async def test_a_kill_after_any_write_publishes_once(site: Site) -> None:
    async with site.proxy() as proxy:
        kubeconfig = site.kubeconfig_through(proxy)
        settings = {"renderer": {"idleAfter": 600}}
        async with site.operator(kubeconfig=kubeconfig, **settings):
            await site.apply(tenant_manifest("killed", tier="professional"))
            await site.wait_for("tenant/killed", "condition=Ready", 60)
            await site.apply(registry_manifest(NS))
            await site.wait_for("templateregistry/templates", "condition=Ready", 60, NS)
            proxy.writes = 0
            await site.apply(job_manifest(NS, "reference", {"name": "bob"}))
            await wait_job(site, NS, "reference")
        wanted = (await _output(site, "reference"))["data"]
        total = (
            sum(seen.is_write and "events" not in seen.path for seen in proxy.requests[-proxy.writes :]) or proxy.writes
        )
        for number in range(1, max(total, 2) + 1):
            name = f"kill-{number}"
            victim = await site.start_operator(kubeconfig=kubeconfig, **settings)
            await victim.ready()
            proxy.writes = 0
            proxy.requests.clear()
            proxy.after_write = lambda count, _seen, victim=victim, number=number: (  # type: ignore[misc]
                victim.kill() if count >= number else None
            )
            await site.apply(job_manifest(NS, name, {"name": "bob"}))
            assert await victim.process.wait() == -9
            proxy.after_write = None
            async with site.operator(kubeconfig=kubeconfig, **settings):
                await wait_job(site, NS, name, 90)
            assert (await _output(site, name))["data"] == wanted
            publications = [
                seen
                for seen in proxy.requests
                if seen.method in ("POST", "PUT", "PATCH") and "/configmaps" in seen.path
            ]
            assert len(publications) == 1, f"killed after write {number}: {publications}"
            body = await site.api.get(GENERATION_JOB, name, NS)
            assert body is not None
            assert ready_of(body)["status"] == "True"
            assert [item["path"] for item in body["status"]["files"]] == ["bob.txt", "docs/token.txt"]
            assert await _publications(site, body["metadata"]["uid"]) == [("published", 1)]


async def _output(site: Site, name: str) -> dict[str, dict[str, str]]:
    found = await site.api.get(CONFIG_MAP, name, NS)
    assert found is not None
    return found


async def _publications(site: Site, job_uid: str) -> list[tuple[str, int]]:
    connection = await asyncpg.connect(site.dsn)
    try:
        rows = await connection.fetch(
            "SELECT state, publications FROM unjucks.generation_run WHERE job_uid = $1::uuid", job_uid
        )
        return [(row["state"], row["publications"]) for row in rows]
    finally:
        await connection.close()
