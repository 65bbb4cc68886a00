"""Programs that come from Debian packages: installed when we are root, otherwise named with the one line that installs them.

Each part of the tooling asks for what it needs when it needs it. ``python -m e2e.cluster.packages --all`` asks for everything
at once: one line, and no surprise in the middle of a test run.
"""

import argparse
import os
import shutil
import subprocess
import sys
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from e2e.cluster.components import CNI_PLUGIN_FOLDERS
from e2e.cluster.errors import ClusterError, MissingPrerequisite
from e2e.cluster.progress import step

# Package, and what shows that it is there: a program on PATH, a CNI plugin, or a file.
CLUSTER: Final = (
    ("containerd", "containerd"),
    ("runc", "runc"),
    ("containernetworking-plugins", "cni:bridge"),
    ("iptables", "iptables"),
    ("ipset", "ipset"),
    ("conntrack", "conntrack"),
    ("iproute2", "ip"),
    ("util-linux", "nsenter"),
    ("mount", "mount"),
)
IMAGES: Final = (("buildah", "buildah"),)
UNPACKING: Final = (("apt", "apt-get"), ("dpkg", "dpkg-deb"), ("tar", "tar"))
TESTS: Final = (
    ("postgresql", "file:/usr/lib/postgresql/*/bin/postgres"),
    ("pgbouncer", "pgbouncer"),
    ("redis-server", "redis-server"),
    ("procps", "pgrep"),
)
_SBIN: Final = ("/usr/local/sbin", "/usr/sbin", "/sbin")


def extend_path() -> None:
    """System programs are not on everybody's PATH; put their folders there for us and our children."""
    parts = os.environ.get("PATH", "").split(":")
    os.environ["PATH"] = ":".join(parts + [folder for folder in _SBIN if folder not in parts])


def _present(sign: str) -> bool:
    if sign.startswith("cni:"):
        return any((Path(folder) / sign[4:]).exists() for folder in CNI_PLUGIN_FOLDERS)
    if sign.startswith("file:"):
        return any(Path("/").glob(sign.removeprefix("file:/")))
    return shutil.which(sign) is not None


def missing(wanted: Sequence[tuple[str, str]]) -> list[str]:
    """The packages of ``wanted`` that are not there."""
    extend_path()
    return [package for package, sign in wanted if not _present(sign)]


def ensure(wanted: Sequence[tuple[str, str]], purpose: str) -> None:
    """Install what is missing (root on a Debian-like system), or raise MissingPrerequisite with the line that does it."""
    lacking = missing(wanted)
    if not lacking:
        return
    line = f"apt-get install --yes --no-install-recommends {' '.join(lacking)}"
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise MissingPrerequisite(f"{purpose} needs: {', '.join(lacking)}. This line installs it:\n\n    sudo {line}\n")
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    with step(f"installing {' '.join(lacking)}") as shown:
        for command in (["apt-get", "update", "--quiet"], line.split()):
            tail: deque[str] = deque(maxlen=15)
            with subprocess.Popen(
                command,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                text=True,
                env=environment,
            ) as process:
                assert process.stdout is not None
                for output in process.stdout:
                    tail.append(output.rstrip())
                    shown.detail = tail[-1]
            if process.returncode != 0:
                raise MissingPrerequisite(f"`{' '.join(command)}` failed:\n" + "\n".join(tail))
    still = missing(wanted)
    if still:
        raise MissingPrerequisite(f"{purpose} needs {', '.join(still)}, and `{line}` did not provide it")


def require_root(purpose: str) -> None:
    """The node makes namespaces, devices and cgroups; that takes root."""
    if os.geteuid() != 0:
        raise MissingPrerequisite(
            f"{purpose} makes namespaces, network devices and cgroups, which takes root: run it as root (or with sudo), "
            "or start a Docker engine, and kind is used instead"
        )


def main() -> int:
    """Provide the packages of the tests, and of a cluster without Docker where no Docker engine answers."""
    from e2e.cluster.kind import docker_answers  # it needs more imports than the rest of this module

    parser = argparse.ArgumentParser(prog="python -m e2e.cluster.packages", description=main.__doc__)
    parser.add_argument("--all", action="store_true", help="install what is missing; without it, only name it")
    install = parser.parse_args().all
    extend_path()
    wanted = TESTS if docker_answers() else (*CLUSTER, *IMAGES, *UNPACKING, *TESTS)
    if not install:
        print("\n".join(missing(wanted)) or "nothing is missing")
        return 0
    try:
        ensure(wanted, "the test suite")
    except ClusterError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
