"""Every layer of the confinement by itself, the check of it at the start, and all of it as the plain user of a pod."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from support import renderer as support
from support.renderer import running_renderer, write_certificates
from unjucks_api.reasons import Reason
from unjucks_api.render_protocol import AnalyzeRequest, Limits
from unjucks_operator.renderers.ca import Authority
from unjucks_operator.renderers.certificates import Leaf
from unjucks_runtime.renderer import syscalls

from .conftest import ENVIRONMENT
from .test_server import TREE, UID, connected, refused, request, sources

ALL = {
    "open a file",
    "list a folder",
    "create a file",
    "make a TCP socket",
    "make a UDP socket",
    "make a UNIX socket",
    "duplicate a descriptor",
    "signal its parent",
    "change its parent's limits",
    "start a process",
}
FILES = {"open a file", "list a folder", "create a file"}
SOCKETS = {"make a TCP socket", "make a UDP socket", "make a UNIX socket"}
CODE = """
import resource, sys
from unjucks_runtime.renderer import confinement, seccomp, syscalls
import socket
syscalls.prctl(syscalls.PR_SET_NO_NEW_PRIVS, 1)
if "descriptors" in sys.argv[1:]:
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, 0))
if "landlock" in sys.argv[1:]:
    assert confinement._landlock() > 0
if "seccomp" in sys.argv[1:]:
    syscalls.install_seccomp(seccomp.program(syscalls.MACHINE))
import os


def no_exec(*_):
    raise OSError  # it would end the probe


os.execve = no_exec
found = confinement.probe(sys.argv[-1])
os.write(1, "\\n".join(found).encode())
os._exit(0)
"""


def probe(layer: str, bait: Path) -> set[str]:
    """What a process with that one layer can still do. Running a program is left out."""
    done = subprocess.run(
        [sys.executable, "-c", CODE, layer, str(bait)], capture_output=True, check=True, cwd=bait.parent, timeout=20
    )
    return set(done.stdout.decode().split("\n")) - {""}


def test_without_any_layer_everything_works(tmp_path: Path) -> None:
    """The probe finds something when there is something to be found."""
    bait = tmp_path / "tls.key"
    bait.write_text("key")
    assert probe("none", bait) >= FILES | SOCKETS | {"start a process", "signal its parent"}


@pytest.mark.parametrize(
    ("layer", "denied"),
    [
        ("descriptors", FILES | SOCKETS | {"duplicate a descriptor"}),
        ("landlock", FILES),
        ("seccomp", ALL),
    ],
)
@pytest.mark.isolation("T-renderer-confinement")
def test_each_layer_alone_keeps_the_key(layer: str, denied: set[str], tmp_path: Path) -> None:
    if layer == "landlock" and syscalls.landlock_version() < 1:
        pytest.skip("this kernel has no Landlock")
    bait = tmp_path / "tls.key"
    bait.write_text("key")
    assert probe(layer, bait) & denied == set()


async def test_a_renderer_whose_children_are_not_confined_does_not_serve(authority: Authority, tmp_path: Path) -> None:
    program = (sys.executable, "-m", "support.lax")
    with pytest.raises(RuntimeError, match=r"ended with 78.*not confined: one could open a file"):
        async with running_renderer(UID, authority, tmp_path, program=program, environment=ENVIRONMENT):
            pytest.fail("it must not serve")


SYSTEM_PYTHON = Path("/usr/bin/python3")


def same_version() -> bool:
    if not SYSTEM_PYTHON.exists():
        return False
    code = "import sys; print('%d.%d' % sys.version_info[:2])"
    said = subprocess.run([SYSTEM_PYTHON, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    return said == f"{sys.version_info[0]}.{sys.version_info[1]}"


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
@pytest.mark.skipif(not same_version(), reason="no system Python of this version that a plain user may run")
async def test_as_a_plain_user_without_any_capability(authority: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a pod: no capability, nothing to be gained, files of the mounted Secret readable by the process' group."""

    def written_for_the_user(folder: Path, leaf: Leaf) -> None:
        write_certificates(folder, leaf)
        for path in (folder, *folder.iterdir()):
            os.chown(path, 65532, 65532)

    monkeypatch.setattr(support, "write_certificates", written_for_the_user)
    user = ("setpriv", "--reuid=65532", "--regid=65532", "--clear-groups", "--bounding-set=-all", "--no-new-privs")
    environment = {"PYTHONPATH": os.pathsep.join(path for path in (*sys.path, ENVIRONMENT["PYTHONPATH"]) if path)}
    with tempfile.TemporaryDirectory() as name:  # pytest's own folders are closed to other users
        Path(name).chmod(0o755)
        async with (
            running_renderer(
                UID,
                authority,
                Path(name),
                program=(*user, str(SYSTEM_PYTHON), "-m", "support.hostile"),
                environment=environment,
            ) as renderer,
            connected(renderer, authority) as client,
        ):
            assert "Uid:\t65532" in Path(f"/proc/{renderer.pid}/status").read_text()
            assert not any(entry.get("level") == "warning" for entry in renderer.logs)
            assert len((await client.analyze(AnalyzeRequest(files=sources(TREE)))).actions) == 1
            for _ in range(4):
                assert len((await client.render(request())).files) == 2
            for do in (
                "fork",
                "thread",
                "exec",
                "unlimit",
                f"read {renderer.certificates}/tls.key",
                f"kill {renderer.pid}",
            ):
                assert (await client.render(request(do))).messages == ["denied"], do
            error = await refused(client.render(request("grow", limits=Limits(memory_bytes=64 << 20))))
            assert error.reason is Reason.LIMIT_EXCEEDED
            assert await renderer.terminate() == 0
