"""What goes wrong on the way to a server and back: one exception with the protocol's reason. Pure.

Messages are for the user and hold no credential: URLs go through ``net.printable_url``. Raised everywhere below ``courier``,
``sources`` and ``outputs``; turned into an ``ErrorResponse`` by ``courier.child``.
"""

from unjucks_api.reasons import Reason
from unjucks_api.render_protocol import ErrorResponse


class CourierError(Exception):
    """``retryable``: the same request may succeed later without anybody changing anything. ``limit``: which bound was met."""

    def __init__(
        self, reason: Reason, message: str, *, retryable: bool = False, limit: str = "", path: str = ""
    ) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.retryable = retryable
        self.limit = limit
        self.path = path

    @property
    def response(self) -> ErrorResponse:
        """The error in the words of the protocol."""
        return ErrorResponse(
            reason=self.reason, message=self.message, path=self.path, limit=self.limit, retryable=self.retryable
        )


def transient(message: str) -> CourierError:
    """The other side, or the way to it, does not work right now."""
    return CourierError(Reason.FETCH_FAILED, message, retryable=True)
