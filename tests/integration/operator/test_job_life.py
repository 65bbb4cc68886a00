"""What a job can do beyond one plain run: updates, checks, diffs, matrices, order, schedules, newer templates, drift.

One operator for all of them; what takes a minute (schedules and drift are not looked at more often) begins first and is looked at
last.
"""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from support.jobs import ready_of, registry_manifest, wait_job
from support.operator_process import OPERATOR_USER, OperatorProcess, Site
from support.tenants import tenant_manifest
from unjucks_api import names
from unjucks_operator.kube.api import PatchType
from unjucks_operator.kube.resources import CONFIG_MAP, GENERATION_JOB

pytestmark = [pytest.mark.integration, pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(180)]
NS = "tenant-life"
TEMPLATES = {
    "_templates/app/new/action.yaml": (
        "deprecated: {since: '2.0', replacedBy: app/next}\n"
        "variables:\n  x: {type: string, default: one}\n  more: {type: boolean, default: false}\n"
        "  token: {type: string, default: none}\n"
    ),
    "_templates/app/new/main.txt.njk": "head\n\n{{ x }}\n\ntail\n",
    "_templates/app/new/{% if more %}more.txt{% endif %}.njk": "more {{ x }}\n",
    "_templates/app/new/{% if token != 'none' %}token.txt{% endif %}.njk": "{{ token }}\n",
    "_templates/app/other/action.yaml": "variables: {x: {type: string, default: one}}\n",
    "_templates/app/other/o.txt.njk": "other {{ x }}\n",
}


def life(name: str, variables: dict[str, Any] | None = None, *, action: str = "new", **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": names.API_VERSION,
        "kind": "GenerationJob",
        "metadata": {"name": name, "namespace": NS},
        "spec": {
            "registryRef": {"name": spec.pop("registry", "templates")},
            "template": {"generator": "app", "action": action},
            "variables": variables or {},
            "output": {"configMap": {"name": name}},
            **spec,
        },
    }


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def operator(site: Site) -> AsyncIterator[OperatorProcess]:
    """An operator, a tenant with a warm renderer, a registry, and the jobs that take a minute."""
    async with site.operator(renderer={"idleAfter": 600}) as running:
        await site.apply(tenant_manifest("life", tier="professional"))
        await site.wait_for("tenant/life", "condition=Ready", 60)
        await site.apply(registry_manifest(NS, files=TEMPLATES))
        await site.wait_for("templateregistry/templates", "condition=Ready", 60, NS)
        await site.apply(
            life("clock", schedule={"cron": "* * * * *", "timeZone": "Europe/Berlin"}),
            life("watched", driftDetection={"interval": "1m"}),
            life("mended", driftDetection={"interval": "1m", "onDrift": "Repair"}),
        )
        for name in ("clock", "watched", "mended"):
            await wait_job(site, NS, name)
        for name in ("watched", "mended"):
            await edit(site, name, "main.txt", "edited\n")
        yield running


async def status_of(site: Site, name: str) -> dict[str, Any]:
    body = await site.api.get(GENERATION_JOB, name, NS)
    assert body is not None
    return dict(body["status"])


async def ended(site: Site, manifest: dict[str, Any], type_: str = "Complete") -> dict[str, Any]:
    """Apply a job and wait until it ended at its newest generation; its status."""
    await site.apply(manifest)
    name = manifest["metadata"]["name"]
    async with asyncio.timeout(60):
        while True:
            body = await site.api.get(GENERATION_JOB, name, NS)
            assert body is not None
            status = body.get("status") or {}
            over = [it for it in status.get("conditions", ()) if it["type"] in ("Complete", "Failed")]
            if over and status.get("observedGeneration") == body["metadata"]["generation"]:
                assert over[0]["type"] == type_, over[0]["message"]
                return dict(status)
            await asyncio.sleep(0.1)


