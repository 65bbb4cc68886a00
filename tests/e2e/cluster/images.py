"""Container images of the product, built from the real Dockerfile and named after their content.

An image's tag is a digest of everything that goes into it, so an unchanged image is neither built nor loaded again, and a
changed one is a new name that a Deployment notices. With a Docker engine ``docker build`` is used, otherwise buildah (chroot
isolation, its own storage in our cache) on base images made from Debian packages.
"""

import hashlib
import json
import os
import shutil
import subprocess
import tomllib
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

from e2e.cluster import addons, debian, packages, paths, wheels
from e2e.cluster.errors import BuildFailed
from e2e.cluster.golang import locked
from e2e.cluster.progress import step

REGISTRY: Final = "unjucks.local"  # resolves nowhere: images are loaded, never pulled
NAMES: Final = ("base", "operator", "renderer", "webhooks", "courier", "postgres", "redis")
_BASES: Final = {"postgres": debian.POSTGRES, "redis": debian.REDIS}  # the others stand on Python
_DOCKER_PYTHON: Final = "3.11"  # of the Dockerfile's default BASE_IMAGE
_KEPT: Final = 3
_MOST_LAYERS: Final = 200  # then buildah's storage is emptied; the next build is a cold one, about a minute
# Which packages are in which image; docker/install.py removes the others.
_CONTENT: Final[dict[str, dict[str, set[str]]]] = {
    "operator": {"operator": {"unjucks_api", "unjucks_operator"}},
    "renderer": {"operator": {"unjucks_api"}, "runtime": {"unjucks_engine", "unjucks_runtime"}},
    "webhooks": {
        "operator": {"unjucks_api"},
        "runtime": {"unjucks_engine", "unjucks_runtime"},
        "webhooks": {"unjucks_webhooks"},
    },
    "courier": {"operator": {"unjucks_api"}, "runtime": {"unjucks_runtime"}},
}


@dataclass(frozen=True)
class Image:
    """A built image: its name in a cluster, and the archive it is loaded from."""

    name: str
    reference: str
    archive: Path


class Node(Protocol):
    """The part of a cluster that images need."""

    def images(self) -> set[str]: ...

    def load_image(self, file: Path) -> None: ...


def _key(source: Path, name: str, base: str) -> str:
    """Digest of everything that decides the image's content."""
    digest = hashlib.sha256()

    def add(label: str, content: bytes) -> None:
        digest.update(f"{label}\0{len(content)}\0".encode() + content)

    add("base", base.encode())
    add("dockerfile", (source / "Dockerfile").read_bytes())
    for file in sorted(p for p in (source / "docker").rglob("*") if p.is_file()):
        if (file.name == "install.py") == (
            name in _CONTENT
        ):  # our processes are installed; postgres has the other files
            add(str(file.relative_to(source)), file.read_bytes())
    if name in _CONTENT:
        project = tomllib.loads((source / "pyproject.toml").read_text())["project"]
        add("project", json.dumps(project, sort_keys=True).encode())
        add("requirements", (source / "requirements" / f"{name}.txt").read_bytes())
        add("sources", wheels.source_digest(source, _CONTENT[name]).encode())
    return digest.hexdigest()[:12]


def _image(source: Path, name: str, *, docker: bool) -> Image:
    if name == "base" and not docker:
        return Image(name, debian.PYTHON.reference, debian.PYTHON.file)
    debian_base = _BASES.get(name, debian.PYTHON)
    key = _key(source, name, f"dockerfile:{addons.architecture()}" if docker else debian_base.key)
    reference = f"{REGISTRY}/unjucks-{name}:{key}"
    return Image(name, reference, paths.cache() / "images" / f"{name}-{key}.tar")


def _work(name: str) -> Path:
    return paths.cache() / "images" / f".{name}-{os.getpid()}"


def build(names: Iterable[str] = (), *, docker: bool = False) -> dict[str, Image]:
    """Build images (all by default) that are not in the cache yet."""
    if not docker:
        packages.ensure(packages.UNPACKING, "building images without Docker")
    source = wheels.snapshot(_work("source"))
    try:
        chosen = {name: _image(source, name, docker=docker) for name in (list(names) or NAMES)}
        if not all(image.archive.exists() for image in chosen.values()):
            _build_all(source, chosen, docker=docker)
    finally:
        shutil.rmtree(source, ignore_errors=True)
    return chosen


def _build_all(source: Path, chosen: dict[str, Image], *, docker: bool) -> None:
    if not docker:
        packages.ensure(packages.IMAGES, "building images without Docker")
        packages.require_root("building images without Docker")
    with locked(paths.cache() / "images" / "build.lock", "it is building images"):
        _trim_storage()
        try:
            for image in chosen.values():
                if not image.archive.exists():
                    _build_one(source, image, docker=docker)
        finally:
            shutil.rmtree(_work("context"), ignore_errors=True)


def _build_one(source: Path, image: Image, *, docker: bool) -> None:
    if image.name == "base" and not docker:
        debian.ensure(debian.PYTHON)
        return
    python = _DOCKER_PYTHON if docker else debian.python_version(debian.ensure(debian.PYTHON))
    folder = wheels.context(source, _work("context"), python)
    if docker:
        _docker_build(image, folder)
    else:
        _buildah_build(image, folder)
    old = sorted(image.archive.parent.glob(f"{image.name}-*.tar"), key=lambda p: p.stat().st_mtime)
    for file in old[:-_KEPT]:
        file.unlink(missing_ok=True)


