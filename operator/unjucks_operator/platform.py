"""What the operator keeps for itself in the platform's namespace: its certificate authority and the key of input digests.

Both are made once and kept in Secrets; the private parts never leave this process otherwise. The key that signs provenance is an
administrator's and only read. Called by ``app``.
"""

import base64
import hashlib
import logging
import secrets
import ssl
from collections.abc import Callable
from datetime import datetime

from unjucks_api import names
from unjucks_api.reasons import Reason
from unjucks_operator.apply import Certificate
from unjucks_operator.errors import Bug, InvalidSpec, Terminal
from unjucks_operator.kube.api import KubeApi
from unjucks_operator.kube.resources import SECRET
from unjucks_operator.renderers.ca import Authority, load_authority
from unjucks_operator.renderers.certificates import client_context
from unjucks_operator.signing import Signer, read_signer

log = logging.getLogger(__name__)

_KEY = "inputs.key"
_KEY_BYTES = 32


class Platform:
    """The operator's own secrets, loaded once and kept fresh by ``refresh``."""

    def __init__(self, api: KubeApi, namespace: str, now: Callable[[], datetime], *, signing_secret: str = "") -> None:
        self._api = api
        self._namespace = namespace
        self._now = now
        self._authority: Authority | None = None
        self._context: ssl.SSLContext | None = None
        self._serial = ""
        self._renew_at: datetime | None = None
        self._inputs_key = b""
        self._signing_secret = signing_secret
        self._signer: Signer | None = None

    async def load(self) -> None:
        """Read both Secrets, making what is missing. Raises what KubeApi raises, and Terminal for a broken Secret."""
        self._inputs_key = await self._load_inputs_key()
        await self.refresh()

    async def refresh(self) -> bool:
        """Move the authority's rotation on and renew our own certificate; True when connections should be made anew."""
        await self._load_signer()
        now = self._now()
        authority = await load_authority(self._api, self._namespace, now)
        serial = hashlib.sha256(authority.bundle).hexdigest()[:32]
        due = self._renew_at is None or now >= self._renew_at
        if serial == self._serial and not due:
            return False
        leaf = authority.issue_client(now)
        self._context = client_context(leaf)
        self._renew_at = leaf.renew_at
        self._authority, self._serial = authority, serial
        return True

    @property
    def context(self) -> ssl.SSLContext:
        """The operator's side of mutual TLS."""
        if self._context is None:
            raise Bug("the certificate authority is not loaded yet")
        return self._context

    def authority(self) -> Authority:
        """The authority in use."""
        if self._authority is None:
            raise Bug("the certificate authority is not loaded yet")
        return self._authority

    def authority_serial(self) -> str:
        """Names the set of trusted authorities: certificates issued under another one are replaced."""
        return self._serial

    def signer(self) -> Signer | None:
        """The platform's key for provenance; None when the configuration names none, or the Secret has no usable one."""
        return self._signer

    def inputs_key(self) -> bytes:
        """The secret from which each tenant's key for digests of inputs is derived."""
        return self._inputs_key

    def issue(self, identity: str) -> Certificate:
        """A fresh server certificate for a tenant's renderers."""
        if self._authority is None:
            raise Bug("the certificate authority is not loaded yet")
        leaf = self._authority.issue_server(identity, self._now())
        return Certificate(leaf.secret_data(), leaf.not_after, self._serial)

    async def _load_signer(self) -> None:
        """A key that was changed is used from the next round on; one that cannot be used is told, and nothing is signed."""
        if not self._signing_secret:
            return
        secret = await self._api.get(SECRET, self._signing_secret, self._namespace) or {}
        try:
            pem = base64.b64decode((secret.get("data") or {}).get(names.SIGNING_KEY, ""), validate=True)
            self._signer = read_signer(pem)
        except (ValueError, InvalidSpec):
            self._signer = None
            log.error(
                "provenance is not signed: the Secret has no usable key",
                extra={"fields": {"secret": self._signing_secret, "key": names.SIGNING_KEY}},
            )

    async def _load_inputs_key(self) -> bytes:
        for _ in range(3):
            secret = await self._api.get(SECRET, names.INPUTS_SECRET, self._namespace)
            if secret is None:
                manifest = {
                    "apiVersion": "v1",
                    "kind": "Secret",
                    "type": "Opaque",
                    "metadata": {
                        "name": names.INPUTS_SECRET,
                        "namespace": self._namespace,
                        "labels": {names.LABEL_NAME: names.PART_OF, names.LABEL_PART_OF: names.PART_OF},
                    },
                    "data": {_KEY: base64.b64encode(secrets.token_bytes(_KEY_BYTES)).decode()},
                }
                secret = await self._api.create(manifest, manager=names.MANAGER_PLATFORM)
            if secret is not None:
                try:
                    key = base64.b64decode((secret.get("data") or {})[_KEY], validate=True)
                except (KeyError, ValueError):
                    key = b""
                if len(key) < _KEY_BYTES:
                    raise Terminal(
                        f"Secret {self._namespace}/{names.INPUTS_SECRET} does not hold a usable {_KEY}; delete it to have a "
                        "new one made (every job is then rendered again when it is next changed)",
                        reason=Reason.INTERNAL_ERROR,
                    )
                return key
        raise Bug("the Secret of the inputs key comes and goes")
