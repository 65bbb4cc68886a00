"""The little that this process asks of the API server: read and replace one Secret, tell an Event. Nothing else.

In a pod the service account is read straight from its files; with a kubeconfig the ``kubernetes`` package does the reading, and is
imported only then. Called by ``store``, ``server`` and ``command``.
"""

import asyncio
import base64
import logging
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

import aiohttp
import orjson

SERVICE_ACCOUNT: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount")
TIMEOUT_SECONDS: Final = 3.0
"""Shorter than the API server waits for our answer."""

log = logging.getLogger(__name__)
Manifest = dict[str, Any]


class KubeError(Exception):
    """The API server cannot be asked, or said no. ``status`` is its HTTP code, 0 when there was no answer."""

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


class CredentialsError(Exception):
    """There is no way to reach an API server from here; the message says what is missing."""


@dataclass(frozen=True, slots=True)
class Access:
    """Where the API server is and how to prove who we are. ``header`` gives the Authorization of now, empty for none."""

    server: str
    tls: ssl.SSLContext | None
    header: Callable[[], str]


def find(kubeconfig: str, environment: Mapping[str, str]) -> Access:
    """A given kubeconfig; else the pod's service account; else ``$KUBECONFIG`` or ``~/.kube/config``. Raises CredentialsError."""
    if not kubeconfig and environment.get("KUBERNETES_SERVICE_HOST"):
        return in_cluster(environment)
    return from_kubeconfig(kubeconfig or environment.get("KUBECONFIG") or "~/.kube/config")


def in_cluster(environment: Mapping[str, str], folder: Path = SERVICE_ACCOUNT) -> Access:
    """The service account of the pod. The token's file is read each time: the kubelet renews it, and calls are rare."""
    host, port = environment["KUBERNETES_SERVICE_HOST"], environment.get("KUBERNETES_SERVICE_PORT", "443")
    host = f"[{host}]" if ":" in host else host
    try:
        tls = ssl.create_default_context(cafile=str(folder / "ca.crt"))
        (folder / "token").read_text(encoding="ascii")
    except OSError as error:
        raise CredentialsError(f"no service account to reach the API server with: {error}") from error

    def header() -> str:
        try:
            return "Bearer " + (folder / "token").read_text(encoding="ascii").strip()
        except OSError as error:
            raise KubeError(f"the token {folder / 'token'} cannot be read: {error.strerror}") from error

    return Access(f"https://{host}:{port}", tls, header)


def from_kubeconfig(path: str) -> Access:
    """The current context of a kubeconfig; tokens, client certificates and exec plug-ins work."""
    from kubernetes.client import Configuration
    from kubernetes.config import ConfigException, load_kube_config

    found = Configuration()
    try:
        load_kube_config(config_file=path, client_configuration=found)  # type: ignore[no-untyped-call]
        tls = ssl.create_default_context(cafile=found.ssl_ca_cert or None) if found.host.startswith("https") else None
        if tls is not None and not found.verify_ssl:
            tls.check_hostname, tls.verify_mode = False, ssl.CERT_NONE
        if tls is not None and found.cert_file:
            tls.load_cert_chain(found.cert_file, found.key_file)
    except (ConfigException, OSError) as error:
        raise CredentialsError(f"the kubeconfig {path} cannot be used: {error}") from error
    token = found.api_key.get("BearerToken") or found.api_key.get("authorization") or ""
    if not token and found.username:
        token = "Basic " + base64.b64encode(f"{found.username}:{found.password or ''}".encode()).decode()
    return Access(str(found.host), tls, lambda: str(token))


class Kube:
    """A client for these few requests. ``async with`` it."""

    def __init__(self, access: Access, *, timeout: float = TIMEOUT_SECONDS) -> None:
        self._access = access
        self._timeout = timeout
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        connector = aiohttp.TCPConnector(ssl=self._access.tls if self._access.tls is not None else True)
        self._session = aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=self._timeout))
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._session is not None:
            await self._session.close()
            await asyncio.sleep(0)  # lets the transports end

    async def get_secret(self, namespace: str, name: str) -> Manifest | None:
        """The Secret, or None. Raises KubeError."""
        try:
            return await self._request("GET", f"/api/v1/namespaces/{namespace}/secrets/{name}")
        except KubeError as error:
            if error.status == 404:
                return None
            raise

    async def replace_secret(self, secret: Manifest) -> bool:
        """Replace it under its resourceVersion; False when somebody else was faster. Raises KubeError."""
        metadata = secret["metadata"]
        assert metadata["resourceVersion"]
        path = f"/api/v1/namespaces/{metadata['namespace']}/secrets/{metadata['name']}"
        try:
            await self._request("PUT", path, secret)
        except KubeError as error:
            if error.status in (404, 409):
                return False
            raise
        return True

    async def create_secret(self, secret: Manifest) -> bool:
        """Create it; False when there is one already. Raises KubeError."""
        try:
            await self._request("POST", f"/api/v1/namespaces/{secret['metadata']['namespace']}/secrets", secret)
        except KubeError as error:
            if error.status == 409:
                return False
            raise
        return True

    async def create_event(self, event: Manifest) -> None:
        """Post an Event. Raises KubeError."""
        await self._request("POST", f"/apis/events.k8s.io/v1/namespaces/{event['metadata']['namespace']}/events", event)

    async def _request(self, method: str, path: str, body: Manifest | None = None) -> Manifest:
        assert self._session is not None, "use the client with `async with`"
        headers = {"Accept": "application/json"}
        if authorization := self._access.header():
            headers["Authorization"] = authorization
        data = None
        if body is not None:
            data, headers["Content-Type"] = orjson.dumps(body), "application/json"
        try:
            async with self._session.request(method, self._access.server + path, headers=headers, data=data) as answer:
                content = await answer.read()
                status = answer.status
        except (aiohttp.ClientError, TimeoutError) as error:
            raise KubeError(f"no answer from the API server: {type(error).__name__}") from error
        try:
            found = orjson.loads(content)
        except orjson.JSONDecodeError:
            found = {}
        if status >= 400:
            raise KubeError(f"the API server says {status}: {str(found.get('message', ''))[:300]}", status)
        return dict(found)
