"""The webhooks as real processes on loopback, called by a real API server through the chart's own configurations.

async with webhooks(plane, folder) as site:                 rights, Secret of the approvers, configurations, a balancer in front
    async with site.replica() as one, site.replica(): ...   real ``unjucks-webhooks serve`` processes behind the balancer
    await site.enrol("ada@acme.example")                    gives a ``Device`` that shows codes
    await site.patch("ada@acme.example", "acme", {...})     as that user; ``Said``

Only ``clientConfig`` is another one than in a cluster: a URL on loopback instead of the Service.
"""

import asyncio
import base64
import json
import os
import re
import signal
import ssl
import sys
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import pyotp
import yaml

from e2e.cluster.controlplane import ControlPlane
from support import chart
from support.operator_process import ROOT, _free_port
from unjucks_api import names
from unjucks_api.approvals import KEY_BYTES
from unjucks_operator.renderers.ca import Authority, new_authority
from unjucks_operator.renderers.certificates import Leaf
from unjucks_webhooks import kube
from unjucks_webhooks.store import ApprovalStore

USER = "system:serviceaccount:unjucks-system:unjucks-webhooks"
TENANTS = f"/apis/{names.API_VERSION}/tenants"
KINDS = ("MutatingWebhookConfiguration", "ValidatingWebhookConfiguration")
READY_SECONDS = 120.0


@dataclass
class Device:
    """Somebody's phone."""

    user: str
    uri: str
    recovery: list[str]

    def code(self, offset: int = 0) -> str:
        """The code of now, or of ``offset`` steps from now."""
        totp = pyotp.parse_uri(self.uri)
        assert isinstance(totp, pyotp.TOTP)
        return totp.at(int(time.time()) + 30 * offset)

    async def fresh(self) -> str:
        """The code of now, early enough in its step that a slow machine gets it there in time."""
        while time.time() % 30 > 24:
            await asyncio.sleep(0.2)
        return self.code()


@dataclass
class Said:
    """What the API server answered. ``text``: its message and all warnings."""

    status: int
    object: dict[str, Any]
    warnings: list[str]

    @property
    def ok(self) -> bool:
        """Whether it did it."""
        return self.status < 300

    @property
    def text(self) -> str:
        """Everything that a user reads."""
        return "\n".join([str(self.object.get("message", "")), *self.warnings])


@dataclass
class Replica:
    """A running process."""

    process: asyncio.subprocess.Process
    folder: Path
    port: int
    health: str

    @property
    def log(self) -> str:
        """Everything it logged."""
        return (self.folder / "log").read_text(encoding="utf-8")

    def kill(self) -> None:
        """As a power cut would."""
        if self.process.returncode is None:
            self.process.send_signal(signal.SIGKILL)

    async def stop(self) -> int:
        """SIGTERM, and the exit code."""
        if self.process.returncode is None:
            self.process.terminate()
        try:
            async with asyncio.timeout(20):
                return await self.process.wait()
        except TimeoutError:
            self.process.kill()
            return await self.process.wait()

    async def get(self, path: str) -> tuple[int, str]:
        """Ask the health port."""
        async with aiohttp.ClientSession() as session, session.get(f"{self.health}{path}") as answer:
            return answer.status, await answer.text()

    async def ready(self) -> None:
        """Return when /readyz says so; raise with the log when the process ended before."""
        async with asyncio.timeout(READY_SECONDS):
            while True:
                if self.process.returncode is not None:
                    raise RuntimeError(f"the webhooks ended with {self.process.returncode}:\n{self.log[-4000:]}")
                with suppress(aiohttp.ClientError):
                    if (await self.get("/readyz"))[0] == 200:
                        return
                await asyncio.sleep(0.05)


@dataclass
class Balancer:
    """A TCP port in front of the replicas, taking turns; without replicas a connection is reset."""

    backends: list[int] = field(default_factory=list)
    port: int = 0
    connections: int = 0
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    @asynccontextmanager
    async def running(self) -> AsyncIterator["Balancer"]:
        """Listen on a free port."""
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            for task in tuple(self._tasks):
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    @asynccontextmanager
    async def only(self, *ports: int) -> AsyncIterator[None]:
        """Other replicas, or none, for a while; open connections are cut, because API servers keep theirs."""
        kept, self.backends = self.backends, list(ports)
        await self._cut()
        try:
            yield
        finally:
            self.backends = kept
            await self._cut()

    async def _cut(self) -> None:
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(0.2)  # for the other side to notice: it would use a connection once more otherwise

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        for attempt in range(len(self.backends)):
            port = self.backends[(self.connections + attempt) % len(self.backends)]
            try:
                inner, outer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                continue
            task = asyncio.create_task(self._both(reader, writer, inner, outer))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            return
        writer.transport.abort()

    async def _both(
        self,
        one: asyncio.StreamReader,
        to_one: asyncio.StreamWriter,
        two: asyncio.StreamReader,
        to_two: asyncio.StreamWriter,
    ) -> None:
        async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
            with suppress(OSError):
                while data := await source.read(65536):
                    sink.write(data)
                    await sink.drain()
            sink.close()

        try:
            await asyncio.gather(pump(one, to_two), pump(two, to_one))
        finally:
            to_one.transport.abort()
            to_two.transport.abort()


