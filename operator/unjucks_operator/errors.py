"""The one tree of errors of the operator. Every failure that reaches the reconcile loop is one of these; the rest is a Bug.

    OperatorError(reason, message)
     ├─ Retryable                 retried with backoff by the queue; Ready=False, Reconciling=True
     │   ├─ Conflict              HTTP 409 on a version: tried again at once, not logged as an error
     │   ├─ Throttled             HTTP 429, ``after`` from Retry-After
     │   └─ Unavailable           API server, database or renderer down, time-outs
     ├─ Waiting(after)            normal: something else has to happen first; never a warning
     ├─ Terminal                  the user must change something; Stalled=True; no retry until the spec or a dependency changes
     │   ├─ InvalidSpec           what the schema or a webhook should have caught
     │   ├─ NotPermitted          HTTP 403 that will not heal by itself
     │   └─ OwnershipConflict     the object exists and is not ours; never taken over
     └─ Bug                       anything else: logged with its traceback, retried with a capped backoff, counted

``reason`` is from the closed list, ``message`` is fit for a user: what is wrong, where, and what to do. Neither ever carries a
secret. Called by everyone in this package.
"""

from unjucks_api.reasons import Reason


class OperatorError(Exception):
    """Root of the tree. ``reason`` goes into conditions and events as it is; ``message`` is for the user."""

    reason: Reason = Reason.INTERNAL_ERROR

    def __init__(self, message: str, *, reason: Reason | None = None) -> None:
        super().__init__(message)
        self.message = message
        if reason is not None:
            self.reason = reason


class Retryable(OperatorError):
    """Heals by itself; the queue backs off and tries again."""

    reason = Reason.PROGRESSING

    def __init__(self, message: str, *, reason: Reason | None = None, after: float | None = None) -> None:
        super().__init__(message, reason=reason)
        self.after = after
        """Seconds to wait at least, when the other side said so; None for the queue's own backoff."""


class Conflict(Retryable):
    """Somebody else wrote the object in between (HTTP 409)."""

    reason = Reason.CONFLICT


class Throttled(Retryable):
    """The API server asked us to slow down (HTTP 429)."""

    reason = Reason.THROTTLED


class Unavailable(Retryable):
    """Something outside did not answer."""

    reason = Reason.API_SERVER_UNAVAILABLE


class Waiting(OperatorError):
    """Not a failure: a dependency is not there yet. Look again after ``after`` seconds, or when it changes."""

    reason = Reason.PROGRESSING

    def __init__(self, message: str, *, reason: Reason | None = None, after: float = 5.0) -> None:
        super().__init__(message, reason=reason)
        self.after = after


class Terminal(OperatorError):
    """Only a change by the user helps."""

    reason = Reason.INVALID_SPEC


class InvalidSpec(Terminal):
    """The spec contradicts itself or the platform's configuration."""


class NotPermitted(Terminal):
    """The operator may not do this (HTTP 403); an administrator has to grant it."""

    reason = Reason.NOT_PERMITTED


class OwnershipConflict(Terminal):
    """An object of that name exists and is not ours."""

    reason = Reason.OWNERSHIP_CONFLICT


class Bug(OperatorError):
    """An unexpected exception, wrapped so that the loop has one type to handle."""
