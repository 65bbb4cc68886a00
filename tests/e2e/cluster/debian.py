"""Base images from this machine's own Debian package sources, for where there is no registry.

Only the packages that a process needs, unpacked without running their scripts: no shell, no package manager (except where a
program needs a shell), and the security updates of the day they are made. Kept in the cache under a key of the recipe.
"""

import hashlib
import os
import shutil
import subprocess
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from e2e.cluster import addons, archive, packages, paths
from e2e.cluster.errors import BuildFailed
from e2e.cluster.golang import locked
from e2e.cluster.progress import Step, step

_RECIPE: Final = "3"  # change it when the way of unpacking changes
_USERS: Final = paths.REPOSITORY / "docker/passwd"
_MERGED: Final = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")
_UNWANTED: Final = (
    "usr/share/man",
    "usr/share/info",
    "usr/share/locale",
    "usr/share/lintian",
    "usr/share/bash-completion",
)


@dataclass(frozen=True)
class Base:
    """A base image to be made: what is asked for, and what of its dependencies is left out."""

    name: str
    wanted: tuple[str, ...]
    without: tuple[str, ...]

    @property
    def key(self) -> str:
        """Changes when the recipe changes."""
        text = repr((_RECIPE, self.wanted, self.without, addons.architecture(), _release(), _USERS.read_text()))
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    @property
    def reference(self) -> str:
        """The image's name."""
        return f"unjucks.local/{self.name}:{self.key}"

    @property
    def file(self) -> Path:
        """Its archive in the cache."""
        return paths.cache() / "images" / f"{self.name}-{self.key}.tar"


# Left out are programs that only packages' own scripts need. Their libraries stay.
_SCRIPTS_ONLY: Final = ("dpkg", "tar", "debconf", "openssl", "perl-base", "debianutils", "adduser", "passwd", "ucf")
PYTHON: Final = Base("base", ("python3", "ca-certificates", "tzdata", "libstdc++6"), _SCRIPTS_ONLY)
POSTGRES: Final = Base(
    "postgres-base",
    ("postgresql-15", "dash", "libc-bin", "tzdata"),
    # LLVM serves just-in-time compilation, which the evaluation server does not use.
    (
        *_SCRIPTS_ONLY,
        *("libllvm14", "libz3-4", "locales", "libc-l10n", "postgresql-common", "postgresql-client-common"),
        *(
            "perl",
            "perl-modules-5.36",
            "libperl5.36",
            "libjson-perl",
            "ssl-cert",
            "sysvinit-utils",
            "init-system-helpers",
        ),
        *("lsb-base", "libpam-modules", "libpam-modules-bin", "libpam-runtime", "netbase", "sensible-utils"),
    ),
)


REDIS: Final = Base(
    "redis-base",
    ("redis-server", "dash", "libc-bin"),
    (*_SCRIPTS_ONLY, "sysvinit-utils", "init-system-helpers", "lsb-base"),
)


def _release() -> str:
    try:
        lines = Path("/etc/os-release").read_text().splitlines()
    except OSError:
        return ""
    return next((line for line in lines if line.startswith("VERSION_CODENAME=")), "")


def ensure(base: Base) -> Path:
    """The archive of the base image; makes it when it is not there."""
    if base.file.exists():
        return base.file
    packages.ensure(packages.UNPACKING, f"the image {base.name}")
    with locked(base.file.with_name(f"{base.name}.lock"), f"it is making the image {base.name}"):
        if base.file.exists():
            return base.file
        work = base.file.with_name(f".work-{base.name}-{os.getpid()}")
        shutil.rmtree(work, ignore_errors=True)
        try:
            with step(f"making the image {base.name} from Debian packages") as shown:
                _make(base, work, shown)
        finally:
            shutil.rmtree(work, ignore_errors=True)
    return base.file


def _make(base: Base, work: Path, shown: Step) -> None:
    files = _download(base, work, shown)
    root = work / "root"
    for name in _MERGED:
        (root / "usr" / name).mkdir(parents=True)
        (root / name).symlink_to(f"usr/{name}")
    for number, file in enumerate(files, 1):
        shown.detail = f"unpacking {number} of {len(files)}: {file.name.split('_')[0]}"
        _unpack(file, root)
    shown.detail = "writing the archive"
    _finish(root)
    layer = work / "layer.tar"
    _tar(root, layer)
    settings = {"Env": ["PATH=/usr/local/bin:/usr/bin:/bin", "LANG=C.UTF-8"], "User": "65532:65532"}
    archive.write_image(base.file, base.reference, layer, settings, architecture=addons.architecture())


