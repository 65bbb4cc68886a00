"""The operator as a process of its own, with the rights that the chart gives it, against a control plane and a PostgreSQL server.

async with platform(control_plane, postgres_server, folder) as site:     namespace, CRDs, rights, database, stand-in kubelet
    async with site.operator() as operator: ...                          a real ``unjucks-operator`` process
"""

import asyncio
import os
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import yaml

from e2e.cluster import golang
from e2e.cluster.controlplane import ControlPlane
from support.apiproxy import ApiProxy
from support.postgres import PostgresServer
from support.standin_kubelet import StandInKubelet
from unjucks_api import names
from unjucks_operator.kube.client import KubeClient
from unjucks_operator.kube.config import from_kubeconfig

ROOT = Path(__file__).resolve().parents[2]
OPERATOR_USER = "unjucks-operator"
RENDERER_REPOSITORY = "ghcr.io/unjucks/unjucks-renderer"  # of the operator's default configuration
COURIER_REPOSITORY = "ghcr.io/unjucks/unjucks-courier"
START_SECONDS = 120.0
STEADY_LEASE = {"leaseDuration": 15, "renewDeadline": 10, "retryPeriod": 0.3}
"""An operator that is stopped gives its Lease back, so the next one need not wait; and a slow machine must not end a holder."""


def chart_manifests(*arguments: str) -> list[dict[str, Any]]:
    """What the chart makes, rendered by the real helm."""
    command = [str(golang.helm()), "template", "unjucks", str(ROOT / "charts/unjucks-operator")]
    command += ["--namespace", names.PLATFORM_NAMESPACE, "--kube-version", "1.36.3", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"helm template failed: {done.stderr}")
    return [document for document in yaml.safe_load_all(done.stdout) if document]


def install_rights(plane: ControlPlane) -> None:
    """The chart's roles and admission policies; what is for the operator's service account is for a user with a certificate."""
    wanted = []
    rules = (
        f"policies.exemptUsers={{{OPERATOR_USER}}},policies.pods.images={{{RENDERER_REPOSITORY},{COURIER_REPOSITORY}}}"
    )
    for manifest in chart_manifests("--set", rules):
        if not manifest["apiVersion"].startswith(("rbac.authorization.k8s.io/", "admissionregistration.k8s.io/")):
            continue
        if manifest["kind"].endswith("WebhookConfiguration"):
            continue  # nobody would answer
        for subject in manifest.get("subjects", ()):
            if subject["name"] == "unjucks-operator":
                subject.clear()
                subject.update(kind="User", name=OPERATOR_USER, apiGroup="rbac.authorization.k8s.io")
        wanted.append(manifest)
    plane.kubectl("apply", "--server-side", "-f", "-", stdin=yaml.safe_dump_all(wanted))


@dataclass
class OperatorProcess:
    """A running operator."""

    process: asyncio.subprocess.Process
    log: Path
    health: str

    def kill(self) -> None:
        """As a power cut would."""
        if self.process.returncode is None:
            self.process.send_signal(signal.SIGKILL)

    async def stop(self) -> int:
        """SIGTERM and its exit code; SIGKILL when that takes too long."""
        if self.process.returncode is None:
            self.process.terminate()
            try:
                async with asyncio.timeout(15):
                    await self.process.wait()
            except TimeoutError:
                self.process.kill()
        return await self.process.wait()

    async def ready(self) -> None:
        """Return when /readyz says so; raise with the log when the process ended before."""
        async with aiohttp.ClientSession() as session, asyncio.timeout(START_SECONDS):
            while True:
                if self.process.returncode is not None:
                    raise RuntimeError(
                        f"the operator ended with {self.process.returncode}:\n{self.log.read_text()[-4000:]}"
                    )
                try:
                    async with session.get(f"{self.health}/readyz") as answer:
                        if answer.status == 200:
                            return
                except aiohttp.ClientError:
                    pass
                await asyncio.sleep(0.05)


