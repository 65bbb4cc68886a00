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
# As a pod, and as the process that tests start.
OPERATORS: Final = ("system:serviceaccount:unjucks-system:unjucks-operator", "unjucks-operator")
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
    """The audit policy: writes at ``level`` (Metadata, Request or RequestResponse), one line per answered request.

    Of the operator also what it reads: its rights are compared with what it does. A watch tells of itself when it begins.
    """
    return {
        "apiVersion": "audit.k8s.io/v1",
        "kind": "Policy",
        "omitStages": ["RequestReceived"],
        "rules": [
            {"level": "Metadata", "users": list(OPERATORS), "verbs": ["watch"], "omitStages": ["ResponseComplete"]},
            {
                "level": "Metadata",
                "users": list(OPERATORS),
                "verbs": ["get", "list"],
                "omitStages": ["ResponseStarted"],
            },
            {"level": "None", "verbs": ["get", "list", "watch"]},
            {"level": level, "verbs": list(WRITE_VERBS), "omitStages": ["ResponseStarted"]},
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


@dataclass(frozen=True, order=True)
class Deed:
    """One kind of request of the operator's: what a rule of RBAC has to allow."""

    group: str
    resource: str
    verb: str


def deeds(log: Path, platform: str) -> tuple[set[Deed], set[Deed], list[str]]:
    """What the operator did: in tenants' namespaces and cluster-wide, in the platform's own namespace, and what was forbidden."""
    everywhere: set[Deed] = set()
    at_home: set[Deed] = set()
    forbidden: list[str] = []
    for line, _ in lines(log):
        event = json.loads(line)
        reference = event.get("objectRef") or {}
        if event["user"]["username"] not in OPERATORS or not reference.get("resource"):
            continue
        resource = "/".join(part for part in (reference["resource"], reference.get("subresource", "")) if part)
        deed = Deed(reference.get("apiGroup", ""), resource, event["verb"])
        (at_home if reference.get("namespace") == platform else everywhere).add(deed)
        if (event.get("annotations") or {}).get("authorization.k8s.io/decision") == "forbid":
            forbidden.append(f"{event['verb']} {event['requestURI']}")
    return everywhere, at_home, forbidden


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
