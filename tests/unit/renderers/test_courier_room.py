"""Large answers of couriers are read a few at a time, whosever they are; small ones are not held up by them."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from typing import Any

import pytest

from unjucks_operator.renderers import courier
from unjucks_operator.renderers.calls import Endpoint
from unjucks_operator.renderers.courier import LARGE_AT_ONCE, LARGE_BYTES, CourierClient


class Answer:
    """Of a pod: as much as the client looks at of aiohttp's own. Bytes come when ``gate`` opens."""

    status = 200

    def __init__(self, size: int | None, gate: asyncio.Event, begun: list["Answer"]) -> None:
        self.headers: dict[str, str] = {}
        self.content_length = size
        self.content: Any = self
        self._gate, self._begun = gate, begun

    async def iter_chunked(self, _: int) -> AsyncIterator[bytes]:
        self._begun.append(self)
        await self._gate.wait()
        yield b"x"


async def client(number: int) -> CourierClient:
    endpoint = Endpoint(f"pod-{number}", "unjucks-courier", "192.0.2.1", f"tenant-{number}")
    return CourierClient(endpoint, ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))


@pytest.mark.parametrize("size", [LARGE_BYTES + 1, None], ids=["declared", "not declared"])
async def test_large_answers_of_all_tenants_come_a_few_at_a_time(size: int | None) -> None:
    gate, begun = asyncio.Event(), list[Answer]()
    clients = [await client(number) for number in range(LARGE_AT_ONCE + 2)]
    reads = [asyncio.create_task(it._read(Answer(size, gate, begun))) for it in clients]  # type: ignore[arg-type]
    for _ in range(10):
        await asyncio.sleep(0)
    assert len(begun) == LARGE_AT_ONCE
    open_gate = asyncio.Event()
    open_gate.set()
    assert await clients[0]._read(Answer(LARGE_BYTES, open_gate, [])) == b"x"  # type: ignore[arg-type]
    gate.set()
    assert await asyncio.gather(*reads) == [b"x"] * len(clients)
    for it in clients:
        await it.close()


async def test_a_large_answer_that_does_not_come_gives_its_place_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(courier, "LARGE_SECONDS", 0.01)
    one = await client(1)
    for _ in range(LARGE_AT_ONCE + 1):
        with pytest.raises(TimeoutError):
            await one._read(Answer(None, asyncio.Event(), []))  # type: ignore[arg-type]
    await one.close()
