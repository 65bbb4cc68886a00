"""kill -9 of the operator after each write of a job: the files are published once, whatever happens.

The proxy counts every write and notes those to the output; the ledger in PostgreSQL is what keeps the second operator from
publishing again what the first one had published before it could say so.
"""

import itertools

import asyncpg
import pytest

from support.jobs import job_manifest, ready_of, registry_manifest, wait_job
from support.killing import END_SECONDS, killing
from support.operator_process import Site
from support.tenants import tenant_manifest
from unjucks_operator.kube.api import PatchType
from unjucks_operator.kube.resources import CONFIG_MAP, GENERATION_JOB

pytestmark = [pytest.mark.integration, pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(1200)]
NS = "tenant-killed"


async def test_a_kill_after_any_write_publishes_once(site: Site) -> None:
    async with killing(site, renderer={"idleAfter": 600}) as operators:
        await operators.running()
        await site.apply(tenant_manifest("killed", tier="professional"))
        await site.wait_for("tenant/killed", "condition=Ready", END_SECONDS)
        await site.apply(registry_manifest(NS))
        await site.wait_for("templateregistry/templates", "condition=Ready", END_SECONDS, NS)
        await site.apply(job_manifest(NS, "reference", {"name": "bob"}))
        await wait_job(site, NS, "reference", END_SECONDS)
        wanted = await _files(site, "reference")
        for number in itertools.count(1):
            name = f"kill-{number}"
            operators.proxy.requests.clear()
            killed = await operators.strike(
                number,
                name,
                lambda name=name: site.apply(job_manifest(NS, name, {"name": "bob"})),  # type: ignore[misc]
                lambda name=name: wait_job(site, NS, name, END_SECONDS),  # type: ignore[misc]
            )
            after = f"killed after write {number} of:\n" + "\n".join(operators.writes)
            assert await _files(site, name) == wanted, after
            publications = [
                seen
                for seen in operators.proxy.requests
                if seen.method in ("POST", "PUT", "PATCH") and "/configmaps" in seen.path
            ]
            assert len(publications) == 1, f"{publications}, {after}"
            body = await site.api.get(GENERATION_JOB, name, NS)
            assert body is not None
            assert ready_of(body)["status"] == "True"
            assert [item["path"] for item in body["status"]["files"]] == ["bob.txt", "docs/token.txt"]
            assert await _publications(site, body["metadata"]["uid"]) == [("published", 1)]
            if not killed:
                break
        assert number > 2, after  # at least the output and the status


async def test_an_update_is_merged_once_whatever_is_killed(site: Site) -> None:
    """What the templates gave is stored before the output, and named by it: a takeover merges with the right text."""
    namespace = "tenant-merged"
    files = {
        "_templates/greet/new/action.yaml": "variables: {x: {type: string}}\n",
        "_templates/greet/new/a.txt.njk": "head\n\n{{ x }}\n\ntail\n",
    }
    async with killing(site, renderer={"idleAfter": 600}) as operators:
        await operators.running()
        await site.apply(tenant_manifest("merged", tier="professional"))
        await site.wait_for("tenant/merged", "condition=Ready", END_SECONDS)
        await site.apply(registry_manifest(namespace, files=files))
        await site.wait_for("templateregistry/templates", "condition=Ready", END_SECONDS, namespace)
        for number in itertools.count(1):
            name = f"merge-{number}"
            await operators.running()
            await site.apply(job_manifest(namespace, name, {"x": "one"}))
            await wait_job(site, namespace, name, END_SECONDS)
            edit = {"data": {"a.txt": "mine\n\none\n\ntail\n"}}
            await site.api.patch(CONFIG_MAP, name, namespace, edit, patch_type=PatchType.MERGE, manager="somebody")
            second = job_manifest(namespace, name, {"x": "two"}, mode="Update")

            async def merged(name: str = name) -> None:
                newest = "jsonpath={.status.observedGeneration}=2"
                await site.wait_for(f"generationjob/{name}", newest, END_SECONDS, namespace)
                await wait_job(site, namespace, name, END_SECONDS)

            killed = await operators.strike(number, name, lambda second=second: site.apply(second), merged)  # type: ignore[misc]
            after = f"killed after write {number} of:\n" + "\n".join(operators.writes)
            found = await site.api.get(CONFIG_MAP, name, namespace)
            assert found is not None
            assert found["data"]["a.txt"] == "mine\n\ntwo\n\ntail\n", after
            body = await site.api.get(GENERATION_JOB, name, namespace)
            assert body is not None
            assert await _publications(site, body["metadata"]["uid"]) == [("published", 1), ("published", 1)], after
            if not killed:
                break
        assert number > 2, after


async def _files(site: Site, name: str) -> dict[str, str]:
    """Files and manifest of the output; its statement names the run, so two jobs never have the same."""
    found = await site.api.get(CONFIG_MAP, name, NS)
    assert found is not None
    assert "provenance.json" in found["data"]
    return {key: text for key, text in found["data"].items() if key != "provenance.json"}


async def _publications(site: Site, job_uid: str) -> list[tuple[str, int]]:
    connection = await asyncpg.connect(site.dsn)
    try:
        rows = await connection.fetch(
            "SELECT state, publications FROM unjucks.generation_run WHERE job_uid = $1::uuid", job_uid
        )
        return [(row["state"], row["publications"]) for row in rows]
    finally:
        await connection.close()
