"""``kubectl unjucks`` as a tenant's members use it: against a real API server, a running operator, and through kubectl itself."""

import asyncio
import json
import os
import stat
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import yaml

from support.jobs import registry_manifest
from support.operator_process import OperatorProcess, Site
from support.tenants import tenant_manifest
from unjucks_operator.kube.resources import CONFIG_MAP, GENERATION_JOB
from unjucks_runtime.cli.output import Exit

pytestmark = [pytest.mark.integration, pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(180)]
NS = "tenant-plugin"
ROOT = Path(__file__).parents[3]


class Plugin:
    """The program, as ``ada`` calls it."""

    def __init__(self, kubeconfig: Path, folder: Path) -> None:
        self.kubeconfig, self.folder = kubeconfig, folder

    async def __call__(
        self, *words: str, code: Exit = Exit.OK, stdin: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Runs it in its folder; fails when it ends with another code."""
        command = [
            sys.executable,
            "-m",
            "unjucks_runtime.kubectl",
            *words,
            "-n",
            NS,
            "--kubeconfig",
            str(self.kubeconfig),
        ]
        done = await asyncio.to_thread(
            subprocess.run, command, cwd=self.folder, capture_output=True, text=True, input=stdin, timeout=120
        )
        assert done.returncode == code, f"{words}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    async def json(self, *words: str, code: Exit = Exit.OK) -> Any:
        """Its JSON."""
        return json.loads((await self(*words, "-o", "json", code=code)).stdout)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def operator(site: Site) -> AsyncIterator[OperatorProcess]:
    """An operator, a tenant with an owner and an editor, and a registry."""
    async with site.operator(renderer={"idleAfter": 600}) as running:
        members = {"owners": [{"kind": "User", "name": "ada"}], "editors": [{"kind": "User", "name": "bob"}]}
        await site.apply(tenant_manifest("plugin", tier="professional", members=members))
        await site.wait_for("tenant/plugin", "condition=Ready", 60)
        await site.apply(registry_manifest(NS))
        await site.wait_for("templateregistry/templates", "condition=Ready", 60, NS)
        yield running


@pytest.fixture
def plugin(site: Site, operator: OperatorProcess, tmp_path: Path) -> Plugin:
    return Plugin(Path(site.plane.kubeconfig_for("ada")), tmp_path)


async def test_what_can_be_generated_is_listed(plugin: Plugin) -> None:
    rows = (await plugin("list", "-o", "text")).stdout
    assert "greet/new" in rows
    assert "name*" in rows
    entries = await plugin.json("list", "templates")
    assert {(item["registry"], item["generator"], item["action"]) for item in entries} >= {
        ("templates", "greet", "new")
    }


async def test_a_template_is_described_with_the_command_that_runs_it(plugin: Plugin) -> None:
    text = (await plugin("describe", "templates", "greet/new", "-o", "text")).stdout
    assert "^[a-z]+$" in text
    assert "kubectl unjucks run templates greet/new --set name=…" in text
    wrong = await plugin("describe", "templates", "greet/nothing", "-o", "text", code=Exit.NOT_FOUND)
    assert "it has: greet/" in wrong.stderr


async def test_a_job_runs_and_its_files_are_downloaded(plugin: Plugin, site: Site) -> None:
    words = ("run", "templates", "greet/new", "--name", "first", "--set", "name=bob", "--set", "count=2")
    done = await plugin(*words, "--to", "configmap/first", "-o", "text")
    assert "bob.txt" in done.stdout
    assert "configmap/first" in done.stdout
    assert "Succeeded" in done.stderr  # its progress
    body = await site.api.get(GENERATION_JOB, "first", NS)
    assert body is not None
    assert body["spec"]["variables"] == {"name": "bob", "count": 2}  # typed by the catalogue
    await plugin("download", "first")
    assert (plugin.folder / "first/bob.txt").read_text() == "Hello bob!\n0\n1\n"
    await plugin("download", "first")  # the same files again: nothing to refuse
    (plugin.folder / "first/bob.txt").write_text("mine")
    refused = await plugin("download", "first", "-o", "text", code=Exit.CONFLICT)
    assert "bob.txt" in refused.stderr
    assert (plugin.folder / "first/bob.txt").read_text() == "mine"
    await plugin("download", "first", "--force")
    assert (plugin.folder / "first/bob.txt").read_text() == "Hello bob!\n0\n1\n"


async def test_a_damaged_output_is_not_downloaded(plugin: Plugin, site: Site) -> None:
    await plugin("run", "templates", "greet/new", "--name", "hurt", "--set", "name=bob", "--to", "configmap/hurt")
    await site.kubectl("patch", "configmap", "hurt", "-n", NS, "--type=merge", "-p", '{"data": {"bob.txt": "forged"}}')
    refused = await plugin("download", "hurt", "-o", "text", code=Exit.FAILED)
    assert "bob.txt was changed by somebody" in refused.stderr
    assert not (plugin.folder / "hurt").exists()
    await plugin("rerun", "hurt")
    await plugin("download", "hurt")
    assert (plugin.folder / "hurt/bob.txt").read_text() == "Hello bob!\n0\n"


async def test_variables_from_files_and_from_the_cluster(plugin: Plugin, site: Site) -> None:
    (plugin.folder / "vars.yaml").write_text("name: carol\n")
    await site.apply(
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "more", "namespace": NS},
            "stringData": {"values.yaml": "token: t0p"},
        }
    )
    words = ("run", "templates", "greet/new", "--name", "mixed", "--data", "vars.yaml", "--from", "secret/more")
    await plugin(*words, "--to", "secret/mixed")
    editor = Plugin(Path(site.plane.kubeconfig_for("bob")), plugin.folder)
    refused = await editor("download", "mixed", "-o", "text", code=Exit.REFUSED)
    assert 'User "bob" cannot get resource "secrets"' in refused.stderr
    await plugin("download", "mixed", "--dest", "out")
    assert (plugin.folder / "out/docs/token.txt").read_text() == "t0p\n"


async def test_a_failing_job_tells_why_and_where(plugin: Plugin) -> None:
    words = ("run", "templates", "greet/undefined", "--name", "broken", "--to", "configmap/broken", "-o", "text")
    failed = await plugin(*words, code=Exit.FAILED)
    assert "UndefinedVariable" in failed.stderr
    assert "x.txt.njk:2:" in failed.stderr
    story = (await plugin("logs", "broken", "-o", "text")).stdout
    assert "UndefinedVariable" in story
    none = await plugin("download", "broken", "-o", "text", code=Exit.NOT_FOUND)
    assert "has published nothing yet" in none.stderr


async def test_logs_show_what_the_renderer_wrote_about_the_run(plugin: Plugin) -> None:
    await plugin("run", "templates", "greet/new", "--name", "told", "--set", "name=bob", "--to", "configmap/told")
    story = await plugin.json("logs", "told")
    assert any(item["type"] == "Complete" for item in story["conditions"])
    assert any(item["reason"] == "Succeeded" for item in story["events"])


async def test_a_running_job_is_cancelled(plugin: Plugin) -> None:
    words = ("run", "templates", "greet/slow", "--name", "slow", "--to", "configmap/slow", "--no-wait")
    await plugin(*words)
    await plugin("cancel", "slow")
    for _ in range(100):
        story = await plugin.json("logs", "slow")
        if any(item["type"] == "Failed" and item["reason"] == "Cancelled" for item in story["conditions"]):
            return
        await asyncio.sleep(0.2)
    raise AssertionError(story)


async def test_nothing_is_created_when_only_printing(plugin: Plugin, site: Site) -> None:
    printed = await plugin(
        "run", "templates", "greet/new", "--name", "paper", "--set", "name=bob", "--to", "configmap/p", "--print"
    )
    assert json.loads(printed.stdout)["spec"]["output"] == {"configMap": {"name": "p"}}
    assert await site.api.get(GENERATION_JOB, "paper", NS) is None


async def test_what_the_cluster_refuses_is_told_in_its_words(plugin: Plugin) -> None:
    refused = await plugin("run", "templates", "greet/new", "--name", "no-output", "-o", "text", code=Exit.USAGE)
    assert "say where the files go" in refused.stderr
    unknown = await plugin("download", "nobody", "-o", "text", code=Exit.NOT_FOUND)
    assert '"nobody" not found' in unknown.stderr
    elsewhere = [
        sys.executable,
        "-m",
        "unjucks_runtime.kubectl",
        "list",
        "-n",
        "kube-system",
        "--kubeconfig",
        str(plugin.kubeconfig),
    ]
    done = await asyncio.to_thread(subprocess.run, elsewhere, capture_output=True, text=True)
    assert done.returncode == Exit.REFUSED
    assert "forbidden" in done.stdout + done.stderr


async def test_a_job_that_cannot_end_in_time_goes_on(plugin: Plugin) -> None:
    (plugin.folder / "later.yaml").write_text("suspend: false\noutput: {configMap: {name: late}}\n")
    words = ("run", "missing", "greet/new", "--name", "late", "--spec", "later.yaml", "--timeout", "2s", "-o", "text")
    late = await plugin(*words, code=Exit.TIMEOUT)
    assert "it goes on" in late.stderr
    assert "TemplateRegistry missing does not exist" in late.stderr


async def test_kubectl_finds_the_plugin(plugin: Plugin, site: Site) -> None:
    folder = plugin.folder / "bin"
    folder.mkdir()
    program = folder / "kubectl-unjucks"
    program.write_text(f"#!{sys.executable}\nfrom unjucks_runtime.kubectl import main\nmain()\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    (folder / "kubectl").symlink_to(site.plane.kubectl_program)
    environment = os.environ | {"PATH": f"{folder}:{os.environ['PATH']}", "KUBECONFIG": str(plugin.kubeconfig)}
    done = await asyncio.to_thread(
        subprocess.run,
        [folder / "kubectl", "unjucks", "list", "-n", NS],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert yaml.safe_load(done.stdout)[0]["registry"] == "templates"


async def test_a_configmap_of_the_job_is_the_jobs(plugin: Plugin, site: Site) -> None:
    await plugin("run", "templates", "greet/new", "--set", "name=bob", "--to", "configmap/named")
    found = await site.api.get(CONFIG_MAP, "named", NS)
    assert found is not None
    assert found["metadata"]["labels"]["unjucks.io/job"].startswith("greet-new-")
