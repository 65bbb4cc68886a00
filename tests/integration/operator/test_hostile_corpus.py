"""The corpus of attacks, through the whole product: every case ends typed, nothing escapes, and the next job runs as before."""

import asyncio
import base64
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson
import pytest
import pytest_asyncio

from support.archives import member, packed
from support.hostile_corpus import JobCase, SetCase, config_map_of, job_cases, set_cases
from support.jobs import job_manifest, ready_of, registry_manifest, wait_job
from support.operator_process import OperatorProcess, Site
from support.tenants import tenant_manifest
from unjucks_api.reasons import Reason
from unjucks_operator.errors import InvalidSpec
from unjucks_operator.kube.api import Manifest
from unjucks_operator.kube.resources import CONFIG_MAP, GENERATION_JOB, TEMPLATE_REGISTRY

pytestmark = [pytest.mark.integration, pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(300)]
NS = "tenant-hostile"
JOBS, SETS = job_cases(), set_cases()
PER_REGISTRY = 100
CANARY = "canary-5b1f-of-the-renderers-environment"
INSIDES = (
    CANARY,
    "object at 0x",
    "<class",
    "<function",
    "built-in",
    "Traceback",
    "root:x:",
    "/site-packages/",
    "unjucks_runtime",
)
"""What no output, status or message may show: it would be of the host."""
AT_ONCE = 8


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def operator(site: Site) -> AsyncIterator[OperatorProcess]:
    """An operator, and a tenant whose renderer has something to steal in its environment."""
    os.environ["UNJUCKS_TEST_CANARY"] = CANARY
    try:
        async with site.operator(renderer={"idleAfter": 600}) as running:
            limits = {"jobs": {"concurrent": AT_ONCE}}
            await site.apply(tenant_manifest("hostile", tier="enterprise", database={"mode": "Shared"}, quota=limits))
            await site.wait_for("tenant/hostile", "condition=Ready", 90)
            yield running
    finally:
        del os.environ["UNJUCKS_TEST_CANARY"]


async def end_of(site: Site, resource: Any, name: str, ends: tuple[str, ...]) -> Manifest:
    """The object, once one of these conditions is true (``Ready``: told at all) at its generation."""
    for _ in range(600):
        body = await site.api.get(resource, name, NS)
        assert body is not None
        status = body.get("status") or {}
        if status.get("observedGeneration") == body["metadata"]["generation"]:
            found = {it["type"]: it["status"] for it in status.get("conditions") or ()}
            if any(found.get(end) == "True" for end in ends):
                return body
        await asyncio.sleep(0.1)
    raise AssertionError(f"{name} has not ended: {body.get('status')}")


def shows_nothing(what: str, text: str) -> list[str]:
    """What of the host is visible in it."""
    return [f"{what}: shows {inside!r}" for inside in INSIDES if inside in text]


async def run_case(site: Site, case: JobCase, number: int, room: asyncio.Semaphore) -> list[str]:
    """Create, wait, look: problems of one run."""
    name = f"case-{number}"
    body = job_manifest(NS, name, case.variables, registry=f"hostile-{number // PER_REGISTRY}")
    body["spec"]["template"] = {"generator": "g", "action": f"c{number}"}
    async with room:
        try:
            await site.api.create(body, manager="test")
        except InvalidSpec as error:
            return [] if Reason.INVALID_SPEC in case.reasons else [f"{case.name}: not admitted: {error.message}"]
        ended = await end_of(site, GENERATION_JOB, name, ("Complete", "Failed"))
    output = await site.api.get(CONFIG_MAP, name, NS)
    data = dict((output or {}).get("data") or {})
    problems = shows_nothing(case.name, json.dumps([ended["status"], data]))
    reason = ready_of(ended)["reason"]
    if ready_of(ended)["status"] != "True":
        if output is not None:
            problems.append(f"{case.name}: failed and published all the same")
        if reason not in {it.value for it in case.reasons}:
            problems.append(f"{case.name}: {reason}: {ready_of(ended)['message'][:300]}")
        return problems
    if case.reasons and not case.may_succeed:
        problems.append(f"{case.name}: it succeeded: {str(data)[:300]}")
    data.pop("manifest.json", None)
    if (
        case.gives is not None
        and {key.replace("__", "/"): text for key, text in data.items() if "provenance" not in key} != case.gives
    ):
        problems.append(f"{case.name}: gave {str(data)[:300]}")
    return problems


