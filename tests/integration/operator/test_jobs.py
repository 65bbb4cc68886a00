"""Registries and jobs with real renderer processes: what comes out, what is refused and how it is told."""

import asyncio
import base64
import hashlib
import signal
from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest
import pytest_asyncio

from support.jobs import TEMPLATES, job_manifest, ready_of, registry_manifest, wait_job
from support.operator_process import OperatorProcess, Site
from support.tenants import tenant_manifest
from unjucks_api import names
from unjucks_operator.kube.resources import CONFIG_MAP, GENERATION_JOB, POD, SECRET, TEMPLATE_REGISTRY, TENANT

pytestmark = [pytest.mark.integration, pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(180)]
NS = "tenant-jobs"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def operator(site: Site) -> AsyncIterator[OperatorProcess]:
    """An operator, a tenant with one warm renderer, and a registry."""
    async with site.operator(renderer={"idleAfter": 600}) as running:
        await site.apply(tenant_manifest("jobs", tier="professional"))
        await site.wait_for("tenant/jobs", "condition=Ready", 60)
        await site.apply(registry_manifest(NS))
        await site.wait_for("templateregistry/templates", "condition=Ready", 60, NS)
        yield running


async def condition(site: Site, name: str, type_: str, seconds: float = 60) -> dict[str, Any]:
    """Wait for a condition of a job to be true; the job."""
    await site.wait_for(f"generationjob/{name}", f"condition={type_}", seconds, NS)
    body = await site.api.get(GENERATION_JOB, name, NS)
    assert body is not None
    return body


async def refused(site: Site, manifest: dict[str, Any]) -> dict[str, Any]:
    """A job that fails for good; its status."""
    await site.apply(manifest)
    body = await condition(site, manifest["metadata"]["name"], "Failed")
    assert ready_of(body)["status"] == "False"
    assert any(item["type"] == "Stalled" for item in body["status"]["conditions"])
    status: dict[str, Any] = body["status"]
    return status


async def output(site: Site, name: str) -> dict[str, Any]:
    found = await site.api.get(CONFIG_MAP, name, NS)
    assert found is not None
    return found


async def test_the_catalogue_says_what_can_be_generated(site: Site, operator: OperatorProcess) -> None:
    body = await site.api.get(TEMPLATE_REGISTRY, "templates", NS)
    assert body is not None
    status = body["status"]
    assert (status["generators"], status["actions"]) == (1, 4)
    entry = next(item for item in status["catalog"] if item["action"] == "new")
    variables = {item["name"]: item for item in entry["variables"]}
    assert variables["name"]["required"] is True
    assert variables["name"]["pattern"] == "^[a-z]+$"
    assert (variables["count"]["type"], variables["count"]["default"]) == ("integer", "1")
    assert status["artifact"]["digest"].startswith("sha256:")


async def test_files_come_out_with_digests_sizes_and_times(site: Site, operator: OperatorProcess) -> None:
    await site.apply(job_manifest(NS, "plain", {"name": "bob", "count": 2}))
    await wait_job(site, NS, "plain")
    data = (await output(site, "plain"))["data"]
    assert data["bob.txt"] == "Hello bob!\n0\n1\n"
    assert data["docs__token.txt"] == "none\n"
    body = await site.api.get(GENERATION_JOB, "plain", NS)
    assert body is not None
    status = body["status"]
    listed = {item["path"]: item for item in status["files"]}
    assert listed["bob.txt"]["digest"] == "sha256:" + hashlib.sha256(data["bob.txt"].encode()).hexdigest()
    assert listed["bob.txt"]["size"] == len(data["bob.txt"])
    assert status["summary"]["created"] == 2
    assert float(status["timings"]["totalSeconds"]) >= 0
    assert status["phase"] == "Succeeded"
    manifest = orjson.loads(data["manifest.json"])
    assert [item["path"] for item in manifest["files"]] == ["bob.txt", "docs/token.txt"]