@dataclass
class WebhookSite:
    """Everything around the processes."""

    plane: ControlPlane
    folder: Path
    balancer: Balancer
    authority: Authority
    key: bytes
    http: aiohttp.ClientSession
    store: ApprovalStore
    _count: int = 0
    _made: list[str] = field(default_factory=list)

    async def kubectl(self, *arguments: str, stdin: str | None = None, check: bool = True) -> str:
        """kubectl as administrator; its output."""
        done = await asyncio.to_thread(self.plane.kubectl, *arguments, stdin=stdin, check=check)
        return done.stdout if check else done.stdout + done.stderr

    async def get(self, kind: str, name: str, *more: str) -> dict[str, Any]:
        """An object."""
        found: dict[str, Any] = json.loads(await self.kubectl("get", kind, name, *more, "-o", "json"))
        return found

    async def try_as(self, user: str, *arguments: str, stdin: str | None = None) -> tuple[int, str]:
        """kubectl as a user who may do everything; (exit code, output and errors)."""
        done = await asyncio.to_thread(
            self.plane.kubectl, "--as", user, "--as-group", "system:masters", *arguments, stdin=stdin, check=False
        )
        return done.returncode, done.stdout + done.stderr

    async def request(
        self, user: str, method: str, path: str, body: Mapping[str, Any], *, dry_run: bool = False
    ) -> Said:
        """One request to the API server as a user who may do everything."""
        headers = {
            "Impersonate-User": user,
            "Impersonate-Group": "system:masters",
            "Content-Type": "application/merge-patch+json" if method == "PATCH" else "application/json",
        }
        query = {"dryRun": "All"} if dry_run else {}
        async with self.http.request(
            method, f"{self.plane.server}{path}", headers=headers, params=query, data=json.dumps(body)
        ) as answer:
            warnings = re.findall(r'299 - "((?:[^"\\]|\\.)*)"', ", ".join(answer.headers.getall("Warning", [])))
            return Said(answer.status, await answer.json(), [text.replace('\\"', '"') for text in warnings])

    async def patch(self, user: str, tenant: str, body: Mapping[str, Any], *, dry_run: bool = False) -> Said:
        """Merge into a Tenant as that user."""
        return await self.request(user, "PATCH", f"{TENANTS}/{tenant}", body, dry_run=dry_run)

    async def create_registry(
        self, user: str, name: str, spec: Mapping[str, Any], *, dry_run: bool = False, **annotations: str
    ) -> Said:
        """A new TemplateRegistry in the namespace ``default``; annotations of our group by their short names."""
        manifest = {
            "apiVersion": names.API_VERSION,
            "kind": "TemplateRegistry",
            "metadata": {
                "name": name,
                "namespace": "default",
                "annotations": {f"{names.GROUP}/{key}": value for key, value in annotations.items()},
            },
            "spec": spec,
        }
        path = f"/apis/{names.API_VERSION}/namespaces/default/templateregistries"
        return await self.request(user, "POST", path, manifest, dry_run=dry_run)

    async def tenant(self, tenant: str, **spec: Any) -> dict[str, Any]:
        """A new Tenant."""
        manifest = {"apiVersion": names.API_VERSION, "kind": "Tenant", "metadata": {"name": tenant}, "spec": spec}
        said = await self.request("admin", "POST", TENANTS, manifest)
        assert said.ok, said.text
        self._made.append(tenant)
        return said.object

    async def command(self, *arguments: str, stdin: str = "", kubeconfig: Path | None = None) -> tuple[int, str, str]:
        """Run ``unjucks-webhooks`` as a platform administrator; (exit code, output, errors)."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "unjucks_webhooks", *arguments),
            *("--kubeconfig", str(kubeconfig or self.plane.kubeconfig)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, error = await process.communicate(stdin.encode())
        assert process.returncode is not None
        return process.returncode, out.decode(), error.decode()

    async def enrol(self, user: str) -> Device:
        """Give a user a second factor, as the command does."""
        approver, codes = await self.store.enrol(user, replace=False)
        return Device(user, approver.uri(), list(codes))

    def write_certificate(self, folder: Path, leaf: Leaf | None = None) -> Leaf:
        """Put a serving certificate into a replica's folder, as the kubelet does: both files change at once."""
        leaf = leaf or self.authority.issue_server("localhost", datetime.now(UTC))
        data = folder / f"data-{leaf.serial}"
        data.mkdir(parents=True)
        for name, content in leaf.secret_data().items():
            (data / name).write_bytes(content)
        link = folder / "current"
        work = folder / "next"
        work.symlink_to(data.name)
        work.replace(link)
        return leaf

    @asynccontextmanager
    async def replica(self, *, kubeconfig: Path | None = None, balanced: bool = True) -> AsyncIterator[Replica]:
        """A running process that is ready, behind the balancer."""
        self._count += 1
        folder = self.folder / f"replica-{self._count}"
        self.write_certificate(folder)
        port, health = _free_port(), _free_port()
        with (folder / "log").open("wb") as output:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "unjucks_webhooks", "serve", "--certificates", str(folder / "current")),
                *("--kubeconfig", str(kubeconfig or self.plane.kubeconfig_for(USER)), "--listen", "127.0.0.1"),
                *("--port", str(port), "--health-port", str(health), "--reload-interval", "0.1", "--drain", "0.2"),
                *("--log-level", "debug"),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=output,
                env={**os.environ, "KUBECONFIG": "/nowhere"},
            )
        replica = Replica(process, folder, port, f"http://127.0.0.1:{health}")
        try:
            await replica.ready()
            if balanced:
                self.balancer.backends.append(port)
            yield replica
        finally:
            if port in self.balancer.backends:
                self.balancer.backends.remove(port)
            await replica.stop()

    @asynccontextmanager
    async def session(self) -> AsyncIterator[aiohttp.ClientSession]:
        """For reviews that do not come from an API server."""
        tls = ssl.create_default_context(cadata=self.authority.bundle.decode())
        connector = aiohttp.TCPConnector(ssl=tls)
        async with aiohttp.ClientSession(connector=connector) as session:
            yield session
        await asyncio.sleep(0)

    async def forget(self) -> None:
        """Remove what was made with the objects' own names: the control plane is shared."""
        for name in self._made:
            await self.request("admin", "DELETE", f"{TENANTS}/{name}", {})
        await self.kubectl("delete", "templateregistries", "--all", "--namespace", "default")
        await self.kubectl("delete", "secret", names.APPROVALS_SECRET, "--namespace", names.PLATFORM_NAMESPACE)

    async def install_configurations(self) -> None:
        """The chart's two configurations and its policy about codes, with a URL on loopback; returns when they are in force."""
        bundle = base64.b64encode(self.authority.bundle).decode()
        manifests = [
            item
            for item in chart.render({"webhooks": {"enabled": True}})
            if item["kind"] in KINDS or item["metadata"]["name"] == "unjucks-approval-codes"
        ]
        for manifest in manifests:
            for webhook in manifest.get("webhooks", ()):
                path = webhook["clientConfig"]["service"]["path"]
                url = f"https://localhost:{self.balancer.port}{path}"
                webhook["clientConfig"] = {"url": url, "caBundle": bundle}
        await self.kubectl(
            "apply", "--server-side", "--force-conflicts", "-f", "-", stdin=yaml.safe_dump_all(manifests)
        )

    async def in_force(self) -> None:
        """Wait until the API server knows the configurations."""
        await self.tenant("wh-in-force", protected=True)
        async with asyncio.timeout(30):
            while (await self.patch("nobody", "wh-in-force", {"spec": {"protected": False}}, dry_run=True)).ok:
                await asyncio.sleep(0.05)
            source = {"configMapRef": {"name": "x"}}
            while (await self.create_registry("nobody", "codes", source, dry_run=True, approval="1")).ok:
                await asyncio.sleep(0.05)


