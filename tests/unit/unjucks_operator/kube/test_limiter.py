"""The token bucket with a clock moved by hand."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.clock import FakeClock, settle
from unjucks_operator.kube.limiter import TokenBucket


async def test_a_burst_goes_at_once_and_the_rest_at_the_rate() -> None:
    clock = FakeClock()
    bucket = TokenBucket(10, 3, clock)
    done: list[tuple[int, float]] = []

    async def one(number: int) -> None:
        await bucket.acquire()
        done.append((number, round(clock.monotonic(), 3)))

    tasks = [asyncio.create_task(one(number)) for number in range(6)]
    await settle()
    assert done == [(0, 0.0), (1, 0.0), (2, 0.0)]
    await clock.advance(1)
    assert done[3:] == [(3, 0.1), (4, 0.2), (5, 0.3)]
    await asyncio.gather(*tasks)


async def test_a_cancelled_waiter_gives_its_token_back() -> None:
    clock = FakeClock()
    bucket = TokenBucket(1, 1, clock)
    assert await bucket.acquire() == 0
    waiter = asyncio.create_task(bucket.acquire())
    await settle()
    waiter.cancel()
    await asyncio.gather(waiter, return_exceptions=True)
    assert bucket.reserve() == pytest.approx(1.0)  # not 2.0


@given(
    rate=st.floats(0.5, 500),
    burst=st.integers(1, 50),
    gaps=st.lists(st.floats(0, 3), min_size=1, max_size=80),
)
def test_never_more_than_burst_plus_rate_times_time(rate: float, burst: int, gaps: list[float]) -> None:
    clock = FakeClock()
    bucket = TokenBucket(rate, burst, clock)
    granted: list[float] = []
    for gap in gaps:
        clock.tick(gap)
        granted.append(clock.monotonic() + bucket.reserve())
    assert granted == sorted(granted)
    for first in range(len(granted)):
        for last in range(first, len(granted)):
            allowed = burst + rate * (granted[last] - granted[first])
            assert last - first + 1 <= allowed + 1e-6


@pytest.mark.parametrize(("rate", "burst"), [(0, 1), (-1, 1), (1, 0)])
def test_a_bucket_that_never_fills_is_refused(rate: float, burst: int) -> None:
    with pytest.raises(ValueError, match="above 0"):
        TokenBucket(rate, burst, FakeClock())