async def edit(site: Site, name: str, key: str, text: str) -> None:
    patch = {"data": {key: text}}
    await site.api.patch(CONFIG_MAP, name, NS, patch, patch_type=PatchType.MERGE, manager="somebody")


async def data(site: Site, name: str) -> dict[str, str]:
    found = await site.api.get(CONFIG_MAP, name, NS)
    assert found is not None
    return {key: text for key, text in found["data"].items() if key.endswith(".txt")}


async def eventually(site: Site, name: str, type_: str, seconds: float = 60) -> dict[str, Any]:
    await site.wait_for(f"generationjob/{name}", f"condition={type_}", seconds, NS)
    return await status_of(site, name)


async def test_an_update_keeps_what_somebody_edited(site: Site, operator: OperatorProcess) -> None:
    first = await ended(site, life("up", {"more": True}))
    assert first["output"]["last"].startswith("sha256:")
    await edit(site, "up", "main.txt", "my head\n\none\n\ntail\n")
    status = await ended(site, life("up", {"x": "two"}, mode="Update"))
    # The edit and the template's change are both there; what is not made any more stays, because nobody said prune.
    assert await data(site, "up") == {"main.txt": "my head\n\ntwo\n\ntail\n", "more.txt": "more one\n"}
    assert status["summary"]["updated"] == 1
    await edit(site, "up", "main.txt", "my head\n\nmine\n\ntail\n")
    failed = await ended(site, life("up", {"x": "three"}, mode="Update", prune="Remove"), "Failed")
    assert failed["lastError"]["reason"] == "MergeConflict"
    assert "main.txt: 1 place(s)" in failed["lastError"]["message"]
    assert (await data(site, "up"))["main.txt"] == "my head\n\nmine\n\ntail\n"
    marked = await ended(site, life("up", {"x": "three"}, mode="Update", onConflict="Markers", prune="Remove"))
    assert "<<<<<<< existing\nmine\n=======\nthree\n>>>>>>> generated\n" in (await data(site, "up"))["main.txt"]
    assert "more.txt" not in await data(site, "up")
    assert (marked["summary"]["conflicted"], marked["summary"]["removed"]) == (1, 1)


async def test_a_check_tells_drift_with_a_diff_and_writes_nothing(site: Site, operator: OperatorProcess) -> None:
    await ended(site, life("checked", {"x": "one"}))
    await edit(site, "checked", "main.txt", "head\n\nmine\n\ntail\n")
    status = await ended(site, life("checked", {"x": "one"}, mode="Check"))
    assert ready_of({"status": status})["reason"] == "DriftDetected"
    assert (status["phase"], status["diff"]["added"], status["diff"]["removed"]) == ("Drifted", 1, 1)
    found = await site.api.get(CONFIG_MAP, "checked-diff", NS)
    assert found is not None
    assert "-mine\n+one\n" in found["data"]["diff"]
    assert found["metadata"]["ownerReferences"][0]["kind"] == "GenerationJob"
    assert (await data(site, "checked"))["main.txt"] == "head\n\nmine\n\ntail\n"
    await edit(site, "checked", "main.txt", "head\n\none\n\ntail\n")
    clean = await ended(site, life("checked", {"x": "one"}, mode="Check", timeout="1m"))
    assert ready_of({"status": clean})["status"] == "True"


