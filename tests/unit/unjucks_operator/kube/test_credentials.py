"""Credentials that are loaded again: once for many failures, and never a fault of what is being reconciled."""

import asyncio
import threading

import pytest

from unjucks_operator.errors import InvalidSpec, Unavailable
from unjucks_operator.kube.credentials import CertificateOnly, Reloadable


async def test_many_refusals_load_once() -> None:
    loads: list[int] = []

    def load() -> str:
        loads.append(threading.get_ident())
        return f"Bearer {len(loads)}"

    credentials = Reloadable("Bearer 0", load)
    assert await asyncio.gather(*(credentials.refresh() for _ in range(10))) == [True] * 10
    assert credentials.authorization() == "Bearer 1"
    assert len(loads) == 1
    assert loads[0] != threading.get_ident()  # a plug-in may take seconds
    assert await credentials.refresh()
    assert credentials.authorization() == "Bearer 2"


async def test_the_same_answer_again_is_no_reason_to_try_again() -> None:
    assert not await Reloadable("Bearer same", lambda: "Bearer same").refresh()
    assert not await CertificateOnly().refresh()


async def test_a_kubeconfig_that_broke_meanwhile_is_an_outage() -> None:
    def load() -> str:
        raise InvalidSpec("the kubeconfig x cannot be used: it is gone")

    with pytest.raises(Unavailable, match="it is gone"):
        await Reloadable("Bearer 0", load).refresh()
