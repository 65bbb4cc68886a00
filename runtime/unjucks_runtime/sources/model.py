"""What the sources have in common: a job with its credentials, and what came of it. Pure. Called by the sources and ``fetch``."""

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass, field

from unjucks_api.courier_protocol import CourierLimits
from unjucks_api.reasons import Reason
from unjucks_runtime.courier.errors import CourierError
from unjucks_runtime.courier.net import Network
from unjucks_runtime.sources.select import Selection

Tree = Mapping[str, tuple[bytes, int]]

MAX_VALUE = 64 * 1024
"""Bytes of one value of a Secret: far more than any key or certificate has."""


@dataclass(frozen=True, slots=True)
class Job:
    """What every source gets. Secrets are decoded here; ``repr`` shows none of them."""

    network: Network = field(repr=False)
    limits: CourierLimits
    selection: Selection
    known: str = ""
    credentials: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    signers: Mapping[str, bytes] = field(default_factory=dict, repr=False)

    def text(self, *keys: str) -> str:
        """The first of these keys that the Secret has, as text without blanks around it; empty when it has none."""
        for key in keys:
            if key in self.credentials:
                try:
                    return self.credentials[key].decode().strip("\r\n\t ")
                except UnicodeDecodeError:
                    raise unusable(f"the key {key} of the Secret is no text") from None
        return ""

    @property
    def authority(self) -> bytes | None:
        """PEM of the CA that the server's certificate is checked with; None for the public ones."""
        found = self.credentials.get("ca.crt") or self.credentials.get("caFile")
        return found or None

    def basic_or_bearer(self) -> str:
        """The Authorization header that the Secret asks for; empty for none. Raises CourierError for half a pair."""
        token, user, password = self.text("bearerToken"), self.text("username"), self.text("password")
        if token:
            header = f"Bearer {token}"
        elif user or password:
            if not user or not password:
                raise unusable("the Secret has only one of username and password")
            header = "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
        else:
            return ""
        if any(char < " " or char == "\x7f" for char in header) or not header.isascii():
            raise unusable(
                "the Secret's token, username or password has line breaks or other characters that no header can carry"
            )
        return header


@dataclass(frozen=True, slots=True)
class Fetched:
    """What a source holds. ``tree`` None: it is still at the revision that the caller knows."""

    revision: str
    tree: Tree | None
    digest: str = ""
    verified_by: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)
    downloaded: int = 0


def decode_secret(data: Mapping[str, str]) -> dict[str, bytes]:
    """A Secret's data as bytes. Raises CourierError (AuthenticationFailed)."""
    result = {}
    for key, value in data.items():
        try:
            result[key] = base64.b64decode(value, validate=True)
        except binascii.Error:
            raise unusable(f"the key {key} of the Secret is not base64") from None
        if len(result[key]) > MAX_VALUE:
            raise unusable(f"the key {key} of the Secret is larger than {MAX_VALUE} bytes")
    return result


def unusable(message: str) -> CourierError:
    """The Secret does not hold what is needed."""
    return CourierError(Reason.AUTHENTICATION_FAILED, message)


def refused(what: str, status: int) -> CourierError:
    """The server did not accept the credentials, or there were none."""
    return CourierError(Reason.AUTHENTICATION_FAILED, f"{what}: the server refused access (HTTP {status})")


def status_error(what: str, status: int) -> CourierError:
    """What an HTTP status other than success means."""
    if status in (401, 403, 407):
        return refused(what, status)
    if status in (404, 410):
        return CourierError(Reason.SOURCE_NOT_FOUND, f"{what}: the server does not have it (HTTP {status})")
    if status in (408, 425, 429) or status >= 500:
        return CourierError(Reason.FETCH_FAILED, f"{what}: the server answers HTTP {status}", retryable=True)
    return CourierError(Reason.FETCH_FAILED, f"{what}: the server answers HTTP {status}")
