"""The Kubernetes client: ``KubeApi`` over ``kube.transport`` and orjson. No models, no cache, no decisions.

Each method is one request: its path, query, body and content type, and what an answer means. Made by the process's start-up code;
used through ``KubeApi``.
"""

import random
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from types import TracebackType
from typing import Any, Final, Self

import orjson

from unjucks_api.names import MANAGER_STATUS
from unjucks_operator.engine.clock import Clock
from unjucks_operator.errors import Unavailable
from unjucks_operator.kube.api import Gone, Manifest, NotFound, NotServed, PatchType, WatchEvent
from unjucks_operator.kube.credentials import Credentials, Endpoint
from unjucks_operator.kube.failures import Call, Refusal, to_error
from unjucks_operator.kube.resources import Resource, resource_of
from unjucks_operator.kube.transport import JSON, Limits, Observer, Transport, ignore, query_string

_APPLY: Final = "application/apply-patch+yaml"  # JSON is YAML, so orjson writes the body
_PARTIAL: Final = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
_PARTIAL_LIST: Final = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
_CHUNK: Final = 500  # objects per page of a list


class KubeClient:
    """``KubeApi`` against a real server. Use as ``async with KubeClient(endpoint, credentials) as api``."""

    def __init__(
        self,
        endpoint: Endpoint,
        credentials: Credentials,
        *,
        limits: Limits | None = None,
        clock: Clock | None = None,
        rng: random.Random | None = None,
        observe: Observer = ignore,
        user_agent: str | None = None,
    ) -> None:
        self._transport = Transport(
            endpoint, credentials, limits=limits, clock=clock, rng=rng, observe=observe, user_agent=user_agent
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """End all connections; the client can not be used afterwards."""
        await self._transport.close()

    # --- reads --------------------------------------------------------------------------------------------------------
    async def get(
        self, resource: Resource, name: str, namespace: str | None = None, *, metadata_only: bool = False
    ) -> Manifest | None:
        """See ``KubeApi``."""
        call = Call("get", resource, namespace, name)
        try:
            return await self._json(
                call, "GET", resource.path(namespace, name), accept=_PARTIAL if metadata_only else JSON
            )
        except NotFound:
            return None

    async def list_all(
        self,
        resource: Resource,
        *,
        namespace: str | None = None,
        label_selector: str | None = None,
        metadata_only: bool = False,
    ) -> tuple[list[Manifest], str]:
        """See ``KubeApi``. When a page's snapshot has expired, everything is fetched once more, in one piece."""
        for chunk in (_CHUNK, 0):
            items: list[Manifest] = []
            version = ""
            try:
                async with aclosing(self._pages(resource, namespace, label_selector, metadata_only, chunk)) as pages:
                    async for page, version in pages:  # noqa: B007  the last one is returned
                        items += page
                return items, version
            except Gone:
                if not chunk:
                    raise
        raise AssertionError("unreachable")

    def list_pages(
        self,
        resource: Resource,
        *,
        namespace: str | None = None,
        label_selector: str | None = None,
        metadata_only: bool = False,
        chunk: int = _CHUNK,
    ) -> AsyncGenerator[tuple[list[Manifest], str], None]:
        """See ``KubeApi``."""
        return self._pages(resource, namespace, label_selector, metadata_only, chunk)

    async def _pages(
        self, resource: Resource, namespace: str | None, selector: str | None, metadata_only: bool, chunk: int
    ) -> AsyncGenerator[tuple[list[Manifest], str], None]:
        call = Call("list", resource, namespace)
        path = resource.path(namespace)
        base = {"labelSelector": selector, "limit": str(chunk) if chunk else None}
        token: str | None = None
        while True:
            query = query_string(base | {"continue": token})
            try:
                page = await self._json(call, "GET", path, query, accept=_PARTIAL_LIST if metadata_only else JSON)
            except NotFound as error:
                raise NotServed(f"the API server does not serve {resource.plural} of {resource.api_version}") from error
            items: list[Manifest] = page["items"] or []
            if not metadata_only:  # a typed list's items do not say what they are
                for item in items:
                    item["apiVersion"], item["kind"] = resource.api_version, resource.kind
            # All pages are of one snapshot, so any page's version is the list's.
            yield items, page["metadata"]["resourceVersion"]
            token = page["metadata"].get("continue")
            if not token:
                return

    async def watch(
        self,
        resource: Resource,
        *,
        resource_version: str,
        namespace: str | None = None,
        label_selector: str | None = None,
        metadata_only: bool = False,
    ) -> AsyncGenerator[WatchEvent, None]:
        """See ``KubeApi``."""
        call = Call("watch", resource, namespace)
        query = query_string(
            {
                "watch": "1",
                "allowWatchBookmarks": "true",
                "resourceVersion": resource_version,
                "timeoutSeconds": str(self._transport.watch_seconds()),
                "labelSelector": label_selector,
            }
        )
        accept = _PARTIAL if metadata_only else JSON
        async with aclosing(self._transport.stream(call, resource.path(namespace), query, accept=accept)) as lines:
            async for line in lines:
                yield _event(call, line)

    # --- writes -------------------------------------------------------------------------------------------------------
    async def create(self, manifest: Manifest, *, manager: str, metadata_only: bool = False) -> Manifest | None:
        """See ``KubeApi``."""
        resource, namespace, name = _address(manifest)
        call = Call("create", resource, namespace, name)
        code, payload = await self._transport.send(
            call,
            "POST",
            resource.path(namespace),
            query_string({"fieldManager": manager}),
            manifest,
            accept=_PARTIAL if metadata_only else JSON,
            tolerate=409,
        )
        if code == 409:
            refusal = Refusal.parse(code, payload)
            if refusal.reason == "AlreadyExists":
                return None
            raise to_error(call, refusal)
        return _object(call, payload)

    async def apply(
        self, manifest: Manifest, *, manager: str, force: bool = True, metadata_only: bool = False
    ) -> Manifest:
        """See ``KubeApi``."""
        resource, namespace, name = _address(manifest)
        return await self._json(
            Call("apply", resource, namespace, name),
            "PATCH",
            resource.path(namespace, name),
            query_string({"fieldManager": manager, "force": "true" if force else "false"}),
            manifest,
            content_type=_APPLY,
            accept=_PARTIAL if metadata_only else JSON,
        )

    async def replace(self, manifest: Manifest, *, manager: str, metadata_only: bool = False) -> Manifest:
        """See ``KubeApi``."""
        resource, namespace, name = _address(manifest)
        return await self._json(
            Call("replace", resource, namespace, name),
            "PUT",
            resource.path(namespace, name),
            query_string({"fieldManager": manager}),
            manifest,
            accept=_PARTIAL if metadata_only else JSON,
        )

    async def patch(
        self,
        resource: Resource,
        name: str,
        namespace: str | None,
        body: Any,
        *,
        patch_type: PatchType,
        manager: str,
        subresource: str | None = None,
        metadata_only: bool = False,
    ) -> Manifest:
        """See ``KubeApi``."""
        return await self._json(
            Call("patch", resource, namespace, name, subresource),
            "PATCH",
            resource.path(namespace, name, subresource),
            query_string({"fieldManager": manager}),
            body,
            content_type=patch_type,
            accept=_PARTIAL if metadata_only else JSON,
        )

    async def patch_status(
        self, resource: Resource, name: str, namespace: str | None, status: Mapping[str, Any], *, resource_version: str
    ) -> Manifest:
        """See ``KubeApi``."""
        # A PUT that carries nothing but the status: the server takes the rest from the stored object, compares the version itself
        # (409) and need not apply a patch. Measured 10-15 % cheaper than a JSON or merge patch, and keys that left are gone.
        body = {
            "apiVersion": resource.api_version,
            "kind": resource.kind,
            "metadata": {"name": name, "resourceVersion": resource_version}
            | ({"namespace": namespace} if namespace else {}),
            "status": status,
        }
        return await self._json(
            Call("update", resource, namespace, name, "status"),
            "PUT",
            resource.path(namespace, name, "status"),
            query_string({"fieldManager": MANAGER_STATUS}),
            body,
        )

    async def set_finalizers(
        self, resource: Resource, name: str, namespace: str | None, finalizers: Sequence[str], *, resource_version: str
    ) -> Manifest:
        """See ``KubeApi``."""
        # Setting the version inside the object makes the server compare it and answer 409; a JSON Patch "test" would be a 422.
        body = [
            {"op": "replace", "path": "/metadata/resourceVersion", "value": resource_version},
            {"op": "add", "path": "/metadata/finalizers", "value": list(finalizers)},
        ]
        return await self.patch(resource, name, namespace, body, patch_type=PatchType.JSON, manager=MANAGER_STATUS)

    async def delete(
        self, resource: Resource, name: str, namespace: str | None = None, *, uid: str, propagation: str = "Background"
    ) -> bool:
        """See ``KubeApi``."""
        body = {"preconditions": {"uid": uid}, "propagationPolicy": propagation}
        code, _ = await self._transport.send(
            Call("delete", resource, namespace, name),
            "DELETE",
            resource.path(namespace, name),
            "",
            body,
            accept=_PARTIAL,
            tolerate=(404, 409),
        )
        return code not in (404, 409)

    # --- one request ----------------------------------------------------------------------------------------------------
    async def _json(
        self,
        call: Call,
        method: str,
        path: str,
        query: str = "",
        body: Any = None,
        *,
        content_type: str = JSON,
        accept: str = JSON,
    ) -> Manifest:
        _, payload = await self._transport.send(
            call, method, path, query, body, content_type=content_type, accept=accept
        )
        return _object(call, payload)


def _address(manifest: Manifest) -> tuple[Resource, str | None, str]:
    metadata = manifest["metadata"]
    return resource_of(manifest), metadata.get("namespace"), metadata["name"]


def _object(call: Call, payload: bytes) -> Manifest:
    try:
        loaded = orjson.loads(payload)
    except orjson.JSONDecodeError as error:
        # A cut answer: whether a write happened is unknown, the next pass looks.
        raise Unavailable(f"{call}: the API server's answer is not valid JSON") from error
    if not isinstance(loaded, dict):
        raise Unavailable(f"{call}: the API server's answer is not an object")
    return loaded


def _event(call: Call, line: bytes) -> WatchEvent:
    event = _object(call, line)
    kind, body = event.get("type"), event.get("object") or {}
    if kind == "ERROR":
        raise to_error(call, Refusal.parse(int(body.get("code") or 500), orjson.dumps(body)))
    if kind not in ("ADDED", "MODIFIED", "DELETED", "BOOKMARK"):
        raise Unavailable(f"{call}: the API server sent an event of unknown type {kind!r}")
    return WatchEvent(kind, body)
