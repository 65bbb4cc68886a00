"""The shared control plane with the chart's webhook configurations, for one module; processes are started by the tests."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from e2e.cluster.controlplane import ControlPlane
from support.webhooks import WebhookSite, webhooks


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site(control_plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[WebhookSite]:
    """Everything around the processes."""
    async with webhooks(control_plane, tmp_path_factory.mktemp("webhooks")) as ready:
        yield ready