async def test_variables_from_config_maps_and_secrets(site: Site, operator: OperatorProcess) -> None:
    await site.apply(
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "defaults", "namespace": NS},
            "data": {"values.yaml": "name: carol", "count": "3"},
        },
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "credentials", "namespace": NS},
            "stringData": {"token": "hunter2"},
        },
    )
    sources = [
        {"kind": "ConfigMap", "name": "defaults"},
        {"kind": "ConfigMap", "name": "defaults", "valuesKey": "count", "targetPath": "count"},
        {"kind": "Secret", "name": "credentials", "valuesKey": "token", "targetPath": "token"},
    ]
    # Whoever may read ConfigMaps would see the token: that has to be asked for.
    status = await refused(site, job_manifest(NS, "sourced", variablesFrom=sources))
    assert status["lastError"]["reason"] == "SensitiveDataBlocked"
    assert "docs/token.txt" in status["lastError"]["message"]
    assert await site.api.get(CONFIG_MAP, "sourced", NS) is None
    asked = {"configMap": {"name": "sourced", "sensitiveFiles": "Allow"}}
    await site.apply(job_manifest(NS, "sourced", variablesFrom=sources, output=asked))
    await wait_job(site, NS, "sourced")
    data = (await output(site, "sourced"))["data"]
    assert data["carol.txt"] == "Hello carol!\n0\n1\n2\n"
    assert data["docs__token.txt"] == "hunter2\n"
    # A Secret takes them as they are; a second run changes it in place, and what went away goes away there.
    await site.apply(job_manifest(NS, "hidden", variablesFrom=sources, output={"secret": {"name": "hidden"}}))
    await wait_job(site, NS, "hidden")
    assert await secret_files(site, "hidden") == {
        "carol.txt": "Hello carol!\n0\n1\n2\n",
        "docs__token.txt": "hunter2\n",
    }
    changed = job_manifest(NS, "hidden", {"name": "dora"}, variablesFrom=sources, output={"secret": {"name": "hidden"}})
    await site.apply(changed)
    await wait_job(site, NS, "hidden")
    assert set(await secret_files(site, "hidden")) == {"dora.txt", "docs__token.txt"}
    for name in ("sourced", "hidden"):
        body = await site.api.get(GENERATION_JOB, name, NS)
        assert body is not None
        assert "hunter2" not in orjson.dumps(body).decode()
        marked = {file["path"]: file for file in body["status"]["files"]}
        assert marked["docs/token.txt"]["sensitive"] is True
        assert "digest" not in marked["docs/token.txt"]
    assert "hunter2" not in operator.log.read_text()


async def secret_files(site: Site, name: str) -> dict[str, str]:
    found = await site.api.get(SECRET, name, NS)
    assert found is not None
    assert found["type"] == "Opaque"
    data = {key: base64.b64decode(text).decode() for key, text in found["data"].items()}
    data.pop("manifest.json")
    statement = data.pop("provenance.json")
    assert '"token"' in statement
    assert "hunter2" not in statement
    return data


@pytest.mark.isolation("T-precreated-child", state="up")
async def test_somebody_elses_secret_is_left_alone(site: Site, operator: OperatorProcess) -> None:
    theirs = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "theirs", "namespace": NS}}
    await site.apply(theirs | {"stringData": {"key": "value"}})
    status = await refused(site, job_manifest(NS, "thief", {"name": "eve"}, output={"secret": {"name": "theirs"}}))
    assert status["lastError"]["reason"] == "NotOwned"
    assert "Secret theirs belongs to somebody else" in status["lastError"]["message"]
    found = await site.api.get(SECRET, "theirs", NS)
    assert found is not None
    assert base64.b64decode(found["data"]["key"]) == b"value"


async def test_variables_that_all_actions_share(site: Site, operator: OperatorProcess) -> None:
    files = {"_templates/greet/new/a.txt.njk": "{{ org }}/{{ team }}\n"}
    schema = {"properties": {"org": {"type": "string", "default": "acme"}, "team": {"type": "string"}}}
    await site.apply(registry_manifest(NS, "sharing", files, variables={"schema": schema}))
    await site.wait_for("templateregistry/sharing", "condition=Ready", 60, NS)
    await site.apply(job_manifest(NS, "shared", {"team": "blue"}, registry="sharing"))
    await wait_job(site, NS, "shared")
    assert (await output(site, "shared"))["data"]["a.txt"] == "acme/blue\n"


async def test_the_same_again_is_up_to_date_and_an_edit_is_put_back(site: Site, operator: OperatorProcess) -> None:
    await site.apply(job_manifest(NS, "again", {"name": "dave"}))
    await wait_job(site, NS, "again")
    before = (await output(site, "again"))["metadata"]["resourceVersion"]
    await site.kubectl("annotate", "generationjob", "again", "-n", NS, "unjucks.io/requested-at=1")
    await _handled(site, "again", "1")
    body = await site.api.get(GENERATION_JOB, "again", NS)
    assert ready_of(body)["reason"] == "UpToDate"
    assert (await output(site, "again"))["metadata"]["resourceVersion"] == before
    await site.kubectl("patch", "configmap", "again", "-n", NS, "--type=merge", "-p", '{"data":{"dave.txt":"hacked"}}')
    await site.kubectl("annotate", "--overwrite", "generationjob", "again", "-n", NS, "unjucks.io/requested-at=2")
    await _handled(site, "again", "2")
    assert (await output(site, "again"))["data"]["dave.txt"] == "Hello dave!\n0\n"


