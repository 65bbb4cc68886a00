"""The whole process as the kubelet sees it: started as a program, asked over HTTP, ended by signals. No database is there."""

import asyncio
import json
import os
import signal
import sys
import urllib.request
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.error import HTTPError

import pytest

from e2e.cluster.controlplane import ControlPlane, free_ports

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]
ROOT = Path(__file__).resolve().parents[3]


@dataclass
class Program:
    """A running operator; its log lines are collected as it writes them."""

    process: asyncio.subprocess.Process
    port: int
    lines: list[dict[str, Any]] = field(default_factory=list)
    raw: list[str] = field(default_factory=list)

    async def read(self) -> None:
        assert self.process.stderr is not None
        while line := await self.process.stderr.readline():
            self.raw.append(line.decode())
            self.lines.append(json.loads(line))

    def get(self, path: str) -> tuple[int, str]:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=5) as answer:
                return answer.status, answer.read().decode()
        except HTTPError as error:
            return error.code, error.read().decode()
        except OSError as error:
            return 0, str(error)

    async def until(self, path: str, status: int) -> str:
        """The body of the first answer with that status."""
        answer = (0, "")
        try:
            async with asyncio.timeout(60):
                while True:
                    answer = await asyncio.to_thread(self.get, path)
                    if answer[0] == status:
                        return answer[1]
                    assert self.process.returncode is None, "".join(self.raw)
                    await asyncio.sleep(0.1)
        except TimeoutError:
            pytest.fail(f"{path} never answered {status}, last {answer}; log:\n{''.join(self.raw)}")

    async def end(self, number: signal.Signals) -> int:
        """Send the signal; the exit code. The kubelet would wait longer, the promise is three seconds."""
        self.process.send_signal(number)
        async with asyncio.timeout(3):
            return await self.process.wait()


@asynccontextmanager
async def operator(plane: ControlPlane, namespace: str, user: str, **environment: str) -> AsyncIterator[Program]:
    (port,) = free_ports(1)
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "unjucks_operator",
        cwd=ROOT / "operator",
        stderr=asyncio.subprocess.PIPE,
        env={
            "PATH": os.environ["PATH"],
            "KUBECONFIG": str(plane.kubeconfig_for(user, ["system:masters"])),
            "POD_NAME": user,
            "POD_NAMESPACE": namespace,
            "UNJUCKS_HEALTH__PORT": str(port),
            "UNJUCKS_HEALTH__HOST": "127.0.0.1",
            "UNJUCKS_DATABASE_DSN": "postgresql://unjucks:hunter-two@127.0.0.1:1/unjucks",
            **environment,
        },
    )
    program = Program(process, port)
    reader = asyncio.create_task(program.read())
    try:
        yield program
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
        await reader


@pytest.fixture
def namespace(control_plane: ControlPlane, crds: list[str]) -> str:
    """A platform namespace of the test's own, so that no other test holds the lease."""
    name = f"platform-{uuid.uuid4().hex[:8]}"
    body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
    control_plane.admin.request("POST", "/api/v1/namespaces", body).require()
    return name


def lease_path(namespace: str) -> str:
    return f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases/unjucks-operator"


def holder(plane: ControlPlane, namespace: str) -> str:
    """The pod's name of the one that leads; empty for nobody."""
    spec = plane.admin.get(lease_path(namespace)).require()["spec"]
    return str(spec.get("holderIdentity") or "").partition("_")[0]


async def test_it_becomes_ready_leads_and_ends_on_sigterm(control_plane: ControlPlane, namespace: str) -> None:
    async with operator(control_plane, namespace, "whole") as program:
        await program.until("/readyz", 200)
        assert (await program.until("/livez", 200)) == "ok\n"
        details = json.loads(await program.until("/livez?verbose", 200))
        assert details["status"] == "ok"
        assert {"loop", "clock", "lease", "watches"} <= set(details["checks"])
        metrics = await program.until("/metrics", 200)
        assert "unjucks_leader 1.0" in metrics
        assert 'unjucks_watch_last_event_age_seconds{resource="tenants"}' in metrics
        assert 'workqueue_depth{name="tenant"}' in metrics
        assert holder(control_plane, namespace) == "whole"
        assert await program.end(signal.SIGTERM) == 0
        assert holder(control_plane, namespace) == "", "the lease was given back"
        assert [line for line in program.lines if "exception" in line] == []
        assert "hunter-two" not in "".join(program.raw)


async def test_sigusr1_switches_debug_logs_on(control_plane: ControlPlane, namespace: str) -> None:
    async with operator(control_plane, namespace, "debug") as program:
        await program.until("/readyz", 200)
        assert not any(line["level"] == "debug" for line in program.lines)
        program.process.send_signal(signal.SIGUSR1)
        async with asyncio.timeout(20):
            while not any("log level is now DEBUG" in line["msg"] for line in program.lines):
                await asyncio.sleep(0.05)
        assert await program.end(signal.SIGTERM) == 0
    assert any(line["level"] == "debug" and line["msg"].startswith("stopping ") for line in program.lines)


async def test_a_standby_is_ready_and_takes_over(control_plane: ControlPlane, namespace: str) -> None:
    async with operator(control_plane, namespace, "first") as first:
        await first.until("/readyz", 200)
        async with operator(control_plane, namespace, "second") as second:
            await second.until("/readyz", 200)
            assert await second.end(signal.SIGTERM) == 0
        assert holder(control_plane, namespace) == "first", "a standby that ends takes nothing with it"
        async with operator(control_plane, namespace, "third") as third:
            await third.until("/readyz", 200)
            assert await first.end(signal.SIGINT) == 0
            async with asyncio.timeout(30):
                while holder(control_plane, namespace) != "third":
                    await asyncio.sleep(0.1)
            await third.until("/readyz", 200)
            assert "unjucks_leader 1.0" in await third.until("/metrics", 200)
            assert await third.end(signal.SIGTERM) == 0


async def test_a_stolen_lease_ends_the_process_with_its_own_code(control_plane: ControlPlane, namespace: str) -> None:
    async with operator(control_plane, namespace, "robbed") as program:
        await program.until("/readyz", 200)
        theft = {"spec": {"holderIdentity": "thief"}}
        control_plane.admin.request(
            "PATCH", lease_path(namespace), theft, content_type="application/merge-patch+json"
        ).require()
        async with asyncio.timeout(20):
            assert await program.process.wait() == 4
    assert any("now held by thief" in line["msg"] for line in program.lines)
    assert holder(control_plane, namespace) == "thief", "it is not stolen back"