def _rights() -> list[dict[str, Any]]:
    """What the chart gives the webhooks, bound to a user of the service account's name."""
    found = []
    for item in chart.render({"webhooks": {"enabled": True}}):
        name = item["metadata"]["name"]
        if item["kind"] in ("Role", "RoleBinding") and name.startswith("unjucks-webhooks"):
            for subject in item.get("subjects", ()):
                subject.clear()
                subject.update(kind="User", name=USER, apiGroup="rbac.authorization.k8s.io")
            found.append(item)
    assert len(found) == 4
    return found


@asynccontextmanager
async def webhooks(plane: ControlPlane, folder: Path) -> AsyncIterator[WebhookSite]:
    """Prepare a control plane; what is made cluster-wide is removed at the end."""
    await asyncio.to_thread(plane.apply_crds, ROOT / "crds")
    await asyncio.to_thread(plane.kubectl, "create", "namespace", names.PLATFORM_NAMESPACE, check=False)
    key = os.urandom(KEY_BYTES)
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": names.APPROVALS_SECRET, "namespace": names.PLATFORM_NAMESPACE},
        "data": {names.APPROVALS_KEY: base64.b64encode(key).decode()},
    }
    access = kube.from_kubeconfig(str(plane.kubeconfig))
    async with (
        Balancer().running() as balancer,
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=access.tls or True)) as http,
        kube.Kube(access, timeout=15) as client,
    ):
        store = ApprovalStore(client, names.PLATFORM_NAMESPACE, time.time)
        site = WebhookSite(plane, folder, balancer, new_authority(datetime.now(UTC)), key, http, store)
        await site.kubectl(
            "apply", "--server-side", "--force-conflicts", "-f", "-", stdin=yaml.safe_dump_all([secret, *_rights()])
        )
        await site.install_configurations()
        try:
            yield site
        finally:
            for kind in (*KINDS, "ValidatingAdmissionPolicyBinding", "ValidatingAdmissionPolicy"):
                name = "unjucks-approval-codes" if kind.startswith("ValidatingAdmission") else names.WEBHOOKS
                await site.kubectl("delete", kind, name, "--ignore-not-found")
            await site.forget()
