"""etcd + kube-apiserver + kube-controller-manager on free loopback ports: a real API in a few seconds, no pods.

Several can run at once. RBAC, admission (Pod Security, quota, LimitRange, ValidatingAdmissionPolicy) and the controllers
(namespace deletion, garbage collection, service accounts, Deployments up to Pending pods) are the real ones. Everything ends
with ``stop()``, at interpreter exit, and also when the Python process is killed. Called by ``support.controlplane``.
"""

import atexit
import contextlib
import json
import os
import shutil
import socket
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from e2e.cluster import audit, golang, process
from e2e.cluster.api import ApiAccess
from e2e.cluster.errors import StartFailed
from e2e.cluster.pki import Authority, Pair, write_kubeconfig, write_signing_pair

SERVICE_CIDR: Final = "10.96.0.0/16"
_ATTEMPTS: Final = 3  # a free port may be taken by somebody else before our server binds it
_READY_WITHIN: Final = 90.0  # seconds; usually 3, but machines are shared
_PREFIX: Final = "unjucks-controlplane-"


def free_ports(count: int) -> list[int]:
    """Loopback ports that are free right now, all different."""
    with contextlib.ExitStack() as stack:
        ports = []
        for _ in range(count):
            listener = stack.enter_context(socket.socket())
            listener.bind(("127.0.0.1", 0))
            ports.append(int(listener.getsockname()[1]))
    return ports


def _sweep() -> None:
    """Remove folders that killed processes left behind; their programs ended by themselves."""
    for left in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*-*"):
        pid = left.name.removeprefix(_PREFIX).split("-")[0]
        with contextlib.suppress(OSError):
            if left.stat().st_uid == os.getuid() and not Path(f"/proc/{pid}").exists():
                shutil.rmtree(left, ignore_errors=True)


@dataclass(frozen=True)
class Options:
    """What to start. ``audit`` is "" (no audit log) or a level: Metadata, Request, RequestResponse."""

    controllers: bool = True
    audit: str = "Metadata"
    apiserver_flags: tuple[str, ...] = ()


