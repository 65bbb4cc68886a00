"""Runs inside the image build, as root, without a network: installs wheels that were fetched and checked before.

``dependencies`` makes the virtual environment /app from /build/requirements.txt (hashes required) and /build/wheels;
``own ROLE`` puts our wheel into /app/own and leaves only the packages and commands of that role: the operator's image has no
template engine in it, and the renderer's has no operator. Uses only the standard library; is not part of the final images.
"""

import compileall
import configparser
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path
from py_compile import PycInvalidationMode

APP = Path("/app")
OWN = APP / "own"
PYTHON = APP / "bin/python"
# Parts of dependencies that nothing of ours imports, and that are worth leaving out: the second, asynchronous client of the
# kubernetes package is a third of the operator's image.
UNUSED = ("kubernetes/aio",)
# For each role its packages and its command.
CONTENT = {
    "operator": ({"unjucks_api", "unjucks_operator"}, "unjucks-operator"),
    "renderer": ({"unjucks_api", "unjucks_engine", "unjucks_runtime"}, "unjucks-renderer"),
    "webhooks": ({"unjucks_api", "unjucks_engine", "unjucks_runtime", "unjucks_webhooks"}, "unjucks-webhooks"),
    "courier": ({"unjucks_api", "unjucks_runtime"}, "unjucks-courier"),
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
    for folder in UNUSED:
        shutil.rmtree(site / folder, ignore_errors=True)
    precompile(site)


def own(role: str) -> None:
    """Our own wheel, without what the role must not have. It is pure Python, so unpacking it is installing it."""
    (wheel,) = Path("/build/own").glob("*.whl")
    packages, command = CONTENT[role]
    with zipfile.ZipFile(wheel) as archive:
        names = [n for n in archive.namelist() if n.split("/")[0] in packages or ".dist-info/" in n.split("/")[0] + "/"]
        archive.extractall(OWN, names)
    for package in packages:
        if not (OWN / package).is_dir():
            sys.exit(f"the wheel has no package {package}")
    (metadata,) = OWN.glob("*.dist-info")
    entry_points = configparser.ConfigParser()
    entry_points.read(metadata / "entry_points.txt")
    module, _, function = entry_points["console_scripts"][command].partition(":")
    (OWN / "bin").mkdir()
    script = OWN / "bin" / command
    script.write_text(f"#!{PYTHON}\nimport sys\nfrom {module} import {function}\nsys.exit({function}())\n")
    script.chmod(0o755)
    precompile(OWN)


if __name__ == "__main__":
    dependencies() if sys.argv[1] == "dependencies" else own(sys.argv[2])
