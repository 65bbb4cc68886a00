"""What tests and the tooling do with a running apiserver, however it was started: users, kubectl, CRDs, counting writes.

Base class of ``ControlPlane`` and of the full ``Cluster``. Starts and stops nothing itself.
"""

import subprocess
import time
import uuid
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import yaml

from e2e.cluster import audit
from e2e.cluster.client import Answer, Client
from e2e.cluster.pki import Authority, Pair, write_kubeconfig


class ApiAccess:
    """A running apiserver, seen by its administrator."""

    server: str
    authority: Authority
    ca: Path
    admin_pair: Pair
    kubeconfig: Path
    audit_log: Path | None  # None: this apiserver keeps no audit log
    kubectl_program: Path

    @property
    def admin(self) -> Client:
        """A client with all rights."""
        return Client(self.server, self.ca, self.admin_pair)

    def certificate(self, user: str, groups: Sequence[str] = ()) -> Pair:
        """A client certificate for any user with any groups."""
        return self.authority.issue(f"user-{uuid.uuid4().hex[:12]}", user, groups)

    def kubeconfig_for(self, user: str, groups: Sequence[str] = (), *, namespace: str = "default") -> Path:
        """A kubeconfig file of that user; give rights with ordinary RBAC objects."""
        pair = self.certificate(user, groups)
        return write_kubeconfig(pair.key.with_suffix(".kubeconfig"), self.server, self.ca, pair, namespace=namespace)

    def client_for(self, user: str, groups: Sequence[str] = ()) -> Client:
        """A client as that user."""
        return Client(self.server, self.ca, self.certificate(user, groups))

    def kubectl(
        self, *arguments: str, stdin: str | None = None, check: bool = True
    ) -> "subprocess.CompletedProcess[str]":
        """Run kubectl as administrator; output captured as text."""
        result = subprocess.run(
            [str(self.kubectl_program), f"--kubeconfig={self.kubeconfig}", *arguments],
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
        )
        if check and result.returncode != 0:
            raise RuntimeError(f"kubectl {' '.join(arguments)} failed ({result.returncode}): {result.stderr.strip()}")
        return result

    def apply_crds(self, files: Path | Iterable[Path], *, timeout: float = 30.0) -> list[str]:
        """Apply CustomResourceDefinitions (a folder or files) and wait until each is Established and served; their names."""
        chosen = sorted(files.glob("*.yaml")) if isinstance(files, Path) and files.is_dir() else files
        chosen = [chosen] if isinstance(chosen, Path) else list(chosen)
        if not chosen:
            raise FileNotFoundError(f"no CustomResourceDefinition found in {files}")
        documents = [d for file in chosen for d in yaml.safe_load_all(file.read_text()) if d]
        base = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
        for document in documents:
            self.admin.apply(f"{base}/{document['metadata']['name']}", document).require()
        for document in documents:
            name, spec = document["metadata"]["name"], document["spec"]
            self.admin.wait(f"{base}/{name}", _established, timeout=timeout, what=f"{name} Established")
            for version in (v["name"] for v in spec["versions"] if v["served"]):
                path = f"/apis/{spec['group']}/{version}/{spec['names']['plural']}"
                self.admin.wait(path, lambda answer: answer.ok, timeout=timeout, what=f"{name} served")
        return [document["metadata"]["name"] for document in documents]

    # --- audit ------------------------------------------------------------------------------------------------------
    def _audit_log(self) -> Path:
        if self.audit_log is None:
            raise RuntimeError("this apiserver was started without an audit log")
        return self.audit_log

    def audit_mark(self) -> int:
        """The place in the audit log after everything that has been answered up to now; give it to ``writes``."""
        log = self._audit_log()
        # A request of our own, seen in the log, says that what was answered before it is in the log too.
        marker = f"audit-mark/{uuid.uuid4().hex}"
        review = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
        self.admin.request(
            "POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews", review, user_agent=marker
        ).require()
        offset, deadline = 0, time.monotonic() + 10
        while time.monotonic() < deadline:
            for line, after in audit.lines(log, offset):
                offset = after
                if marker in line:
                    return after
            time.sleep(0.02)
        raise TimeoutError("the audit log does not show our own request")

    def writes(self, since: int = 0, *, user: str | None = None, system: bool = False) -> list[audit.Write]:
        """Writes answered since a mark (all by default), of one user or of everybody.

        Without ``system=True`` those of the control plane's own components are left out, so that what remains is ours.
        """
        end = self.audit_mark()
        found = []
        for line, after in audit.lines(self._audit_log(), since):
            if after > end:
                break
            write = audit.parse(line)
            if write is not None and (system or not write.by_system) and user in (None, write.user):
                found.append(write)
        return found


def _established(answer: Answer) -> bool:
    conditions: list[dict[str, Any]] = answer.body.get("status", {}).get("conditions", [])
    return any(c["type"] == "Established" and c["status"] == "True" for c in conditions)
