"""AdmissionReview, version v1: the request as a value, and the answers. Pure; called by ``server`` and the three webhooks.

Answers are for people: one message with everything in it. No answer and no log line holds a value of an object.
"""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

API_VERSION: Final = "admission.k8s.io/v1"
MAX_MESSAGE: Final = 16 * 1024
MAX_WARNINGS: Final = 8
MAX_WARNING: Final = 250  # the API server cuts at 256


class NotAReviewError(ValueError):
    """The body is no AdmissionReview that we know."""


@dataclass(frozen=True, slots=True)
class Request:
    """What the API server asks about. ``old`` is empty for a creation."""

    uid: str
    kind: str
    operation: str
    subresource: str
    name: str
    namespace: str
    user: str
    dry_run: bool
    new: Mapping[str, Any]
    old: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Answer:
    """What we say. ``code`` and ``reason``: of a refusal; ``patch``: a JSON patch; ``audit``: for the API server's audit log."""

    allowed: bool
    message: str = ""
    code: int = 403
    reason: str = "Forbidden"
    warnings: tuple[str, ...] = ()
    patch: Sequence[Mapping[str, Any]] = ()
    audit: Mapping[str, str] = field(default_factory=dict)


def allow(*warnings: str) -> Answer:
    """Let it pass."""
    return Answer(True, warnings=warnings)


def parse(body: bytes) -> Request:
    """The request in a body. Raises NotAReviewError."""
    try:
        review = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise NotAReviewError("the body is not JSON") from None
    if (
        not isinstance(review, dict)
        or review.get("apiVersion") != API_VERSION
        or review.get("kind") != "AdmissionReview"
    ):
        raise NotAReviewError(f"an AdmissionReview of {API_VERSION} is expected")
    request = review.get("request")
    if not isinstance(request, dict) or not isinstance(request.get("uid"), str):
        raise NotAReviewError("the AdmissionReview has no request with a uid")
    user = request.get("userInfo")
    kind = request.get("kind")
    return Request(
        uid=request["uid"],
        kind=str(kind.get("kind", "")) if isinstance(kind, dict) else "",
        operation=str(request.get("operation", "")),
        subresource=str(request.get("subResource") or ""),
        name=str(request.get("name") or ""),
        namespace=str(request.get("namespace") or ""),
        user=str(user.get("username", "")) if isinstance(user, dict) else "",
        dry_run=request.get("dryRun") is True,
        new=_object(request.get("object")),
        old=_object(request.get("oldObject")),
    )


def _object(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def dump(uid: str, answer: Answer) -> bytes:
    """The body of an answer."""
    response: dict[str, Any] = {"uid": uid, "allowed": answer.allowed}
    if not answer.allowed:
        message = answer.message if len(answer.message) <= MAX_MESSAGE else answer.message[: MAX_MESSAGE - 1] + "…"
        response["status"] = {
            "status": "Failure",
            "message": message,
            "reason": answer.reason,
            "code": answer.code,
        }
    if answer.warnings:
        response["warnings"] = [_one_line(text) for text in answer.warnings[:MAX_WARNINGS]]
    if answer.patch and answer.allowed:
        response["patchType"] = "JSONPatch"
        response["patch"] = base64.b64encode(orjson.dumps(list(answer.patch))).decode()
    if answer.audit:
        response["auditAnnotations"] = dict(answer.audit)
    return orjson.dumps({"apiVersion": API_VERSION, "kind": "AdmissionReview", "response": response})


def _one_line(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= MAX_WARNING else line[: MAX_WARNING - 1] + "…"
