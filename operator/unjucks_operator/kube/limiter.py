"""A token bucket on the client's side, so that a storm of our own never becomes the API server's problem.

Knows nothing about requests. Used by ``kube.client`` before every request except watches and the lease.
"""

from unjucks_operator.engine.clock import Clock


class TokenBucket:
    """``rate`` requests per second on average, ``burst`` of them at once. Waiters are served in the order in which they came."""

    def __init__(self, rate: float, burst: int, clock: Clock) -> None:
        if rate <= 0 or burst < 1:
            raise ValueError(f"a rate above 0 and a burst of at least 1 are needed, not {rate} and {burst}")
        self._rate = rate
        self._burst = float(burst)
        self._clock = clock
        self._tokens = self._burst
        self._stamp = clock.monotonic()

    def reserve(self) -> float:
        """Take a token, now or in the future; how many seconds to wait before it may be used (0 for at once)."""
        now = self._clock.monotonic()
        self._tokens = min(self._burst, self._tokens + (now - self._stamp) * self._rate)
        self._stamp = now
        self._tokens -= 1.0
        return 0.0 if self._tokens >= 0.0 else -self._tokens / self._rate

    async def acquire(self) -> float:
        """Wait for a token; the seconds waited. A cancelled waiter gives its token back."""
        delay = self.reserve()
        if delay > 0.0:
            try:
                await self._clock.sleep(delay)
            except BaseException:
                self._tokens = min(self._burst, self._tokens + 1.0)
                raise
        return delay