async def _handled(site: Site, name: str, value: str) -> None:
    await site.wait_for(f"generationjob/{name}", f"jsonpath={{.status.lastHandledRequestedAt}}={value}", 60, NS)


async def test_changed_variables_make_a_new_run_and_old_files_go(site: Site, operator: OperatorProcess) -> None:
    await site.apply(job_manifest(NS, "changed", {"name": "erin"}))
    await wait_job(site, NS, "changed")
    await site.apply(job_manifest(NS, "changed", {"name": "frank"}))
    await site.wait_for("generationjob/changed", "jsonpath={.status.observedGeneration}=2", 60, NS)
    await wait_job(site, NS, "changed")
    data = (await output(site, "changed"))["data"]
    assert "frank.txt" in data
    assert "erin.txt" not in data


async def test_a_dry_run_tells_and_writes_nothing(site: Site, operator: OperatorProcess) -> None:
    manifest = job_manifest(NS, "dry", {"name": "gina"}, dryRun=True)
    await site.apply(manifest)
    await wait_job(site, NS, "dry")
    body = await site.api.get(GENERATION_JOB, "dry", NS)
    assert ready_of(body)["reason"] == "DryRunComplete"
    assert body is not None
    assert [item["path"] for item in body["status"]["files"]] == ["docs/token.txt", "gina.txt"]
    assert await site.api.get(CONFIG_MAP, "dry", NS) is None


async def test_an_isolated_job_gets_a_pod_of_its_own_that_goes_afterwards(
    site: Site, operator: OperatorProcess
) -> None:
    started = site.kubelet.started
    await site.apply(job_manifest(NS, "isolated", {"name": "hugo"}, execution="Isolated"))
    await wait_job(site, NS, "isolated", 90)
    assert site.kubelet.started == started + 1
    assert (await output(site, "isolated"))["data"]["hugo.txt"] == "Hello hugo!\n0\n"
    pods, _ = await site.api.list_all(POD, namespace=NS, label_selector=names.LABEL_JOB_UID)
    assert all(pod["metadata"].get("deletionTimestamp") for pod in pods)


BAD_JOBS: list[tuple[str, dict[str, Any], str, list[str]]] = [
    ("unknown-template", {"action": "nope"}, "TemplateNotFound", ["has no template greet/nope", "greet/new"]),
    ("missing", {}, "VariablesMissing", ["name"]),
    ("wrong", {"variables": {"name": "UPPER", "count": 9}}, "VariablesInvalid", ["name", "count"]),
    ("misspelt", {"variables": {"name": "x", "cuont": 1}}, "VariablesInvalid", ["cuont", "count"]),
    ("undefined", {"action": "undefined"}, "UndefinedVariable", ["x.txt.njk", "missing"]),
    ("too-big", {"action": "big", "variables": {"size": 40000}}, "OutputTooLarge", ["bytes"]),
]


@pytest.mark.parametrize(("name", "change", "reason", "words"), BAD_JOBS, ids=[case[0] for case in BAD_JOBS])
async def test_bad_input_ends_in_a_condition_that_names_the_cause(
    site: Site, operator: OperatorProcess, name: str, change: dict[str, Any], reason: str, words: list[str]
) -> None:
    status = await refused(site, job_manifest(NS, name, **change))
    assert status["lastError"]["reason"] == reason
    for word in words:
        assert word in status["lastError"]["message"] + status["lastError"].get("file", "")
    assert await site.api.get(CONFIG_MAP, name, NS) is None


async def test_an_undefined_variable_is_told_with_file_line_and_column(site: Site, operator: OperatorProcess) -> None:
    status = await refused(site, job_manifest(NS, "placed", action="undefined"))
    error = status["lastError"]
    assert (error["file"].endswith("greet/undefined/x.txt.njk"), error["line"]) == (True, 2)
    assert error["column"] > 0


async def test_a_run_that_takes_too_long_ends_at_its_timeout(site: Site, operator: OperatorProcess) -> None:
    status = await refused(site, job_manifest(NS, "slow", action="slow", timeout="2s"))
    assert status["lastError"]["reason"] == "DeadlineExceeded"
    assert "within 2 s (spec.timeout)" in status["lastError"]["message"]


