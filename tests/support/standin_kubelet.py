"""A stand-in for kubelets where there are none: for each renderer and courier pod it runs the real program on loopback.

Why a stand-in: the control plane of the integration tests has no nodes, and a kubelet needs root, a container runtime and half a
minute. What it replaces is only the starting of processes and the reporting of pod status; certificates come from the pod's own
Secret, the renderer is the real program with the pod's own arguments, and the operator finds it by ``status.podIP``. The same
things run with a real kubelet in the end-to-end tests.

    async with StandInKubelet(api, folder) as kubelet: ...
"""

import asyncio
import base64
import itertools
import os
import signal
import sys
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from unjucks_api import names
from unjucks_operator.errors import OperatorError
from unjucks_operator.kube.api import KubeApi, Manifest, PatchType
from unjucks_operator.kube.resources import POD, SECRET

_POLL = 0.05
_ADDRESSES = itertools.count(2)
_CERTIFICATES = "/etc/unjucks/tls"
_PROGRAMS = {
    names.COMPONENT_RENDERER: (names.RENDERER, "unjucks_runtime.renderer"),
    names.COMPONENT_COURIER: (names.COURIER, "unjucks_runtime.courier"),
}
"""Component to the name of its Secret and its module."""


class StandInKubelet:
    """See the module's text. ``broken``: names of tenants whose pods never start; for tests of that."""

    def __init__(self, api: KubeApi, folder: Path) -> None:
        self.broken: set[str] = set()
        self.started = 0
        """Renderer processes started so far."""
        self._api = api
        self._folder = folder
        self._processes: dict[str, asyncio.subprocess.Process] = {}
        self._reported: set[str] = set()
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> "StandInKubelet":
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        for uid in list(self._processes):
            await self._stop(uid)

    def kill(self, pod_uid: str, how: signal.Signals = signal.SIGKILL) -> None:
        """Kill the process of a pod, as a crash would."""
        self._processes[pod_uid].send_signal(how)

    def running(self) -> list[str]:
        """UIDs of pods whose process lives."""
        return [uid for uid, process in self._processes.items() if process.returncode is None]

    async def _run(self) -> None:
        while True:
            with suppress(OperatorError):
                pods, _ = await self._api.list_all(
                    POD, label_selector=f"{names.LABEL_COMPONENT} in ({', '.join(_PROGRAMS)})"
                )
                await self._sync(pods)
            await asyncio.sleep(_POLL)

    async def _sync(self, pods: list[Manifest]) -> None:
        there = {pod["metadata"]["uid"] for pod in pods}
        for uid in [uid for uid in self._processes if uid not in there]:
            await self._stop(uid)
        for pod in pods:
            metadata = pod["metadata"]
            uid = metadata["uid"]
            if metadata.get("deletionTimestamp"):
                await self._stop(uid)  # a pod without a node goes at once
            elif metadata["labels"].get(names.LABEL_TENANT) in self.broken:
                continue
            elif uid not in self._processes:
                if (pod.get("status") or {}).get("phase") == "Pending":
                    await self._start(pod)
            elif self._processes[uid].returncode is not None and uid not in self._reported:
                await self._report_exit(pod, self._processes[uid].returncode)

    async def _start(self, pod: Manifest) -> None:
        metadata = pod["metadata"]
        secret_name, module = _PROGRAMS[metadata["labels"][names.LABEL_COMPONENT]]
        secret = await self._api.get(SECRET, secret_name, metadata["namespace"])
        if secret is None:
            return  # a kubelet waits for the volume too
        folder = self._folder / metadata["uid"]
        folder.mkdir(parents=True)
        for name, content in secret["data"].items():
            (folder / name).write_bytes(base64.b64decode(content))
        number = next(_ADDRESSES)
        # Of its own for each test process: several may run on one machine.
        address = f"127.{16 + os.getpid() % 224}.{number // 250}.{number % 250 + 2}"
        arguments = [str(folder) if it == _CERTIFICATES else it for it in pod["spec"]["containers"][0]["args"]]
        with (folder / "log").open("wb") as output:
            self._processes[metadata["uid"]] = process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", module, *arguments),
                *("--listen", address, "--health-port", "8080"),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=output,
                env=dict(os.environ),
                start_new_session=True,
            )
        self.started += 1
        asyncio.create_task(self._when_ready(pod, address, process))  # noqa: RUF006  ends with the process

    async def _when_ready(self, pod: Manifest, address: str, process: asyncio.subprocess.Process) -> None:
        while process.returncode is None:
            try:
                reader, writer = await asyncio.open_connection(address, 8080)
                writer.write(b"GET /readyz HTTP/1.1\r\nHost: pod\r\nConnection: close\r\n\r\n")
                answer = await reader.readline()
                writer.close()
                if b" 200 " in answer:
                    break
            except OSError:
                pass
            await asyncio.sleep(_POLL)
        if process.returncode is None:
            now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
            condition = {"type": "Ready", "status": "True", "lastTransitionTime": now}
            await self._status(
                pod, {"phase": "Running", "podIP": address, "podIPs": [{"ip": address}], "conditions": [condition]}
            )

    async def _report_exit(self, pod: Manifest, code: int | None) -> None:
        """As with restartPolicy Never; a Deployment's pod would be restarted, so its process is started again."""
        uid = pod["metadata"]["uid"]
        if pod["spec"].get("restartPolicy") == "Never":
            self._reported.add(uid)
            await self._status(pod, {"phase": "Succeeded" if code == 0 else "Failed", "conditions": []})
            return
        await self._status(pod, {"phase": "Pending", "conditions": []})
        del self._processes[uid]
        for left in (self._folder / uid).iterdir():
            left.unlink()
        (self._folder / uid).rmdir()

    async def _status(self, pod: Manifest, status: dict[str, Any]) -> None:
        metadata = pod["metadata"]
        with suppress(OperatorError):
            await self._api.patch(
                POD,
                metadata["name"],
                metadata["namespace"],
                {"status": status},
                patch_type=PatchType.MERGE,
                manager="stand-in-kubelet",
                subresource="status",
            )

    async def _stop(self, uid: str) -> None:
        process = self._processes.pop(uid, None)
        if process is not None and process.returncode is None:
            with suppress(ProcessLookupError):
                process.terminate()
            try:
                async with asyncio.timeout(5):
                    await process.wait()
            except TimeoutError:
                process.kill()
                await process.wait()