async def test_a_dry_run_shows_what_it_would_do_and_no_secret(site: Site, operator: OperatorProcess) -> None:
    secret = {"name": "token", "namespace": NS}
    await site.apply(
        {"apiVersion": "v1", "kind": "Secret", "metadata": secret, "stringData": {"token": "hunter2hunter2"}}
    )
    sources = [{"kind": "Secret", "name": "token", "valuesKey": "token", "targetPath": "token"}]
    await ended(site, life("dry", {"x": "one"}))
    status = await ended(site, life("dry", {"x": "two"}, dryRun=True, variablesFrom=sources))
    assert status["diff"]["ref"] == {"kind": "ConfigMap", "name": "dry-diff"}
    found = await site.api.get(CONFIG_MAP, "dry-diff", NS)
    assert found is not None
    assert "-one\n+two\n" in found["data"]["diff"]
    assert "token.txt\n# holds secrets: not shown\n" in found["data"]["diff"]
    assert "hunter2" not in str(found)
    assert (await data(site, "dry"))["main.txt"] == "head\n\none\n\ntail\n"
    # Somebody else's ConfigMap of that name is left alone.
    await site.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "taken-diff", "namespace": NS}})
    assert "ref" not in (await ended(site, life("taken", dryRun=True)))["diff"]


async def test_a_matrix_publishes_all_its_runs_together(site: Site, operator: OperatorProcess) -> None:
    matrix = {"parameters": {"x": ["a", "b", "c"], "more": [False, True]}, "parallelism": 3}
    status = await ended(site, life("grid", matrix=matrix))
    made = await data(site, "grid")
    assert made["true-b__more.txt"] == "more b\n"
    assert len(made) == 9
    assert [it["path"] for it in status["matrix"]][::3] == ["false-a", "true-a"]
    assert status["matrix"][3]["files"] == 2
    fewer = {"parameters": {"x": ["a", "b"], "more": [False]}}
    status = await ended(site, life("grid", matrix=fewer))
    assert sorted(await data(site, "grid")) == ["false-a__main.txt", "false-b__main.txt"]
    assert status["summary"]["removed"] == 7
    clash = await ended(site, life("clash", matrix={**fewer, "path": "."}), "Failed")
    assert clash["lastError"]["reason"] == "OutputCollision"
    wrong = await ended(site, life("wrong", matrix={"parameters": {"x": ["a", 7]}}), "Failed")
    assert wrong["lastError"]["message"].startswith("x=7: ")


async def test_jobs_wait_for_each_other_and_circles_are_told(site: Site, operator: OperatorProcess) -> None:
    await site.apply(life("second", dependsOn=[{"name": "first"}]))
    await site.wait_for(
        "generationjob/second", "jsonpath={.status.conditions[?(@.type=='Ready')].reason}=DependencyNotReady", 30, NS
    )
    await site.apply(life("first"))
    await wait_job(site, NS, "second")
    await site.apply(life("egg", dependsOn=[{"name": "hen"}]), life("hen", dependsOn=[{"name": "egg"}]))
    async with asyncio.timeout(30):
        while "in a circle" not in ready_of(await site.api.get(GENERATION_JOB, "egg", NS)).get("message", ""):
            await asyncio.sleep(0.1)
    await site.apply(life("hen"))
    await wait_job(site, NS, "egg")


async def test_equal_inputs_need_no_run(site: Site, operator: OperatorProcess) -> None:
    first = await ended(site, life("same", {"x": "one"}))
    again = await ended(site, life("same", {"x": "one"}, ttl={"afterSuccess": "24h"}))
    assert ready_of({"status": again})["reason"] == "UpToDate"
    assert again["inputsDigest"] == first["inputsDigest"]
    assert again["usage"]["cpuSeconds"] in ("0", "0.000")  # nothing was rendered
    await edit(site, "same", "main.txt", "mine\n")
    mended = await ended(site, life("same", {"x": "one"}, ttl={"afterSuccess": "25h"}))
    assert ready_of({"status": mended})["reason"] == "Succeeded"
    assert (await data(site, "same"))["main.txt"] == "head\n\none\n\ntail\n"