class ControlPlane(ApiAccess):
    """A running control plane; make one with ``ControlPlane.start()``, end it with ``stop()`` or a ``with`` block."""

    def __init__(self, folder: Path, options: Options) -> None:
        self.folder = folder
        self.options = options
        self.programs = golang.components()
        self.kubectl_program = self.programs / "kubectl"
        self.authority = Authority(folder / "pki")
        self.ca = self.authority.certificate_file
        self.admin_pair = self.authority.issue("admin", "test-admin", ["system:masters"])
        self.kubeconfig = folder / "admin.kubeconfig"
        self.audit_log = folder / "audit.jsonl" if options.audit else None
        self.server = ""
        self.etcd: process.Running | None = None
        self.apiserver: process.Running | None = None
        self.controller_manager: process.Running | None = None
        self._prepare()

    # --- life -------------------------------------------------------------------------------------------------------
    @classmethod
    def start(cls, options: Options | None = None, *, folder: Path | None = None) -> "ControlPlane":
        """Start one and return when it answers /readyz and its controllers work. The folder is removed by ``stop()``."""
        _sweep()
        place = folder or Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-"))
        plane = cls(place, options or Options())
        atexit.register(plane.stop)
        try:
            plane._run()
        except BaseException:
            plane.stop()
            raise
        return plane

    def __enter__(self) -> "ControlPlane":
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """End all components and remove the folder; does nothing the second time."""
        atexit.unregister(self.stop)
        self._stop_components()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _stop_components(self) -> None:
        process.stop_all([one for one in (self.etcd, self.apiserver, self.controller_manager) if one is not None])
        self.etcd = self.apiserver = self.controller_manager = None

    def _prepare(self) -> None:
        pki = self.folder / "pki"
        self.authority.issue(
            "apiserver",
            "kube-apiserver",
            sans=["127.0.0.1", "10.96.0.1", "localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc"],
        )
        self.authority.issue("controller-manager", "system:kube-controller-manager")
        write_signing_pair(pki / "sa.key", pki / "sa.pub")
        (self.folder / "audit-policy.json").write_text(json.dumps(audit.policy(self.options.audit or "Metadata")))

    def _run(self) -> None:
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                self._run_once()
                return
            except StartFailed:
                self._stop_components()
                if attempt == _ATTEMPTS:
                    raise
                shutil.rmtree(self.folder / "etcd", ignore_errors=True)

    def _run_once(self) -> None:
        etcd_port, self._port = free_ports(2)
        self._etcd_url = f"http://127.0.0.1:{etcd_port}"
        self.server = f"https://127.0.0.1:{self._port}"
        write_kubeconfig(self.kubeconfig, self.server, self.ca, self.admin_pair)
        self.start_etcd()
        self.start_apiserver()
        if self.options.controllers:
            self.start_controller_manager()

    def start_etcd(self) -> None:
        """Start etcd (again) on the same data and port."""
        self.etcd = process.start(
            "etcd",
            [
                self.programs / "etcd",
                f"--data-dir={self.folder / 'etcd'}",
                f"--listen-client-urls={self._etcd_url}",
                f"--advertise-client-urls={self._etcd_url}",
                "--listen-peer-urls=http://127.0.0.1:0",
                "--unsafe-no-fsync",  # the data need not survive a power cut
                "--log-level=warn",
            ],
            self.folder / "etcd.log",
        )

    def start_apiserver(self) -> None:
        """Start the apiserver (again) on the same port, and wait until it is ready: for tests that restart it."""
        pki = self.folder / "pki"
        flags: list[str | Path] = [
            f"--etcd-servers={self._etcd_url}",
            f"--secure-port={self._port}",
            "--bind-address=127.0.0.1",
            "--advertise-address=127.0.0.1",
            "--endpoint-reconciler-type=none",  # a loopback address is no valid endpoint, and nobody needs one here
            f"--tls-cert-file={pki / 'apiserver.crt'}",
            f"--tls-private-key-file={pki / 'apiserver.key'}",
            f"--client-ca-file={self.ca}",
            f"--service-account-key-file={pki / 'sa.pub'}",
            f"--service-account-signing-key-file={pki / 'sa.key'}",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-cluster-ip-range={SERVICE_CIDR}",
            "--authorization-mode=Node,RBAC",
            "--enable-admission-plugins=NodeRestriction",
            "--allow-privileged=true",
            "--profiling=false",
        ]
        if self.audit_log is not None:
            flags += [
                f"--audit-policy-file={self.folder / 'audit-policy.json'}",
                f"--audit-log-path={self.audit_log}",
                "--audit-log-mode=blocking",
                "--audit-log-maxsize=4000",  # megabytes: never rotated, so offsets stay valid
            ]
        command = [self.programs / "kube-apiserver", *flags, *self.options.apiserver_flags]
        self.apiserver = process.start("kube-apiserver", command, self.folder / "kube-apiserver.log")
        self.wait_ready()

    def start_controller_manager(self) -> None:
        """Start the controllers (again) and wait until they work: they have made the default service account."""
        pair = Pair(self.folder / "pki/controller-manager.crt", self.folder / "pki/controller-manager.key")
        kubeconfig = write_kubeconfig(self.folder / "controller-manager.kubeconfig", self.server, self.ca, pair)
        self.controller_manager = process.start(
            "kube-controller-manager",
            [
                self.programs / "kube-controller-manager",
                f"--kubeconfig={kubeconfig}",
                f"--authentication-kubeconfig={kubeconfig}",
                f"--authorization-kubeconfig={kubeconfig}",
                "--leader-elect=false",
                "--secure-port=0",
                "--use-service-account-credentials",
                f"--root-ca-file={self.ca}",
                f"--service-account-private-key-file={self.folder / 'pki/sa.key'}",
                f"--cluster-signing-cert-file={self.ca}",
                f"--cluster-signing-key-file={self.authority.key_file}",
                "--kube-api-qps=200",
                "--kube-api-burst=400",
            ],
            self.folder / "kube-controller-manager.log",
        )
        self._wait("/api/v1/namespaces/default/serviceaccounts/default", 200, self.controller_manager)

    def restart_controller_manager(self) -> None:
        """End the controllers, when they run, and start them anew."""
        if self.controller_manager is not None:
            process.stop_all([self.controller_manager])
            self.start_controller_manager()

    def wait_ready(self) -> None:
        """Wait until the apiserver answers /readyz with success."""
        assert self.apiserver is not None
        self._wait("/readyz", 200, self.apiserver)
        self._wait("/api/v1/namespaces/default", 200, self.apiserver)

    def _wait(self, path: str, status: int, program: process.Running) -> None:
        deadline = time.monotonic() + _READY_WITHIN
        while True:
            program.require_alive()
            if self.etcd is not None:
                self.etcd.require_alive()
            with contextlib.suppress(OSError):
                if self.admin.get(path).status == status:
                    return
            if time.monotonic() > deadline:
                end = process.tail(program.log)
                raise StartFailed(
                    f"{program.name}: {path} not {status} within {_READY_WITHIN:.0f} s; its log ends:\n{end}"
                )
            time.sleep(0.1)