async def test_the_corpus_is_large_enough(site: Site) -> None:
    assert len(JOBS) + len(SETS) >= 200
    assert len({case.name for case in [*JOBS, *SETS]}) == len(JOBS) + len(SETS)


@pytest.mark.isolation("T-template-escape")
async def test_every_job_ends_typed_and_shows_nothing(site: Site, operator: OperatorProcess, tmp_path: Path) -> None:
    for first in range(0, len(JOBS), PER_REGISTRY):
        tree = {
            f"_templates/g/c{first + offset}/{name}": text
            for offset, case in enumerate(JOBS[first : first + PER_REGISTRY])
            for name, text in case.files.items()
        }
        number = first // PER_REGISTRY
        # Too many files for an inline source, and a broken template must not keep the others from being tried.
        spec = {
            "configMapRef": {"name": f"hostile-{number}"},
            "policy": {"onInvalidTemplate": "ServeValid"},
            "engine": {"undefined": "Empty"},
        }
        source = {"binaryData": {"templates.tgz": base64.b64encode(_archive(tree)).decode()}}
        await site.apply(
            {
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "metadata": {"name": f"hostile-{number}", "namespace": NS},
                **source,
            }
        )
        registry = registry_manifest(NS, f"hostile-{number}")
        await site.apply(registry | {"spec": spec})
        await site.wait_for(f"templateregistry/hostile-{number}", "condition=ArtifactInStorage", 60, NS)
    room = asyncio.Semaphore(AT_ONCE)
    problems = await asyncio.gather(*(run_case(site, case, number, room) for number, case in enumerate(JOBS)))
    assert [problem for found in problems for problem in found] == []


def _archive(tree: dict[str, str]) -> bytes:
    return packed(*(member(path, text.encode()) for path, text in sorted(tree.items())))


async def refused_set(site: Site, case: SetCase, number: int, room: asyncio.Semaphore) -> list[str]:
    """Apply one source; problems."""
    name = f"set-{number}"
    async with room:
        metadata = {"name": name, "namespace": NS}
        source = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, **config_map_of(case)}
        await site.api.create(source, manager="test")
        registry = registry_manifest(NS, name)
        await site.api.create(registry | {"spec": {"configMapRef": {"name": name}}}, manager="test")
        body = await end_of(site, TEMPLATE_REGISTRY, name, ("Ready", "Stalled"))
    problems = shows_nothing(case.name, orjson.dumps(body["status"]).decode())
    ready = ready_of(body)
    if ready["status"] == "True" or ready["reason"] not in {it.value for it in case.reasons}:
        problems.append(f"{case.name}: {ready['status']} {ready['reason']}: {ready['message'][:300]}")
    if (body["status"].get("artifact") or {}).get("digest"):
        problems.append(f"{case.name}: something is served")
    return problems


@pytest.mark.isolation("T-registry-traversal")
async def test_every_source_is_refused_with_its_reason(site: Site, operator: OperatorProcess) -> None:
    room = asyncio.Semaphore(4)
    problems = await asyncio.gather(*(refused_set(site, case, number, room) for number, case in enumerate(SETS)))
    assert [problem for found in problems for problem in found] == []


async def test_afterwards_everything_works_as_before(site: Site, operator: OperatorProcess) -> None:
    await site.apply(registry_manifest(NS), job_manifest(NS, "calm", {"name": "bob"}))
    await wait_job(site, NS, "calm", 60)
    assert operator.process.returncode is None
