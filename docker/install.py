"""Runs inside the image build, as root, without a network: installs wheels that were fetched and checked before.

``dependencies`` makes the virtual environment /app from /build/requirements.txt (hashes required) and /build/wheels;
``own ROLE`` puts our wheel into /app/own and leaves only the packages and commands of that role: the operator's image has no
template engine in it, and the renderer's has no operator. Uses only the standard library; is not part of the final images.
"""

import compileall
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from py_compile import PycInvalidationMode

APP = Path("/app")
OWN = APP / "own"
PYTHON = APP / "bin/python"
PACKAGES = {
    "operator": ({"unjucks_api", "unjucks_operator"}, {"unjucks-operator"}),
    "renderer": ({"unjucks_api", "unjucks_engine", "unjucks_runtime"}, {"unjucks-renderer"}),
    "webhooks": ({"unjucks_api", "unjucks_engine", "unjucks_webhooks"}, {"unjucks-webhooks"}),
    "courier": ({"unjucks_api", "unjucks_runtime"}, {"unjucks-courier"}),
}


def pip_install(*arguments: str) -> None:
    """Run pip from its own wheel: nothing of it stays in the environment."""
    (wheel,) = Path("/build/pip").glob("pip-*.whl")
    options = [
        "--no-index",
        "--no-compile",
        "--no-cache-dir",
        "--disable-pip-version-check",
        "--root-user-action=ignore",
    ]
    subprocess.run([PYTHON, f"{wheel}/pip", "install", "--quiet", *options, *arguments], check=True)  # noqa: S603  our own words


def precompile(folder: Path) -> None:
    """Bytecode that is never checked against the source: images do not change, and their file system is read-only."""
    if not compileall.compile_dir(folder, quiet=1, invalidation_mode=PycInvalidationMode.UNCHECKED_HASH):
        sys.exit(f"{folder}: some files do not compile")


def dependencies() -> None:
    """The virtual environment with everything but our own code."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", APP], check=True)  # noqa: S603  our own words
    pip_install(
        "--require-hashes", "--only-binary=:all:", "--find-links=/build/wheels", "--requirement=/build/requirements.txt"
    )
    site = Path(sysconfig.get_path("purelib", "venv", {"base": str(APP), "platbase": str(APP)}))
    (site / "own.pth").write_text(f"{OWN}\n")
    precompile(site)


def own(role: str) -> None:
    """Our own wheel, without what the role must not have."""
    (wheel,) = Path("/build/own").glob("*.whl")
    pip_install("--no-deps", f"--target={OWN}", str(wheel))
    packages, commands = PACKAGES[role]
    for folder in OWN.glob("unjucks_*"):
        if folder.is_dir() and folder.suffix != ".dist-info" and folder.name not in packages:
            shutil.rmtree(folder)
    for command in (OWN / "bin").iterdir():
        if command.name not in commands:
            command.unlink()
    for package in packages:
        if not (OWN / package).is_dir():
            sys.exit(f"the wheel has no package {package}")
    precompile(OWN)


if __name__ == "__main__":
    dependencies() if sys.argv[1] == "dependencies" else own(sys.argv[2])
