"""One control plane, database and stand-in kubelet for each test module; operators are started by the tests."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from e2e.cluster.controlplane import ControlPlane
from support.operator_process import Site, platform


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site(fresh_control_plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Site]:
    """Everything around an operator."""
    async with platform(fresh_control_plane, tmp_path_factory.mktemp("site")) as ready:
        yield ready
