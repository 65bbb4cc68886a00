"""Fixtures of a real control plane: etcd + kube-apiserver + kube-controller-manager, without pods.

- ``control_plane``: one for the whole test session. Tests share it, so they use names of their own.
- ``fresh_control_plane``: a clean one for each test module, for tests that count, restart or break things.
- ``control_plane_factory``: start as many as you like inside one test; they end with the test.
- ``crds``: the CustomResourceDefinitions of ``crds/`` applied to ``control_plane`` and Established.

The programs are built before the first test runs, not inside a test's time limit.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import pytest

from e2e.cluster import golang
from e2e.cluster.controlplane import ControlPlane, Options

CRD_FOLDER: Final = Path(__file__).resolve().parents[2] / "crds"
_FIXTURES: Final = frozenset({"control_plane", "fresh_control_plane", "control_plane_factory"})
ControlPlaneFactory = Callable[..., ControlPlane]


def pytest_collection_finish(session: pytest.Session) -> None:
    """Build the programs when a collected test needs them: 8-10 minutes on a new machine, nothing afterwards."""
    if session.config.option.collectonly or golang.is_built():
        return
    if not any(_FIXTURES & set(getattr(item, "fixturenames", ())) for item in session.items):
        return
    capture = session.config.pluginmanager.getplugin("capturemanager")
    with capture.global_and_fixture_disabled() if capture is not None else ExitStack():
        golang.components()


@pytest.fixture(scope="session")
def control_plane() -> Iterator[ControlPlane]:
    """The control plane that all tests of the session share."""
    with ControlPlane.start() as plane:
        yield plane


@pytest.fixture(scope="module")
def fresh_control_plane() -> Iterator[ControlPlane]:
    """A control plane of the test module's own."""
    with ControlPlane.start() as plane:
        yield plane


@pytest.fixture
def control_plane_factory() -> Iterator[ControlPlaneFactory]:
    """Starts control planes: ``control_plane_factory(audit="Request", controllers=False)``."""
    with ExitStack() as stack:

        def start(**options: object) -> ControlPlane:
            return stack.enter_context(ControlPlane.start(Options(**options)))  # type: ignore[arg-type]

        yield start


@pytest.fixture(scope="session")
def crds(control_plane: ControlPlane) -> list[str]:
    """Names of the product's CRDs, applied to the shared control plane and Established."""
    return control_plane.apply_crds(CRD_FOLDER)
