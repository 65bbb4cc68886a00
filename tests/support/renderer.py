"""A real renderer process on loopback with real certificates, for tests of the operator and of the renderer itself.

    async with running_renderer(tenant_uid, authority, folder, address="127.0.0.7") as renderer: ...

stands in for kubelet + pod: the operator finds a pod by ``status.podIP`` and calls port 8443 there, so any 127.0.0.x will do.
"""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson

from unjucks_api import names
from unjucks_operator.renderers.ca import Authority
from unjucks_operator.renderers.certificates import Leaf, client_context
from unjucks_operator.renderers.client import Endpoint, RendererClient

START_SECONDS = 90.0


def write_certificates(folder: Path, leaf: Leaf) -> None:
    """What the kubelet mounts from the renderer's Secret."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in leaf.secret_data().items():
        path = folder / name
        path.write_bytes(content)
        path.chmod(0o400)


@dataclass
class RendererProcess:
    """A running ``unjucks-renderer``. ``logs`` has every line that it wrote so far, parsed."""

    process: asyncio.subprocess.Process
    tenant_uid: str
    address: str
    port: int
    health_port: int
    certificates: Path
    logs: list[dict[str, Any]] = field(default_factory=list)
    serving: bool = False

    @property
    def pid(self) -> int:
        """Process id of the server."""
        return self.process.pid

    def endpoint(self, *, pod_uid: str = "pod-uid", pod: str = "renderer") -> Endpoint:
        """How the operator sees it."""
        return Endpoint(pod_uid=pod_uid, pod=pod, ip=self.address, tenant_uid=self.tenant_uid, port=self.port)

    def client(self, authority: Authority) -> RendererClient:
        """The operator's client for it; to be closed by the caller."""
        return RendererClient(self.endpoint(), client_context(authority.issue_client(datetime.now(UTC))))

    def pod(self, *, name: str, namespace: str, uid: str, ready: bool = True) -> dict[str, Any]:
        """The Pod object that a kubelet would report for it."""
        return {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "name": name,
                "namespace": namespace,
                "uid": uid,
                "labels": names.tenant_labels("tenant", self.tenant_uid, names.COMPONENT_RENDERER),
            },
            "status": {
                "phase": "Running",
                "podIP": self.address,
                "conditions": [{"type": "Ready", "status": "True" if ready else "False"}],
            },
        }

    async def terminate(self) -> int:
        """SIGTERM, then the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return await self.process.wait()


@asynccontextmanager
async def running_renderer(
    tenant_uid: str,
    authority: Authority,
    folder: Path,
    *,
    address: str = "127.0.0.1",
    port: int = 0,
    health_port: int = 0,
    arguments: Sequence[str] = (),
    leaf: Leaf | None = None,
    program: Sequence[str] = (sys.executable, "-m", "unjucks_runtime.renderer"),
    environment: Mapping[str, str] | None = None,
) -> AsyncIterator[RendererProcess]:
    """Start it, wait until it serves, and end it afterwards. ``port`` 0: any free one; ``folder``: for its certificates."""
    leaf = leaf or authority.issue_server(names.renderer_identity(tenant_uid), datetime.now(UTC))
    certificates = folder / "certificates"
    write_certificates(certificates, leaf)
    process = await asyncio.create_subprocess_exec(
        *program,
        *("--certificates", str(certificates), "--tenant-uid", tenant_uid, "--listen", address, "--port", str(port)),
        *("--health-port", str(health_port), *arguments),
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, **(environment or {})},
    )
    renderer = RendererProcess(process, tenant_uid, address, port, health_port, certificates)
    serving = asyncio.Event()
    reader = asyncio.create_task(_read_logs(renderer, serving))
    try:
        async with asyncio.timeout(START_SECONDS):
            await serving.wait()
        if not renderer.serving:
            raise RuntimeError(f"the renderer ended with {await process.wait()}: {renderer.logs}")
        yield renderer
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
        await reader


async def _read_logs(renderer: RendererProcess, serving: asyncio.Event) -> None:
    assert renderer.process.stderr is not None
    try:
        async for line in renderer.process.stderr:
            try:
                entry = orjson.loads(line)
            except orjson.JSONDecodeError:
                entry = {"message": line.decode(errors="replace")}
            renderer.logs.append(entry)
            if entry.get("message") == "serving":
                renderer.port = int(entry["port"])
                renderer.serving = True
                serving.set()
    finally:
        serving.set()
