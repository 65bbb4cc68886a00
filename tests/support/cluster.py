"""Fixtures of the full cluster, with a real kubelet, real pods and real packets.

- ``cluster``: the running cluster of the test session. One that is up already is used and left up; otherwise it is started
  before the first test, outside of any test's time limit, and removed at the end.
- ``cluster_images``: the product's images, built and loaded; references by name.

The tests have a cluster of their own (``UNJUCKS_TEST_CLUSTER``, default ``unjucks-test``): a demo beside them is not touched.
``UNJUCKS_KEEP_CLUSTER=1`` leaves it up, to look at it or to run the tests again without the wait.
"""

import os
from contextlib import ExitStack
from typing import Final

import pytest

from e2e.cluster import images, provider
from e2e.cluster.errors import ClusterError

NAME: Final = os.environ.get("UNJUCKS_TEST_CLUSTER", "unjucks-test")
_FIXTURES: Final = frozenset({"cluster", "cluster_images"})
_CLUSTER: Final = pytest.StashKey[provider.AnyCluster]()
_OURS: Final = pytest.StashKey[bool]()
_IMAGES: Final = pytest.StashKey[dict[str, images.Image]]()


def pytest_collection_finish(session: pytest.Session) -> None:
    """Start the cluster and load the images when a collected test needs them."""
    if session.config.option.collectonly:
        return
    wanted = {name for item in session.items for name in getattr(item, "fixturenames", ())}
    if not wanted & _FIXTURES:
        return
    capture = session.config.pluginmanager.getplugin("capturemanager")
    with capture.global_and_fixture_disabled() if capture is not None else ExitStack():
        try:
            _prepare(session.config, with_images="cluster_images" in wanted)
        except ClusterError as error:
            raise pytest.UsageError(f"the tests need a cluster: {error}") from error


def _prepare(config: pytest.Config, *, with_images: bool) -> None:
    try:
        running = provider.attach(NAME)
    except ClusterError:
        running = provider.up(NAME)
        config.stash[_OURS] = True
    config.stash[_CLUSTER] = running
    if with_images:
        docker = provider.choose(NAME) == provider.KIND
        config.stash[_IMAGES] = images.load(running, docker=docker)


def pytest_unconfigure(config: pytest.Config) -> None:
    """Remove the cluster if these tests started it."""
    if config.stash.get(_OURS, False) and os.environ.get("UNJUCKS_KEEP_CLUSTER") != "1":
        provider.down(NAME)


@pytest.fixture(scope="session")
def cluster(pytestconfig: pytest.Config) -> provider.AnyCluster:
    """The running cluster."""
    return pytestconfig.stash[_CLUSTER]


@pytest.fixture(scope="session")
def cluster_images(cluster: provider.AnyCluster, pytestconfig: pytest.Config) -> dict[str, str]:
    """References of the loaded images: ``base``, ``operator``, ``renderer``, ``postgres``."""
    return {name: image.reference for name, image in pytestconfig.stash[_IMAGES].items()}