def context(target: Path, *, python: str = _DOCKER_PYTHON) -> Path:
    """Fill a folder that ``docker build`` can be given."""
    source = wheels.snapshot(_work("source"))
    try:
        return wheels.context(source, target, python)
    finally:
        shutil.rmtree(source, ignore_errors=True)


def _version() -> str:
    project: dict[str, Any] = tomllib.loads((paths.REPOSITORY / "pyproject.toml").read_text())["project"]
    return str(project["version"])


def _docker_build(image: Image, folder: Path) -> None:
    command = ["docker", "build", "--target", image.name, "--tag", image.reference, f"--build-arg=VERSION={_version()}"]
    _run(f"building the image {image.name} with docker", [*command, str(folder)])
    work = image.archive.with_name(f".{image.archive.name}")
    _run(f"saving the image {image.name}", ["docker", "save", "--output", str(work), image.reference])
    work.rename(image.archive)


def _buildah(*arguments: str) -> list[str]:
    """buildah with storage of its own, in namespaces of its own.

    Its storage leaves mounts behind, which go with the mount namespace; and the network namespace has no way out, so a build
    that would fetch something fails here ("host" network, the only one for chroot isolation, is that empty namespace).
    """
    storage = paths.cache() / "buildah"
    (storage / "run").mkdir(parents=True, exist_ok=True)
    policy = storage / "policy.json"
    policy.write_text('{"default": [{"type": "insecureAcceptAnything"}]}')  # only archives that we wrote are read
    options = [f"--root={storage / 'root'}", f"--runroot={storage / 'run'}", f"--storage-driver={_driver(storage)}"]
    first, *rest = arguments
    flags = [f"--signature-policy={policy}"] if first in ("build", "pull", "push") else []
    return ["unshare", "--mount", "--net", "--", "buildah", *options, first, *flags, *rest]


def _driver(storage: Path) -> str:
    kind = subprocess.run(
        ["stat", "-f", "-c", "%T", str(storage)], capture_output=True, text=True, check=True
    ).stdout.strip()
    return "vfs" if kind == "overlayfs" else "overlay"


def _trim_storage() -> None:
    """Every changed build leaves layers in buildah's storage; start afresh now and then."""
    layers = paths.cache() / "buildah" / "root" / "overlay"
    if layers.is_dir() and len(os.listdir(layers)) > _MOST_LAYERS:
        with step("emptying the image build cache"):
            subprocess.run(["rm", "-rf", "--one-file-system", str(paths.cache() / "buildah")], check=True)


def _buildah_build(image: Image, folder: Path) -> None:
    base = _BASES.get(image.name, debian.PYTHON)
    archive = debian.ensure(base)
    known = subprocess.run(_buildah("images", "--quiet", base.reference), capture_output=True, text=True, check=False)
    if known.returncode != 0 or not known.stdout.strip():
        _run(f"reading the image {base.name}", _buildah("pull", "--quiet", f"docker-archive:{archive}"))
    command = _buildah(
        *("build", "--isolation=chroot", "--network=host", "--layers", "--pull-never", "--format=docker"),
        *("--timestamp=0", f"--target={image.name}", f"--tag={image.reference}"),
        f"--build-arg=BASE_IMAGE={debian.PYTHON.reference}",
        f"--build-arg=POSTGRES_BASE_IMAGE={debian.POSTGRES.reference}",
        f"--build-arg=REDIS_BASE_IMAGE={debian.REDIS.reference}",
        f"--build-arg=VERSION={_version()}",
        str(folder),
    )
    _run(f"building the image {image.name} with buildah", command)
    work = image.archive.with_name(f".{image.archive.name}")
    work.unlink(missing_ok=True)
    _run(f"saving the image {image.name}", _buildah("push", "--quiet", image.reference, f"docker-archive:{work}"))
    work.rename(image.archive)


def _run(title: str, command: list[str]) -> None:
    tail: deque[str] = deque(maxlen=25)
    with (
        step(title) as shown,
        subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            text=True,
            env=os.environ | {"BUILDAH_ISOLATION": "chroot", "TMPDIR": str(_temporary())},
        ) as process,
    ):
        assert process.stdout is not None
        for line in process.stdout:
            tail.append(line.rstrip())
            shown.detail = line.strip()
        if process.wait() != 0:
            raise BuildFailed(f"{title} failed: {' '.join(command)}\n" + "\n".join(tail))


def _temporary() -> Path:
    folder = paths.cache() / "images" / "tmp"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def load(node: Node, names: Iterable[str] = (), *, docker: bool = False) -> dict[str, Image]:
    """Build what is not built, load what is not loaded; the images by name."""
    built = build(names, docker=docker)
    present = node.images()
    for image in built.values():
        if image.reference not in present:
            with step(f"loading {image.reference}"):
                node.load_image(image.archive)
    return built


def forget() -> None:
    """Remove all built images and buildah's storage from the cache."""
    for name in ("images", "buildah", "wheels"):
        shutil.rmtree(paths.cache() / name, ignore_errors=True)
