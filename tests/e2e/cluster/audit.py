"""The apiserver's audit log as a list of writes: what "zero writes" tests count.

The policy records every request that changes something, with who and what, no bodies unless asked for. Reading is pure;
``controlplane`` owns the file.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

WRITE_VERBS: Final = ("create", "update", "patch", "delete", "deletecollection")
# Created, but nothing is stored: questions to the apiserver and tokens.
NOT_STORED: Final = frozenset(
    {
        "subjectaccessreviews",
        "selfsubjectaccessreviews",
        "localsubjectaccessreviews",
        "selfsubjectrulesreviews",
        "selfsubjectreviews",
        "tokenreviews",
    }
)
_SYSTEM_PREFIXES: Final = (
    "system:apiserver",
    "system:kube-",
    "system:node:",
    "system:serviceaccount:kube-system:",
)


def policy(level: str) -> dict[str, Any]:
    """The audit policy: writes at ``level`` (Metadata, Request or RequestResponse), one line per answered request."""
    return {
        "apiVersion": "audit.k8s.io/v1",
        "kind": "Policy",
        "omitStages": ["RequestReceived", "ResponseStarted"],
        "rules": [
            {"level": "None", "verbs": ["get", "list", "watch"]},
            {"level": level, "verbs": list(WRITE_VERBS)},
        ],
    }


@dataclass(frozen=True)
class Write:
    """One answered write request."""

    verb: str
    user: str
    user_agent: str
    group: str
    resource: str
    subresource: str
    namespace: str
    name: str
    code: int
    uri: str
    at: str
    request: Any = None
    response: Any = None

    @property
    def by_system(self) -> bool:
        """True for the control plane's own components and their controllers."""
        return self.user.startswith(_SYSTEM_PREFIXES)

    def __str__(self) -> str:
        target = "/".join(part for part in (self.resource, self.subresource) if part)
        place = "/".join(part for part in (self.namespace, self.name) if part)
        return f"{self.verb} {target} {place} -> {self.code} by {self.user}"


def parse(line: str) -> Write | None:
    """One line of the log; None when it is not a stored write."""
    event = json.loads(line)
    reference = event.get("objectRef") or {}
    resource = reference.get("resource", "")
    if event.get("verb") not in WRITE_VERBS or resource in NOT_STORED or reference.get("subresource") == "token":
        return None
    return Write(
        verb=event["verb"],
        user=(event.get("impersonatedUser") or event.get("user") or {}).get("username", ""),
        user_agent=event.get("userAgent", ""),
        group=reference.get("apiGroup", ""),
        resource=resource,
        subresource=reference.get("subresource", ""),
        namespace=reference.get("namespace", ""),
        name=reference.get("name", ""),
        code=(event.get("responseStatus") or {}).get("code", 0),
        uri=event.get("requestURI", ""),
        at=event.get("requestReceivedTimestamp", ""),
        request=event.get("requestObject"),
        response=event.get("responseObject"),
    )


def lines(log: Path, offset: int = 0) -> Iterator[tuple[str, int]]:
    """Complete lines from a byte offset on, each with the offset after it."""
    if not log.exists():
        return
    with log.open("rb") as file:
        file.seek(offset)
        for line in file:
            if not line.endswith(b"\n"):
                return
            offset += len(line)
            yield line.decode(), offset
