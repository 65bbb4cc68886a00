"""A job with a Git output, from ``kubectl apply`` to the pull request: a real operator, renderer, courier and Git server.

The server listens on an address of 198.51.100.0/24 (for documentation) that the machine's loopback device gets for the time of the
test, because nothing allows an operator to call loopback. Takes root, as the rest of these tests does.
"""

import asyncio
import base64
import itertools
import os
import signal
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import orjson
import pytest
import pytest_asyncio

from support.git_host import Fault, GitHost, git
from support.jobs import job_manifest, ready_of, registry_manifest, wait_job
from support.killing import END_SECONDS, Killing, killing
from support.operator_process import Site
from support.tenants import tenant_manifest
from unjucks_api import names
from unjucks_operator.kube.resources import GENERATION_JOB, POD

pytestmark = [
    pytest.mark.integration,
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.timeout(600),
    pytest.mark.skipif(
        os.geteuid() != 0, reason="an address for the Git server is added to the loopback device: needs root"
    ),
]
NS = "tenant-gitted"
ADDRESS = "198.51.100.77"


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GitHost]:
    subprocess.run(["ip", "address", "add", f"{ADDRESS}/32", "dev", "lo"], check=True)
    try:
        made = GitHost(tmp_path_factory.mktemp("git"), ADDRESS)
        yield made
        made.close()
    finally:
        subprocess.run(["ip", "address", "del", f"{ADDRESS}/32", "dev", "lo"], check=True)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def operators(site: Site, host: GitHost) -> AsyncIterator[Killing]:
    """Operators through a proxy, a tenant with a registry, and the Secret for pushing."""
    courier = {
        "egress": {"cidrs": ["198.51.100.0/24"]},
        "gitHosts": [{"host": ADDRESS, "provider": "Gitea", "api": f"{host.url}/api/v1"}],
        "idleAfter": 600,
    }
    network = {"clusterCidrs": ["10.0.0.0/8"], "probe": {"enabled": False}}
    async with killing(
        site, renderer={"idleAfter": 600}, courier=courier, network=network, jobs={"retries": 20}
    ) as made:
        await made.running()
        await site.apply(tenant_manifest("gitted", tier="professional"))
        await site.wait_for("tenant/gitted", "condition=Ready", END_SECONDS)
        await site.apply(registry_manifest(NS))
        await site.apply({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "push", "namespace": NS}, "data": host.secret,
        })  # fmt: skip
        await site.wait_for("templateregistry/templates", "condition=Ready", END_SECONDS, NS)
        yield made


def git_job(host: GitHost, name: str, repository: str = "acme/orders", **output: Any) -> dict[str, Any]:
    git_output = {
        "url": f"{host.url}/{repository}.git",
        "path": "services/hello",
        "secretRef": {"name": "push"},
        "commitMessage": "Greet {{ name }}",
        "pullRequest": {"labels": ["generated"]},
    }
    return job_manifest(NS, name, {"name": "bob"}, output={"git": git_output | output})


async def test_a_job_becomes_a_commit_and_a_pull_request(site: Site, host: GitHost, operators: Killing) -> None:
    bare = host.create()
    await site.apply(git_job(host, "hello"))
    await wait_job(site, NS, "hello", END_SECONDS)
    body = await site.api.get(GENERATION_JOB, "hello", NS)
    assert body is not None
    status = body["status"]
    commit = git(bare, "rev-parse", "unjucks/hello")
    assert status["output"]["kind"] == "Git"
    assert status["output"]["revision"] == f"unjucks/hello@sha1:{commit}"
    assert status["output"]["pullRequest"]["number"] == 1
    assert status["summary"]["output"] == "git/unjucks/hello"
    assert git(bare, "log", "-1", "--format=%s", "unjucks/hello") == "Greet bob"
    assert git(bare, "show", "unjucks/hello:services/hello/bob.txt").startswith("Hello bob!")
    statement = orjson.loads(git(bare, "show", "unjucks/hello:services/hello/.unjucks/hello/provenance.json"))
    told = {item["name"]: item["digest"]["sha256"] for item in statement["subject"]}
    assert told.keys() == {"bob.txt", "docs/token.txt", "manifest.json"}
    assert statement["predicate"]["buildDefinition"]["externalParameters"]["variables"]["name"] == "bob"
    assert status["provenance"]["digest"].startswith("sha256:")
    assert host.requests[0].title == "Greet bob"
    assert host.secret["password"] not in orjson.dumps(body).decode()


