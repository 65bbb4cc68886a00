"""Pools and processes for the renderer's tests."""

import os
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import pytest_asyncio

from support import hostile
from unjucks_operator.renderers.ca import Authority, new_authority
from unjucks_runtime.renderer.workers import WorkerPool

HOSTILE = (sys.executable, "-m", "support.hostile")
ENVIRONMENT = {
    "PYTHONPATH": os.pathsep.join(filter(None, (str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH"))))
}
"""With it the process finds ``support``."""


@pytest.fixture(scope="session")
def authority() -> Authority:
    """An authority that has been there for some time."""
    return new_authority(datetime.now(UTC) - timedelta(days=100))


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def pool() -> AsyncIterator[WorkerPool]:
    """A worker pool whose children do what the test says, under the real confinement."""
    made = WorkerPool(program=hostile.PROGRAM)
    await made.start()
    try:
        yield made
    finally:
        await made.stop()
