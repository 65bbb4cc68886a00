"""A control plane without controllers: nothing writes but the tests, so versions can be compared."""

from collections.abc import Iterator

import pytest

from e2e.cluster.controlplane import ControlPlane, Options


@pytest.fixture(scope="session")
def bare_plane() -> Iterator[ControlPlane]:
    """etcd + kube-apiserver only; shared by the tests of this folder."""
    with ControlPlane.start(Options(controllers=False, audit="")) as plane:
        yield plane
