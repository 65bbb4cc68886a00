"""What an image build is given: hash-checked wheels of the locked dependencies, our own wheel, and the files of ``docker/``.

Everything that needs a network happens here, on the host, once per lock file; the build itself has no network. ``context()``
fills the folder that ``docker build`` or ``buildah build`` gets.
"""

import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections import deque
from pathlib import Path
from typing import Final

from e2e.cluster import addons, paths
from e2e.cluster.errors import BuildFailed, MissingPrerequisite
from e2e.cluster.golang import locked
from e2e.cluster.progress import step

ROLES: Final = ("operator", "renderer", "webhooks", "courier")
SOURCE_ROOTS: Final = ("operator", "runtime", "webhooks")
# Wheels are chosen for the image's Python and C library, not for the host's: Debian 12 has glibc 2.36.
_NEWEST_GLIBC: Final = 36
_MACHINES: Final = {"amd64": "x86_64", "arm64": "aarch64"}


def _platforms() -> list[str]:
    machine = _MACHINES.get(addons.architecture(), addons.architecture())
    names = [f"manylinux_2_{minor}_{machine}" for minor in range(_NEWEST_GLIBC, 4, -1)]
    return [*names, f"manylinux2014_{machine}", f"manylinux2010_{machine}", f"manylinux1_{machine}", f"linux_{machine}"]


def snapshot(target: Path) -> Path:
    """A copy of the product's sources: what is built and what it is named after are the same, while people save files."""
    shutil.rmtree(target, ignore_errors=True)
    ignore = shutil.ignore_patterns("__pycache__", "*.pyc", "*.egg-info")
    for name in (*SOURCE_ROOTS, "docker", "requirements"):
        shutil.copytree(paths.REPOSITORY / name, target / name, ignore=ignore)
    for name in ("pyproject.toml", "README.md", "Dockerfile"):
        shutil.copy(paths.REPOSITORY / name, target)
    return target


def _pip_requirement(source: Path) -> str:
    """The line of the locked developer tools that names pip, with its hashes."""
    found = re.search(r"^pip==(?:.*\\\n)*.*$", (source / "requirements/dev.txt").read_text(), re.MULTILINE)
    if found is None:
        raise BuildFailed("requirements/dev.txt does not lock pip, which the image build installs the wheels with")
    return found[0] + "\n"


def _download(title: str, requirements: str, python: str) -> Path:
    """A folder with the wheels of these locked requirements; fetched when it is not there."""
    # What depends on the patch version of Python is fetched in any case: pip asks about ours, and the image's is another.
    requirements = re.sub(r" ; python_full_version [^\\\n]*", " ", requirements)
    key = hashlib.sha256("\0".join((requirements, python, *_platforms())).encode()).hexdigest()[:16]
    target = paths.cache() / "wheels" / key
    if target.exists():
        return target
    with locked(target.with_name(f"{key}.lock"), f"it is fetching {title}"):
        if target.exists():
            return target
        work = target.with_name(f".work-{key}-{os.getpid()}")
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True)
        try:
            _pip_download(title, requirements, python, work)
            work.rename(target)
        finally:
            shutil.rmtree(work, ignore_errors=True)
    return target


def _pip_download(title: str, requirements: str, python: str, folder: Path) -> None:
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.write(requirements)
        file.flush()
        command = [
            sys.executable,
            "-m",
            "pip",
            "download",
            "--disable-pip-version-check",
            "--no-deps",
            "--require-hashes",
        ]
        command += ["--only-binary=:all:", f"--python-version={python}", "--implementation=cp"]
        command += [f"--platform={name}" for name in _platforms()]
        _run(f"fetching {title}", [*command, f"--dest={folder}", f"--requirement={file.name}"])


def _run(
    title: str, command: list[str], *, folder: Path = Path("/"), environment: dict[str, str] | None = None
) -> None:
    tail: deque[str] = deque(maxlen=20)
    with (
        step(title) as shown,
        subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            text=True,
            env=os.environ | (environment or {}),
            cwd=folder,
        ) as process,
    ):
        assert process.stdout is not None
        for line in process.stdout:
            tail.append(line.rstrip())
            shown.detail = line.strip()
        if process.wait() != 0:
            raise BuildFailed(f"{title} failed:\n" + "\n".join(tail))


def source_digest(source: Path, packages: dict[str, set[str]] | None = None) -> str:
    """A digest of our Python sources; of the named packages of each source root only, when given."""
    digest = hashlib.sha256()
    for root in SOURCE_ROOTS:
        for package in sorted(p for p in (source / root).glob("unjucks_*") if p.is_dir()):
            if packages is not None and package.name not in packages.get(root, set()):
                continue
            for file in sorted(p for p in package.rglob("*") if p.is_file()):
                digest.update(f"{file.relative_to(source)}\0".encode())
                digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()


def own_wheel(source: Path) -> Path:
    """A folder with our own wheel; built again only when a source or ``pyproject.toml`` changed."""
    project = (source / "pyproject.toml").read_bytes() + (source / "README.md").read_bytes()
    key = hashlib.sha256(source_digest(source).encode() + project).hexdigest()[:16]
    folder = paths.cache() / "wheels" / "own"
    target = folder / key
    if target.exists():
        return target
    if importlib.util.find_spec("hatchling") is None:
        raise MissingPrerequisite(
            "hatchling is not in this Python: `make venv` (or pip install -r requirements/dev.txt)"
        )
    with locked(folder / "lock", "it is building our wheel"):
        if target.exists():
            return target
        work = folder / f".work-{os.getpid()}"
        shutil.rmtree(work, ignore_errors=True)
        try:
            _run(
                "building our wheel",
                [sys.executable, "-m", "hatchling", "build", "--target=wheel", f"--directory={work}"],
                folder=source,
                environment={"SOURCE_DATE_EPOCH": "315532800"},
            )
            work.rename(target)
        finally:
            shutil.rmtree(work, ignore_errors=True)
        for old in sorted((p for p in folder.iterdir() if p.is_dir()), key=lambda p: p.stat().st_mtime)[:-5]:
            shutil.rmtree(old, ignore_errors=True)
    return target


def context(source: Path, target: Path, python: str) -> Path:
    """Fill ``target`` with everything the Dockerfile copies; unchanged files keep their place in the build's layer cache."""
    shutil.rmtree(target, ignore_errors=True)
    (target / "requirements").mkdir(parents=True)
    parts = {"pip": _download("pip for the image build", _pip_requirement(source), python), "own": own_wheel(source)}
    for role in ROLES:
        lock = source / "requirements" / f"{role}.txt"
        parts[role] = _download(f"wheels of the {role}", lock.read_text(), python)
        shutil.copy(lock, target / "requirements")
    for name, part in parts.items():
        shutil.copytree(part, target / "wheels" / name)
    shutil.copytree(source / "docker", target / "docker")
    shutil.copy(source / "Dockerfile", target)
    for file in target.rglob("*"):  # times are part of a layer's cache key
        os.utime(file, (0, 0))
    return target
