"""An operator's hand on PostgreSQL as a process of its own that ends by SIGKILL at a chosen step of a move.

    start(dsn, prefix, uid, name, target, step, journal)        a process; ``exitcode`` is -9 when it came to the step

It takes up whatever move of that tenant is under way, like an operator after a restart (``ensure``, then ``move`` until the rows
are where they shall be), then moves them to ``target`` and kills itself when it comes to ``step``. With a step that does not exist
it ends with 0. Each step that it comes to is a line of the file ``journal``. Forked from a server that imported everything once, so
that eighteen of them take seconds. Called by tests/integration/database/test_move_killed.py only.
"""

import asyncio
import multiprocessing
import os
import signal
from multiprocessing.process import BaseProcess
from pathlib import Path

from unjucks_operator import errors
from unjucks_operator.config import Config
from unjucks_operator.database import move
from unjucks_operator.database.homes import Homes
from unjucks_operator.database.pool import Database


def start(*arguments: str) -> BaseProcess:
    """See the module's text."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    process = context.Process(target=_main, args=arguments, daemon=True)
    process.start()
    return process


def _main(*arguments: str) -> None:
    asyncio.run(_run(*arguments))


async def _run(dsn: str, prefix: str, uid: str, name: str, target: str, step: str, journal: str) -> None:
    """Finish, then move."""
    move.BATCH_ROWS = 50  # type: ignore[misc]  # small tables have several batches too
    armed = False

    async def checkpoint(where: str) -> None:
        with Path(journal).open("a", encoding="utf-8") as file:
            file.write(where + "\n")
        if armed and where == step:
            os.kill(os.getpid(), signal.SIGKILL)

    async with Database(dsn, prefix=prefix) as platform:
        homes = Homes(platform, Config())
        homes.mover._checkpoint = checkpoint
        state = await homes.ensure(uid, name)
        if state.move_to is not None:
            await _arrive(homes, uid, name, state.move_to.value.capitalize())
        armed = True
        await _arrive(homes, uid, name, target)
        await homes.close()


async def _arrive(homes: Homes, uid: str, name: str, target: str) -> None:
    while True:
        try:
            state = await homes.move(uid, name, target)
        except (errors.Retryable, errors.Waiting):
            await asyncio.sleep(0.05)
            continue
        if state.move_phase is None and state.home == target.lower():
            return
