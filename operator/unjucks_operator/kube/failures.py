"""From an HTTP answer of the API server to the operator's tree of errors, with messages that name verb, kind, object and cause.

Pure. The request's body never enters a message; of Secrets not even the server's sentence does when the server may be quoting
values. Called by ``kube.client`` only.
"""

from dataclasses import dataclass
from typing import Any, Final

import orjson

from unjucks_api.reasons import Reason
from unjucks_operator.errors import Conflict, InvalidSpec, NotPermitted, OperatorError, Throttled, Unavailable, Waiting
from unjucks_operator.kube.api import Gone, NotFound
from unjucks_operator.kube.resources import SECRET, Resource

_MAX_SENTENCE: Final = 600  # characters of the server's message that we pass on
_VALUES_FOLLOW: Final = ("Invalid value:", "unrecognized", "unknown", "cannot unmarshal", "illegal base64")


@dataclass(frozen=True, slots=True)
class Call:
    """What was asked, for messages: never what was in the body."""

    verb: str
    resource: Resource
    namespace: str | None = None
    name: str | None = None
    subresource: str | None = None

    def __str__(self) -> str:
        if self.name:
            what = f"{self.resource.kind} " + (f"{self.namespace}/{self.name}" if self.namespace else self.name)
        else:
            what = self.resource.plural + (f" in {self.namespace}" if self.namespace else "")
        return f"{self.verb} {what}" + (f" ({self.subresource})" if self.subresource else "")


@dataclass(frozen=True, slots=True)
class Refusal:
    """The parts of a ``Status`` answer that decide."""

    code: int
    reason: str
    message: str
    causes: tuple[str, ...]
    retry_after: float | None

    @classmethod
    def parse(cls, code: int, body: bytes, retry_after_header: str | None = None) -> "Refusal":
        """From an answer. A body that is no ``Status`` (a proxy's page, plain text) is shown shortened."""
        status: dict[str, Any] = {}
        try:
            loaded = orjson.loads(body)
            if isinstance(loaded, dict):
                status = loaded
        except orjson.JSONDecodeError:
            pass
        details = status.get("details") or {}
        after: float | None = None
        try:
            after = float(retry_after_header) if retry_after_header else None
        except ValueError:
            after = None  # a date: nobody sends one here
        if after is None and details.get("retryAfterSeconds"):
            after = float(details["retryAfterSeconds"])
        message = status.get("message") or body[:200].decode("utf-8", "replace").strip() or "no explanation given"
        causes = tuple(str(cause.get("reason", "")) for cause in details.get("causes") or ())
        return cls(code, str(status.get("reason") or ""), str(message), causes, after)


def to_error(call: Call, refusal: Refusal) -> OperatorError:
    """The error for a refused call. 404 of a read and AlreadyExists of a create are answers: the client handles them."""
    sentence = f"{call}: {_sentence(call, refusal)}"
    match refusal.code:
        case 409:
            return Conflict(f"{sentence} (HTTP 409)", after=refusal.retry_after)
        case 404:
            return NotFound(f"{sentence} (HTTP 404)")
        case 410:
            return Gone(f"{sentence} (HTTP 410)")
        case 429:
            return Throttled(f"{sentence} (HTTP 429)", after=refusal.retry_after)
        case 401:
            return Unavailable(f"{call}: the API server refused the operator's credentials (HTTP 401)")
        case 403:
            return _forbidden(sentence, refusal)
        case 400 | 405 | 406 | 413 | 415 | 422:
            return InvalidSpec(f"{sentence} (HTTP {refusal.code})")
        case _:
            return Unavailable(f"{sentence} (HTTP {refusal.code})", after=refusal.retry_after)


def _forbidden(sentence: str, refusal: Refusal) -> OperatorError:
    """403 has three meanings: no right (an administrator must act), a namespace on its way out, a quota that is full now."""
    if "NamespaceTerminating" in refusal.causes:
        return Waiting(f"{sentence}; waiting until it is gone", reason=Reason.NAMESPACE_TERMINATING, after=2.0)
    if "exceeded quota" in refusal.message:
        return Waiting(f"{sentence}; waiting for room", reason=Reason.LIMIT_EXCEEDED, after=5.0)
    return NotPermitted(f"{sentence} (HTTP 403); grant the operator's service account this right")


def _sentence(call: Call, refusal: Refusal) -> str:
    """The server's message, bounded. A refused Secret's message may quote its data, so only the reason is told then."""
    if call.resource is SECRET and any(mark in refusal.message for mark in _VALUES_FOLLOW):
        return f"{refusal.reason or 'refused'}; the server's explanation may quote the Secret and is not shown"
    text = " ".join(refusal.message.split())
    return text if len(text) <= _MAX_SENTENCE else text[: _MAX_SENTENCE - 1] + "…"