@pytest.mark.isolation("T-precreated-child", state="up")
async def test_an_output_of_somebody_else_is_left_alone(site: Site, operator: OperatorProcess) -> None:
    await site.kubectl("create", "configmap", "theirs", "-n", NS, "--from-literal=a=b")
    status = await refused(site, job_manifest(NS, "thief", {"name": "x"}, output={"configMap": {"name": "theirs"}}))
    assert status["lastError"]["reason"] == "NotOwned"
    await site.apply(job_manifest(NS, "first", {"name": "x"}))
    await wait_job(site, NS, "first")
    status = await refused(site, job_manifest(NS, "second", {"name": "x"}, output={"configMap": {"name": "first"}}))
    assert "belongs to job first" in status["lastError"]["message"]
    assert (await output(site, "theirs"))["data"] == {"a": "b"}


async def test_a_broken_template_is_named_and_the_last_good_one_stays(site: Site, operator: OperatorProcess) -> None:
    await site.apply(registry_manifest(NS, "breaking"))
    await site.wait_for("templateregistry/breaking", "condition=Ready", 60, NS)
    before = await site.api.get(TEMPLATE_REGISTRY, "breaking", NS)
    broken = TEMPLATES | {"_templates/greet/new/docs/token.txt.njk": "line one\n{% if x %}never ended"}
    await site.apply(registry_manifest(NS, "breaking", broken))
    await site.wait_for("templateregistry/breaking", "condition=TemplatesInvalid", 60, NS)
    after = await site.api.get(TEMPLATE_REGISTRY, "breaking", NS)
    assert before is not None
    assert after is not None
    assert "_templates/greet/new/docs/token.txt.njk:" in ready_of(after)["message"]
    assert after["status"]["artifact"]["digest"] == before["status"]["artifact"]["digest"]
    assert any(problem["path"].endswith("token.txt.njk") and problem["line"] for problem in after["status"]["problems"])
    await site.apply(job_manifest(NS, "still", {"name": "ida"}, registry="breaking"))
    await wait_job(site, NS, "still")


async def test_a_config_map_is_a_source_and_is_followed(site: Site, operator: OperatorProcess) -> None:
    def source(text: str) -> dict[str, Any]:
        return {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "tpl", "namespace": NS},
            "data": {"_templates__greet__new__a.txt.njk": text},
        }

    registry = registry_manifest(NS, "followed")
    registry["spec"] = {"configMapRef": {"name": "tpl"}}
    await site.apply(registry)
    await site.wait_for("templateregistry/followed", "jsonpath={.status.conditions[0].reason}=SourceNotFound", 60, NS)
    await site.apply(source("one"))
    await site.wait_for("templateregistry/followed", "condition=Ready", 60, NS)
    first = await site.api.get(TEMPLATE_REGISTRY, "followed", NS)
    await site.apply(source("two"))
    assert first is not None
    old = first["status"]["artifact"]["digest"]
    async with asyncio.timeout(60):
        while True:
            now = await site.api.get(TEMPLATE_REGISTRY, "followed", NS)
            assert now is not None
            if now["status"]["artifact"]["digest"] != old:
                break
            await asyncio.sleep(0.1)
    await site.apply(job_manifest(NS, "followed", registry="followed"))
    await wait_job(site, NS, "followed")
    assert (await output(site, "followed"))["data"]["a.txt"] == "two"


async def test_five_megabytes_of_template_are_refused_with_a_reason(site: Site, operator: OperatorProcess) -> None:

    import io
    import tarfile

    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        content = b"x" * (5 * 1024 * 1024)
        info = tarfile.TarInfo("_templates/greet/new/a.txt.njk")
        info.size = len(content)
        archive.addfile(info, io.BytesIO(content))
    await site.apply(
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "huge", "namespace": NS},
            "binaryData": {"templates.tgz": base64.b64encode(buffer.getvalue()).decode()},
        }
    )
    registry = registry_manifest(NS, "huge")
    registry["spec"] = {"configMapRef": {"name": "huge"}}
    await site.apply(registry)
    await site.wait_for("templateregistry/huge", "condition=Stalled", 60, NS)
    body = await site.api.get(TEMPLATE_REGISTRY, "huge", NS)
    assert ready_of(body)["reason"] == "ArchiveTooLarge"
    # Inline, the API server itself says no, before anything is stored.
    big = registry_manifest(NS, "inline-huge", {"_templates/greet/new/a.txt.njk": "x" * (5 * 1024 * 1024)})
    with pytest.raises(RuntimeError, match=r"(?i)too (long|large)|may not be more|limit is"):
        await site.apply(big)


