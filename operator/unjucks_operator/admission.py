"""What the operator does for the process ``unjucks-webhooks``, and what it asks of its records before it destroys anything.

It issues the serving certificate (Secret ``unjucks-webhooks-tls``), makes the Secret of the approvers with the key that seals
records (``unjucks-approvals``; its content is never changed here), and writes the authority into the two webhook configurations.
In a settled state that is four reads and no write. Called by ``app`` at the start and by the sweep; ``approved`` by the
tenant's reconcile.
"""

import base64
import logging
import secrets
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from unjucks_api import approvals, names
from unjucks_operator.errors import Conflict, OperatorError
from unjucks_operator.kube.api import KubeApi, Manifest, PatchType
from unjucks_operator.kube.resources import (
    MUTATING_WEBHOOKS,
    SECRET,
    VALIDATING_WEBHOOKS,
    Resource,
)
from unjucks_operator.renderers.ca import LEAF_LIFETIME, Authority
from unjucks_operator.renderers.certificates import CERTIFICATE, KEY, renewal_due

_log = logging.getLogger(__name__)


def service_name(namespace: str) -> str:
    """The name under which API servers call the webhooks; it stands in their certificate."""
    return f"{names.WEBHOOKS}.{namespace}.svc"


class Admission:
    """See the module's text. ``authority`` gives the certificate authority in use, ``serial`` names the trusted set."""

    def __init__(
        self,
        api: KubeApi,
        namespace: str,
        *,
        enabled: bool,
        authority: Callable[[], Authority],
        serial: Callable[[], str],
        now: Callable[[], datetime],
    ) -> None:
        self._api = api
        self._namespace = namespace
        self._enabled = enabled
        self._authority = authority
        self._serial = serial
        self._now = now
        self._key = b""
        self._complained = ""

    async def ensure(self) -> None:
        """Bring everything into place. A failure is logged, once, and tried again by the next sweep: isolation needs none of it."""
        if not self._enabled:
            return
        try:
            await self._ensure_key()
            # The trust first: whoever gets the new certificate has to find it trusted.
            for resource in (VALIDATING_WEBHOOKS, MUTATING_WEBHOOKS):
                await self._ensure_bundle(resource)
            await self._ensure_certificate()
            self._complained = ""
        except OperatorError as error:
            if error.message != self._complained:
                self._complained = error.message
                _log.warning("the webhooks could not be provided for, again with the next sweep: %s", error.message)

    def approved(self, body: Mapping[str, Any], path: str, value: str) -> bool:
        """Whether ``path`` may be ``value`` in this object. Always, without the webhooks; else only with a genuine record."""
        return not self._enabled or approvals.is_approved(body, self._key, path, value)

    # --- inside -----------------------------------------------------------------------------------------------------------

    async def _ensure_key(self) -> None:
        secret = await self._api.get(SECRET, names.APPROVALS_SECRET, self._namespace)
        if secret is None:
            key = base64.b64encode(secrets.token_bytes(approvals.KEY_BYTES)).decode()
            secret = await self._api.create(
                self._secret(names.APPROVALS_SECRET, {names.APPROVALS_KEY: key}), manager=names.MANAGER_PLATFORM
            )
            if secret is None:
                raise Conflict(f"Secret {self._namespace}/{names.APPROVALS_SECRET} was made by somebody else meanwhile")
        try:
            self._key = base64.b64decode((secret.get("data") or {}).get(names.APPROVALS_KEY, ""), validate=True)
        except ValueError:
            self._key = b""
        if len(self._key) < approvals.KEY_BYTES:
            raise Conflict(
                f"Secret {self._namespace}/{names.APPROVALS_SECRET} has no usable {names.APPROVALS_KEY}; delete the Secret to have "
                "a new one made (everybody has to be enrolled again)"
            )

    async def _ensure_bundle(self, resource: Resource) -> None:
        """Write the authority into each webhook whose copy is another one. Without the configuration there is nothing to do."""
        found = await self._api.get(resource, names.WEBHOOKS)
        bundle = base64.b64encode(self._authority().bundle).decode()
        patch: list[dict[str, Any]] = []
        for index, webhook in enumerate((found or {}).get("webhooks") or ()):
            if webhook["clientConfig"].get("caBundle") != bundle:
                patch += [
                    {"op": "test", "path": f"/webhooks/{index}/name", "value": webhook["name"]},
                    {"op": "add", "path": f"/webhooks/{index}/clientConfig/caBundle", "value": bundle},
                ]
        if patch:
            await self._api.patch(
                resource, names.WEBHOOKS, None, patch, patch_type=PatchType.JSON, manager=names.MANAGER_PLATFORM
            )

    async def _ensure_certificate(self) -> None:
        found = await self._api.get(SECRET, names.WEBHOOKS_TLS_SECRET, self._namespace)
        if found is not None and self._good(found):
            return
        leaf = self._authority().issue_server(service_name(self._namespace), self._now())
        data = {key: base64.b64encode(value).decode() for key, value in leaf.secret_data().items()}
        manifest = self._secret(names.WEBHOOKS_TLS_SECRET, data)
        manifest["metadata"]["annotations"] = leaf.annotations() | {names.ANNOTATION_CERT_SERIAL: self._serial()}
        if found is None:
            await self._api.create(manifest, manager=names.MANAGER_PLATFORM)
            return
        manifest["metadata"]["resourceVersion"] = found["metadata"]["resourceVersion"]
        manifest["metadata"]["uid"] = found["metadata"]["uid"]
        await self._api.replace(manifest, manager=names.MANAGER_PLATFORM)

    def _good(self, secret: Manifest) -> bool:
        annotations = secret["metadata"].get("annotations") or {}
        try:
            end = datetime.fromisoformat(annotations.get(names.ANNOTATION_CERT_NOT_AFTER, ""))
        except ValueError:
            return False
        data = secret.get("data") or {}
        return (
            annotations.get(names.ANNOTATION_CERT_SERIAL) == self._serial()
            and bool(data.get(CERTIFICATE) and data.get(KEY))
            and not renewal_due(end, LEAF_LIFETIME, self._now())
        )

    def _secret(self, name: str, data: dict[str, str]) -> Manifest:
        return {
            "apiVersion": "v1",
            "kind": "Secret",
            "type": "Opaque",
            "metadata": {
                "name": name,
                "namespace": self._namespace,
                "labels": {
                    names.LABEL_NAME: names.PART_OF,
                    names.LABEL_COMPONENT: names.COMPONENT_WEBHOOKS,
                    names.LABEL_PART_OF: names.PART_OF,
                },
            },
            "data": data,
        }
