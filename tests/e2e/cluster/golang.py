"""Builds the Go programs of the cluster once and keeps them in the user's cache, keyed by everything that goes into them.

``components()`` is the one program that is every Kubernetes component (plus the pause program); ``helm()`` is Helm. Needs
only ``go`` and the Go module proxy. Safe when several processes ask at once: one builds, the others wait for it.
"""

import fcntl
import functools
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from e2e.cluster import paths
from e2e.cluster.errors import BuildFailed, MissingPrerequisite
from e2e.cluster.progress import Step, step

KUBERNETES_VERSION: Final = "v1.36.3"
COMPONENTS: Final = (
    "etcd",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "kubelet",
    "kube-proxy",
    "kubectl",
    "coredns",
    "netpol",
)
_LDFLAGS: Final = f"-s -w -X k8s.io/component-base/version.gitVersion={KUBERNETES_VERSION}"
_OLDEST_GO: Final = (1, 21)  # the first one that fetches the toolchain which go.mod asks for
_KEPT_BUILDS: Final = 3


@functools.cache
def go_version() -> str:
    """The version the sources are compiled with, for example ``go1.26.8``."""
    if shutil.which("go") is None:
        raise MissingPrerequisite(
            "go is not installed: install Go 1.21 or newer (https://go.dev/dl) and put it on PATH"
        )
    own = subprocess.run(["go", "env", "GOVERSION"], cwd="/", capture_output=True, text=True, check=False)
    found = re.match(r"go(\d+)\.(\d+)", own.stdout)
    if found is None or (int(found[1]), int(found[2])) < _OLDEST_GO:
        raise MissingPrerequisite(
            f"Go {own.stdout.strip() or 'of an unknown version'} is too old: install Go 1.21 or newer (https://go.dev/dl)"
        )
    # In the module's folder: a newer toolchain that go.mod asks for counts, and is fetched here when missing.
    chosen = subprocess.run(
        ["go", "env", "GOVERSION"], cwd=paths.SOURCES / "go", capture_output=True, text=True, check=False
    )
    if chosen.returncode != 0:
        raise MissingPrerequisite(f"go cannot provide the toolchain that go.mod asks for:\n{chosen.stderr.strip()}")
    return chosen.stdout.strip()


def _key(module: Path, *extra: str) -> str:
    digest = hashlib.sha256()
    for name in sorted(p for p in module.rglob("*") if p.suffix in {".go", ".mod", ".sum"}):
        digest.update(f"{name.relative_to(module)}\0".encode())
        digest.update(hashlib.sha256(name.read_bytes()).digest())
    environment = subprocess.run(["go", "env", "-json", "GOOS", "GOARCH"], capture_output=True, text=True, check=True)
    for text in (go_version(), json.dumps(json.loads(environment.stdout), sort_keys=True), *extra):
        digest.update(text.encode() + b"\0")
    return digest.hexdigest()[:20]


@contextmanager
def locked(path: Path, what: str) -> Iterator[None]:
    """Hold an exclusive lock on ``path``; says so when another process holds it. Released by the kernel if we die."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            with step(f"waiting for another process: {what}"):
                fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _go_build(title: str, module: Path, output: Path, package: str, *flags: str) -> None:
    environment = dict(os.environ)
    environment.pop("GOFLAGS", None)
    # Static programs: they need no C compiler to be built and no C library to run, so pods can use them too (DNS, pause).
    environment["CGO_ENABLED"] = "0"
    command = ["go", "build", "-v", "-trimpath", "-mod=readonly", *flags, "-o", str(output), package]
    tail: deque[str] = deque(maxlen=25)
    with step(title) as shown:
        shown.detail = "resolving modules"
        process = subprocess.Popen(
            command, cwd=module, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        try:
            _follow(process, shown, tail)
        except BaseException:
            process.kill()
            process.wait()
            raise
    if process.returncode != 0:
        raise BuildFailed(f"{' '.join(command)} (in {module}) failed:\n" + "\n".join(tail))


def _follow(process: "subprocess.Popen[str]", shown: Step, tail: "deque[str]") -> None:
    assert process.stdout is not None
    packages = modules = 0
    with process.stdout:
        for line in process.stdout:
            text = line.rstrip()
            tail.append(text)
            if text.startswith("go: downloading"):
                modules += 1
                shown.detail = f"{modules} modules fetched, {text.split()[2]}"
            elif text and not text.startswith("#") and " " not in text:
                packages += 1
                shown.detail = f"{packages} packages compiled, {text}"
    if process.wait() != 0:
        raise BuildFailed("go build failed:\n" + "\n".join(tail))


def _publish(target: Path, work: Path) -> None:
    """Make a finished build visible at once, and forget the oldest ones."""
    os.rename(work, target)
    builds = sorted(target.parent.glob(target.name.rsplit("-", 1)[0] + "-*/"), key=lambda p: p.stat().st_mtime)
    for old in builds[:-_KEPT_BUILDS]:
        if old != target:
            shutil.rmtree(old, ignore_errors=True)


def _build_folder(family: str, key: str) -> Path:
    return paths.cache() / "go" / f"{family}-{key}"


def components_folder() -> Path:
    """Where ``components()`` puts its programs, whether or not they are built already."""
    return _build_folder("kubernetes", _key(paths.SOURCES / "go", _LDFLAGS))


def is_built() -> bool:
    """True when ``components()`` would return at once."""
    return (components_folder() / "pause").exists()


def components() -> Path:
    """The folder with a link per Kubernetes component and the static ``pause``; builds it when it is not there."""
    target = components_folder()
    if (target / "pause").exists():
        return target
    with locked(target.parent / "kubernetes.lock", "it is building the Kubernetes components"):
        if (target / "pause").exists():
            return target
        module = paths.SOURCES / "go"
        work = target.with_name(f".work-{os.getpid()}")
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True)
        try:
            title = f"building Kubernetes {KUBERNETES_VERSION} from Go modules (8-10 minutes the first time)"
            _go_build(title, module, work / "kubernetes", ".", f"-ldflags={_LDFLAGS}")
            _go_build("building the pause program", module, work / "pause", "./pause", "-ldflags=-s -w")
            for name in COMPONENTS:
                (work / name).symlink_to("kubernetes")
            _publish(target, work)
        finally:
            shutil.rmtree(work, ignore_errors=True)
    return target


def _tool(name: str, package: str, module: Path = paths.SOURCES / "tools") -> Path:
    target = _build_folder(name, _key(module, package))
    program = target / name
    if program.exists():
        return program
    with locked(target.parent / f"{name}.lock", f"it is building {name}"):
        if program.exists():
            return program
        work = target.with_name(f".work-{name}-{os.getpid()}")
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True)
        try:
            _go_build(
                f"building {name} from Go modules (a few minutes the first time)",
                module,
                work / name,
                package,
                "-ldflags=-s -w",
            )
            _publish(target, work)
        finally:
            shutil.rmtree(work, ignore_errors=True)
    return program


def helm() -> Path:
    """Helm 3, at the version locked in ``tools/go.mod``; builds it when it is not there."""
    return _tool("helm", "helm.sh/helm/v3/cmd/helm")


def test_servers() -> Path:
    """The OCI registry and the S3 server of tests of sources and outputs; builds them when they are not there."""
    return _tool("servers", ".", paths.REPOSITORY / "tests/support/servers")


def kind() -> Path:
    """kind, at the version locked in ``tools/go.mod``; only asked for where a Docker engine answers."""
    return _tool("kind", "sigs.k8s.io/kind")


if __name__ == "__main__":
    sys.stdout.write(f"{components()}\n")