async def test_a_deprecated_template_is_told(site: Site, operator: OperatorProcess) -> None:
    await ended(site, life("old"))
    status = await status_of(site, "old")
    told = next(it for it in status["conditions"] if it["type"] == "TemplateDeprecated")
    assert "since 2.0, use app/next" in told["message"]


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"schedule": {"cron": "61 * * * *"}}, "spec.schedule.cron '61 * * * *' is no schedule"),
        ({"schedule": {"cron": "0 3 * * *", "timeZone": "Mars/Olympus"}}, "no name of the time zone database"),
        ({"matrix": {"parameters": {"x": []}}}, "give a list with at least one value"),
    ],
)
async def test_nonsense_is_told(site: Site, operator: OperatorProcess, spec: dict[str, Any], words: str) -> None:
    name = f"nonsense-{abs(hash(words)) % 10_000}"
    status = await ended(site, life(name, **spec), "Failed")
    assert words in status["lastError"]["message"]


async def test_only_a_change_of_the_very_action_makes_a_job_outdated(site: Site, operator: OperatorProcess) -> None:
    await site.apply(registry_manifest(NS, "moving", files=TEMPLATES))
    await site.wait_for("templateregistry/moving", "condition=Ready", 60, NS)
    for name, trigger in (("told", "Report"), ("shown", "DryRun"), ("again", "Run")):
        await ended(site, life(name, registry="moving", trigger={"onTemplateChange": trigger}))
    # First something else changes, in the same tree.
    await site.apply(registry_manifest(NS, "moving", files=TEMPLATES | {"_templates/app/other/o.txt.njk": "changed\n"}))
    await ended(site, life("marker", registry="moving", action="other"))
    assert (await data(site, "marker"))["o.txt"] == "changed\n"
    for name in ("told", "shown", "again"):
        assert not [it for it in (await status_of(site, name))["conditions"] if it["type"] == "TemplateOutdated"]
    await site.apply(
        registry_manifest(NS, "moving", files=TEMPLATES | {"_templates/app/new/main.txt.njk": "new {{ x }}\n"})
    )
    told = await eventually(site, "told", "TemplateOutdated")
    assert "newestDigest" in told["template"]
    assert ready_of({"status": told})["status"] == "True"
    shown = await eventually(site, "shown", "TemplateOutdated")
    assert shown["diff"]["ref"]["name"] == "shown-diff"
    assert (await data(site, "shown"))["main.txt"] == "head\n\none\n\ntail\n"
    async with asyncio.timeout(60):
        while (await data(site, "again"))["main.txt"] != "new one\n":
            await asyncio.sleep(0.1)


async def test_after_a_minute_schedules_and_drift(site: Site, operator: OperatorProcess) -> None:
    drifted = await eventually(site, "watched", "Drifted", 90)
    assert drifted["drift"] == {**drifted["drift"], "state": "Drifted", "files": 1, "paths": ["main.txt"]}
    assert ready_of({"status": drifted})["status"] == "False"
    assert (await data(site, "watched"))["main.txt"] == "edited\n"
    async with asyncio.timeout(90):
        while (await data(site, "mended"))["main.txt"] != "head\n\none\n\ntail\n":
            await asyncio.sleep(0.2)
    async with asyncio.timeout(90):
        while "lastScheduleTime" not in (clock := await status_of(site, "clock")):
            await asyncio.sleep(0.2)
    assert clock["nextRunTime"] > clock["lastScheduleTime"]
    assert ready_of({"status": clock})["status"] == "True"


async def test_at_the_end_nothing_is_written_any_more(site: Site, operator: OperatorProcess) -> None:
    """Ended jobs with and without a future: looked after, and no write while nothing changes."""
    await site.kubectl("-n", NS, "delete", "generationjob", "clock")
    await eventually(site, "mended", "Complete")
    await asyncio.sleep(3)
    mark = await asyncio.to_thread(site.plane.audit_mark)
    await site.kubectl("-n", NS, "annotate", "generationjob", "--all", "example.com/note=look")
    await asyncio.sleep(6)
    found = await asyncio.to_thread(site.plane.writes, mark, user=OPERATOR_USER)
    about_jobs = [str(it) for it in found if it.resource in ("generationjobs", "configmaps", "events")]
    assert about_jobs == []