def _download(base: Base, work: Path, shown: Step) -> list[Path]:
    (work / "archives" / "partial").mkdir(parents=True)
    (work / "status").touch()  # as if nothing were installed: so apt names every dependency
    command = [
        "apt-get",
        f"--option=Dir::State::status={work / 'status'}",
        f"--option=Dir::Cache::archives={work / 'archives'}",
        "--option=Dir::Cache::pkgcache=",
        "--option=Dir::Cache::srcpkgcache=",
        "--option=Debug::NoLocking=1",
        "--option=APT::Sandbox::User=root",
        "--yes",
        "--quiet",
        "--no-install-recommends",
        "--download-only",
        "install",
        *base.wanted,
    ]
    shown.detail = "downloading packages"
    result = _run(command)
    if result.returncode != 0:
        shown.detail = "apt-get update"  # no or old package lists
        _run(["apt-get", "update", "--quiet"])
        shown.detail = "downloading packages"
        result = _run(command)
    if result.returncode != 0:
        raise BuildFailed(
            f"apt-get could not download the packages of the image {base.name}:\n{result.stderr.strip()[-2000:]}"
        )
    found = sorted((work / "archives").glob("*.deb"))
    return [file for file in found if file.name.split("_")[0] not in base.without]


def _run(command: list[str]) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)


def _unpack(file: Path, root: Path) -> None:
    with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", file], stdout=subprocess.PIPE) as source:
        result = subprocess.run(
            ["tar", "--extract", "--keep-directory-symlink", f"--directory={root}", "--preserve-permissions"],
            stdin=source.stdout,
            capture_output=True,
            check=False,
        )
    if source.returncode != 0 or result.returncode != 0:
        raise BuildFailed(f"cannot unpack {file.name}: {result.stderr.decode(errors='replace').strip()}")
    # What image scanners read to know the packages.
    described = _run(["dpkg-deb", "--field", str(file)])
    status = root / "var/lib/dpkg/status.d" / file.name.split("_")[0]
    status.parent.mkdir(parents=True, exist_ok=True)
    status.write_text(described.stdout)


def _finish(root: Path) -> None:
    """What the packages' scripts would have done, as far as it matters; and remove what no process reads."""
    for folder in _UNWANTED:
        shutil.rmtree(root / folder, ignore_errors=True)
    for file in (root / "usr/share/doc").rglob("*"):
        if file.is_file() and not file.is_symlink() and file.name != "copyright":  # licences stay
            file.unlink()
    (root / "etc").mkdir(exist_ok=True)
    (root / "etc/passwd").write_text(_USERS.read_text())
    (root / "etc/group").write_text("root:x:0:\nunjucks:x:65532:\nnogroup:x:65534:\n")
    (root / "etc/nsswitch.conf").write_text("passwd: files\ngroup: files\nhosts: files dns\n")
    certificates = sorted((root / "usr/share/ca-certificates").rglob("*.crt"))
    if certificates:
        bundle = root / "etc/ssl/certs/ca-certificates.crt"
        bundle.parent.mkdir(parents=True, exist_ok=True)
        bundle.write_text("".join(file.read_text() for file in certificates))
    for name, mode in {"tmp": 0o1777, "run": 0o755, "proc": 0o755, "sys": 0o755, "dev": 0o755}.items():
        (root / name).mkdir(exist_ok=True)
        (root / name).chmod(mode)


def _tar(root: Path, layer: Path) -> None:
    def plain(entry: tarfile.TarInfo) -> tarfile.TarInfo:
        entry.uid = entry.gid = 0
        entry.uname = entry.gname = ""
        entry.mtime = 0
        return entry

    with tarfile.open(layer, "w", format=tarfile.GNU_FORMAT) as target:
        for name in sorted(os.listdir(root)):
            _add_sorted(target, root / name, name, plain)


def _add_sorted(
    target: tarfile.TarFile, path: Path, name: str, change: Callable[[tarfile.TarInfo], tarfile.TarInfo]
) -> None:
    target.add(path, arcname=name, recursive=False, filter=change)
    if path.is_dir() and not path.is_symlink():
        for child in sorted(os.listdir(path)):
            _add_sorted(target, path / child, f"{name}/{child}", change)


def python_version(file: Path) -> str:
    """The Python version in a base image's archive, for example ``3.11``."""
    with tarfile.open(file) as image:
        layer = next(member for member in image if member.name.endswith(".tar"))
        content = image.extractfile(layer)
        assert content is not None
        with tarfile.open(fileobj=content) as root:
            for entry in root:
                if entry.name.startswith("usr/bin/python3.") and entry.name.count(".") == 1:
                    return entry.name.removeprefix("usr/bin/python")
    raise BuildFailed(f"{file} has no /usr/bin/python3.x")