async def test_a_run_that_changes_nothing_commits_nothing(site: Site, host: GitHost, operators: Killing) -> None:
    bare = host.root / "acme/orders.git"
    again = git_job(host, "hello")
    again["metadata"]["annotations"] = {names.ANNOTATION_REQUESTED_AT: "again"}
    await site.apply(again)
    await _handled(site, "hello", "again")
    assert ready_of(await site.api.get(GENERATION_JOB, "hello", NS))["reason"] == "UpToDate"
    assert len(host.commits(bare, "unjucks/hello")) == 1


async def test_bad_credentials_end_the_job_without_telling_them(site: Site, host: GitHost, operators: Killing) -> None:
    wrong = {**host.secret, "password": base64.b64encode(b"wr0ng-password").decode()}
    await site.apply({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "wrong", "namespace": NS}, "data": wrong,
    })  # fmt: skip
    await site.apply(git_job(host, "refused", secretRef={"name": "wrong"}))
    await site.wait_for("generationjob/refused", "condition=Failed", END_SECONDS, NS)
    body = await site.api.get(GENERATION_JOB, "refused", NS)
    assert body is not None
    assert body["status"]["lastError"]["reason"] == "AuthenticationFailed"
    assert "wr0ng-password" not in orjson.dumps(body).decode()


async def test_a_kill_after_any_write_of_the_operator_leaves_one_commit(
    site: Site, host: GitHost, operators: Killing
) -> None:
    for number in itertools.count(1):
        name = f"struck-{number}"
        bare = host.create(f"acme/{name}")
        host.requests.clear()
        killed = await operators.strike(
            number,
            name,
            lambda name=name: site.apply(git_job(host, name, f"acme/{name}")),  # type: ignore[misc]
            lambda name=name: wait_job(site, NS, name, END_SECONDS),  # type: ignore[misc]
        )
        assert len(host.commits(bare, f"unjucks/{name}")) == 1, operators.writes
        assert len(host.requests) == 1
        if not killed:
            break


STEPS = ("git-upload-pack", "info/refs?service=git-receive-pack", "/git-receive-pack", "/api/v1/repos")


@pytest.mark.parametrize("who", ["operator", "renderer", "courier"])
async def test_who_dies_at_any_step_of_the_git_server_leaves_one_commit(
    site: Site, host: GitHost, operators: Killing, who: str
) -> None:
    """Several jobs at once. Of each, one step at the server (before and after it took effect) ends with a cut connection, and in
    that very moment the process is killed: whatever the others were doing then is tried as well."""
    loop = asyncio.get_running_loop()
    struck: list[str] = []

    async def kill(name: str) -> None:
        if who == "operator":
            if operators.operator is not None:
                operators.operator.kill()
        else:
            pods, _ = await site.api.list_all(
                POD, namespace=NS, label_selector=f"{names.LABEL_COMPONENT}={who}", metadata_only=True
            )
            for pod in pods:
                with suppress(KeyError, ProcessLookupError):
                    site.kubelet.kill(pod["metadata"]["uid"], signal.SIGKILL)
        struck.append(name)

    await operators.running()
    jobs: dict[str, Path] = {}
    # A new operator or renderer takes its time to start: of their deaths only those after a step are tried here.
    moments = (False, True) if who == "courier" else (True,)
    for number, (step, after) in enumerate(itertools.product(STEPS, moments)):
        name = f"cut-{who}-{number}"
        jobs[name] = host.create(f"acme/{name}")

        def now(name: str = name) -> None:
            asyncio.run_coroutine_threadsafe(kill(name), loop).result(30)

        host.faults.append(Fault(step, after, now, where=name))
        await site.apply(git_job(host, name, f"acme/{name}"))
    await operators.supervised(asyncio.gather(*(wait_job(site, NS, name, END_SECONDS) for name in jobs)))
    assert sorted(struck) == sorted(jobs)
    for name, bare in jobs.items():
        assert len(host.commits(bare, f"unjucks/{name}")) == 1, name
        assert [it.head for it in host.requests].count(f"unjucks/{name}") == 1, name


async def _handled(site: Site, name: str, asked: str) -> None:
    async with asyncio.timeout(60):
        while True:
            body = await site.api.get(GENERATION_JOB, name, NS)
            if body and (body.get("status") or {}).get("lastHandledRequestedAt") == asked:
                return
            await asyncio.sleep(0.2)