async def test_a_job_waits_for_its_registry_in_any_order_of_applying(site: Site, operator: OperatorProcess) -> None:
    await site.apply(job_manifest(NS, "early", {"name": "judy"}, registry="late"))
    await site.wait_for("generationjob/early", "jsonpath={.status.conditions[0].reason}=RegistryNotFound", 60, NS)
    await site.apply(registry_manifest(NS, "late"))
    await wait_job(site, NS, "early", 90)


async def test_a_registry_that_is_deleted_in_the_middle_does_not_stop_the_job(
    site: Site, operator: OperatorProcess
) -> None:
    await site.apply(registry_manifest(NS, "short-lived"))
    await site.wait_for("templateregistry/short-lived", "condition=Ready", 60, NS)
    await site.apply(job_manifest(NS, "outlives", action="slow", registry="short-lived", timeout="60s"))
    await site.wait_for("generationjob/outlives", "jsonpath={.status.phase}=Rendering", 30, NS)
    await site.kubectl("delete", "templateregistry", "short-lived", "-n", NS)
    await wait_job(site, NS, "outlives", 90)


async def test_cancelling_stops_a_running_job_and_publishes_nothing(site: Site, operator: OperatorProcess) -> None:
    await site.apply(job_manifest(NS, "cancelled", action="slow", timeout="60s"))
    await site.wait_for("generationjob/cancelled", "jsonpath={.status.phase}=Rendering", 30, NS)
    await site.kubectl(
        "patch", "generationjob", "cancelled", "-n", NS, "--type=merge", "-p", '{"spec":{"cancel":true}}'
    )
    body = await condition(site, "cancelled", "Failed")
    assert (body["status"]["phase"], ready_of(body)["reason"]) == ("Cancelled", "Cancelled")
    assert await site.api.get(CONFIG_MAP, "cancelled", NS) is None


async def test_a_finished_job_goes_when_its_time_is_over(site: Site, operator: OperatorProcess) -> None:
    await site.apply(job_manifest(NS, "brief", {"name": "kim"}, ttl={"afterSuccess": "2s"}))
    await wait_job(site, NS, "brief")
    await site.wait_for("generationjob/brief", "delete", 30, NS)
    assert await site.api.get(CONFIG_MAP, "brief", NS) is not None  # what users rely on stays


async def test_a_renderer_that_is_killed_in_the_middle_is_replaced(site: Site, operator: OperatorProcess) -> None:
    await site.apply(job_manifest(NS, "survivor", action="slow", timeout="60s"))
    await site.wait_for("generationjob/survivor", "jsonpath={.status.phase}=Rendering", 30, NS)
    for uid in site.kubelet.running():
        site.kubelet.kill(uid, signal.SIGKILL)
    await wait_job(site, NS, "survivor", 120)
    body = await site.api.get(GENERATION_JOB, "survivor", NS)
    assert body is not None
    assert body["status"]["attempts"] >= 2


async def test_a_suspended_tenant_starts_no_job(site: Site, operator: OperatorProcess) -> None:
    await site.kubectl("patch", "tenant", "jobs", "--type=merge", "-p", '{"spec":{"suspend":true}}')
    try:
        await site.apply(job_manifest(NS, "parked", {"name": "lea"}))
        await site.wait_for("generationjob/parked", "condition=Suspended", 30, NS)
    finally:
        await site.kubectl("patch", "tenant", "jobs", "--type=merge", "-p", '{"spec":{"suspend":false}}')
    await wait_job(site, NS, "parked", 90)


async def test_the_database_away_for_a_while_delays_and_loses_nothing(site: Site, operator: OperatorProcess) -> None:
    await asyncio.to_thread(site.postgres.stop)
    try:
        await site.apply(job_manifest(NS, "delayed", {"name": "mia"}))
        await site.wait_for(
            "generationjob/delayed", "jsonpath={.status.conditions[0].reason}=DatabaseUnavailable", 60, NS
        )
        await asyncio.sleep(30)
        tenant = await site.api.get(TENANT, "jobs")
        assert tenant is not None
    finally:
        await asyncio.to_thread(site.postgres.start)
    await wait_job(site, NS, "delayed", 120)
    assert (await output(site, "delayed"))["data"]["mia.txt"] == "Hello mia!\n0\n"