@dataclass
class Site:
    """Everything around an operator."""

    plane: ControlPlane
    postgres: PostgresServer
    dsn: str
    folder: Path
    api: KubeClient
    kubelet: StandInKubelet
    settings: dict[str, Any] = field(default_factory=dict)
    _count: int = 0

    async def kubectl(self, *arguments: str, stdin: str | None = None, check: bool = True) -> str:
        """kubectl as administrator; its output."""
        done = await asyncio.to_thread(self.plane.kubectl, *arguments, stdin=stdin, check=check)
        return done.stdout if check else done.stdout + done.stderr

    async def apply(self, *manifests: Mapping[str, Any]) -> None:
        """kubectl apply, server-side."""
        await self.kubectl("apply", "--server-side", "-f", "-", stdin=yaml.safe_dump_all(list(manifests)))

    async def wait_for(self, what: str, condition: str, seconds: float = 30, namespace: str | None = None) -> None:
        """``kubectl wait --for=condition`` of ``kind/name``; fails with the object's YAML."""
        where = ["-n", namespace] if namespace else []
        arguments = ("wait", what, f"--for={condition}", f"--timeout={seconds}s", *where)
        done = await asyncio.to_thread(self.plane.kubectl, *arguments, check=False)
        if done.returncode:
            state = await self.kubectl("get", what, *where, "-o", "yaml", check=False)
            raise AssertionError(f"{what} is not {condition} after {seconds} s: {done.stderr}\n{state}")

    @asynccontextmanager
    async def proxy(self) -> AsyncIterator[ApiProxy]:
        """A proxy to the API server that speaks as the operator's user."""
        pair = self.plane.certificate(OPERATOR_USER)
        tls = ssl.create_default_context(cafile=str(self.plane.ca))
        tls.load_cert_chain(pair.certificate, pair.key)
        async with ApiProxy(self.plane.server, tls).running() as proxy:
            yield proxy

    def kubeconfig_through(self, proxy: ApiProxy) -> Path:
        """A kubeconfig that leads to the proxy."""
        path = self.folder / f"proxy-{id(proxy)}.kubeconfig"
        path.write_text(
            yaml.safe_dump(
                {
                    "apiVersion": "v1",
                    "kind": "Config",
                    "clusters": [{"name": "proxy", "cluster": {"server": proxy.url}}],
                    "users": [{"name": "nobody", "user": {"token": "unused: the proxy has a certificate"}}],
                    "contexts": [{"name": "proxy", "context": {"cluster": "proxy", "user": "nobody"}}],
                    "current-context": "proxy",
                }
            )
        )
        return path

    async def start_operator(self, *, kubeconfig: Path | None = None, **settings: Any) -> OperatorProcess:
        """Start one; call ``ready`` and ``stop`` yourself."""
        self._count += 1
        folder = self.folder / f"operator-{self._count}"
        folder.mkdir()
        port = _free_port()
        config: dict[str, Any] = {
            "kubernetes": {"kubeconfig": str(kubeconfig or self.plane.kubeconfig_for(OPERATOR_USER))},
            "health": {"host": "127.0.0.1", "port": port},
            "leader": STEADY_LEASE,
            # The pods of the stand-in kubelet share this machine's network: there are no policies to try.
            "network": {"probe": {"enabled": False}},
        }
        (folder / "config.yaml").write_text(yaml.safe_dump(config | self.settings | settings))
        log = folder / "log"
        with log.open("wb") as output:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "unjucks_operator", "--config", str(folder / "config.yaml")),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=output,
                env={**os.environ, "UNJUCKS_DATABASE_DSN": self.dsn},
            )
        return OperatorProcess(process, log, f"http://127.0.0.1:{port}")

    @asynccontextmanager
    async def operator(self, *, kubeconfig: Path | None = None, **settings: Any) -> AsyncIterator[OperatorProcess]:
        """A running operator that is ready."""
        operator = await self.start_operator(kubeconfig=kubeconfig, **settings)
        try:
            await operator.ready()
            yield operator
        finally:
            await operator.stop()


@asynccontextmanager
async def platform(plane: ControlPlane, folder: Path, *, kinds_are_known: bool = True) -> AsyncIterator[Site]:
    """Prepare a control plane for operators, with a PostgreSQL server of its own: the operator's roles belong to a whole server.

    ``kinds_are_known``: the controllers know our kinds, as they do half a minute after the CRDs came; not: they came just now.
    """
    await asyncio.to_thread(plane.apply_crds, ROOT / "crds")
    if kinds_are_known:
        await asyncio.to_thread(plane.restart_controller_manager)
    await asyncio.to_thread(plane.kubectl, "create", "namespace", names.PLATFORM_NAMESPACE, check=False)
    await asyncio.to_thread(install_rights, plane)
    endpoint, credentials = from_kubeconfig(plane.kubeconfig)
    with PostgresServer() as postgres:
        dsn = postgres.dsn(await postgres.create_database())
        async with KubeClient(endpoint, credentials) as api, StandInKubelet(api, folder / "pods") as kubelet:
            yield Site(plane, postgres, dsn, folder, api, kubelet)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
