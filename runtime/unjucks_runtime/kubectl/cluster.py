"""The API server, as the plugin sees it: a few requests with the user's own kubeconfig. Dicts in, dicts out.

Every failure becomes a ``ClusterError`` that says what was asked, what the server said, and with which exit code to end. Called by
the plugin's commands; the operator has a client of its own (``unjucks_operator.kube``), made for thousands of requests.
"""

import base64
import json
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from urllib.parse import urlencode

from unjucks_runtime.cli.output import Exit

GROUP, VERSION = "unjucks.io", "v1alpha1"
JOBS, REGISTRIES = "generationjobs", "templateregistries"
_TIMEOUT = (10, 60)  # seconds to connect, and between two pieces of an answer
_WATCH = 30  # seconds; then the object is read again, so a watch that went silent costs no more than this

Manifest = dict[str, Any]


class ClusterError(Exception):
    """What went wrong with the cluster, in words for its user, and the exit code it means."""

    def __init__(self, message: str, code: Exit = Exit.REFUSED) -> None:
        super().__init__(message)
        self.message = message
        self.code = code


class Cluster:
    """One cluster and namespace. ``namespace`` is the one of the kubeconfig's context unless another was given."""

    def __init__(self, kubeconfig: str | None, context: str | None, namespace: str | None) -> None:
        from kubernetes.client import Configuration
        from kubernetes.client.rest import RESTClientObject
        from kubernetes.config import ConfigException, list_kube_config_contexts, load_kube_config

        found: Any = Configuration()
        try:
            load_kube_config(config_file=kubeconfig, context=context, client_configuration=found)  # type: ignore[no-untyped-call]
            contexts, active = list_kube_config_contexts(config_file=kubeconfig)  # type: ignore[no-untyped-call]
        except (ConfigException, OSError) as error:
            raise ClusterError(f"no cluster: {error}; check --kubeconfig and --context", Exit.USAGE) from None
        if context is not None:
            active = next(item for item in contexts if item["name"] == context)
        self.namespace: str = namespace or active["context"].get("namespace") or "default"
        self._host = str(found.host)
        self._pool: Any = RESTClientObject(found).pool_manager
        self._authorization = _authorization(found)

    # --- our kinds -----------------------------------------------------------------------------------------------------------
    def get(self, plural: str, name: str) -> Manifest:
        """One of our objects. ClusterError (not found) when there is none."""
        return self._call("GET", self._path(plural, name), what=f"{plural}/{name}")

    def list_all(self, plural: str, *, everywhere: bool = False) -> list[Manifest]:
        """Our objects of a namespace, or of all that the user may see."""
        found = self._call("GET", self._path(plural, everywhere=everywhere), what=plural)
        return list(found.get("items") or [])

    def create(self, plural: str, body: Manifest) -> Manifest:
        """A new object."""
        return self._call("POST", self._path(plural), body=body, what=f"a new {body['kind']}")

    def merge(self, plural: str, name: str, body: Manifest) -> Manifest:
        """A merge patch."""
        return self._call("PATCH", self._path(plural, name), body=body, what=f"{plural}/{name}")

    def delete(self, plural: str, name: str) -> None:
        """Deletes it; nothing happens when it is gone."""
        try:
            self._call("DELETE", self._path(plural, name), what=f"{plural}/{name}")
        except ClusterError as error:
            if error.code is not Exit.NOT_FOUND:
                raise

    def follow(
        self, plural: str, name: str, *, deadline: float, clock: Callable[[], float] = time.monotonic
    ) -> Iterator[Manifest]:
        """The object now and after each change, until the caller stops or ``deadline`` (of ``clock``) has passed.

        A watch that breaks is begun again from a fresh read. Raises ClusterError when the object is deleted meanwhile.
        """
        while True:
            found = self.get(plural, name)
            yield found
            left = deadline - clock()
            if left <= 0:
                return
            seconds = max(1, min(_WATCH, int(left)))
            query = {
                "watch": "true",
                "fieldSelector": f"metadata.name={name}",
                "resourceVersion": found["metadata"]["resourceVersion"],
                "timeoutSeconds": str(seconds),
            }
            for event in self._stream(self._path(plural), query, seconds + 5):
                if event["type"] == "DELETED":
                    raise ClusterError(f"{plural}/{name} was deleted meanwhile", Exit.NOT_FOUND)
                if event["type"] not in ("ADDED", "MODIFIED"):
                    break  # an error or a bookmark: read it afresh
                yield event["object"]

    # --- Kubernetes' own -----------------------------------------------------------------------------------------------------
    def read_output(self, kind: str, name: str) -> Manifest:
        """A ConfigMap or a Secret of the namespace."""
        plural = {"ConfigMap": "configmaps", "Secret": "secrets"}[kind]
        return self._call("GET", f"/api/v1/namespaces/{self.namespace}/{plural}/{name}", what=f"{kind} {name}")

    def events_of(self, body: Manifest) -> list[Manifest]:
        """The Events about an object, oldest first."""
        path = f"/apis/events.k8s.io/v1/namespaces/{self.namespace}/events"
        query = {"fieldSelector": f"regarding.uid={body['metadata']['uid']}"}
        found = self._call("GET", path, query=query, what="events").get("items") or []
        return sorted(found, key=lambda item: str(item.get("eventTime") or item["metadata"].get("creationTimestamp")))

    def pods(self, selector: str) -> list[str]:
        """Names of the pods with these labels."""
        found = self._call(
            "GET", f"/api/v1/namespaces/{self.namespace}/pods", query={"labelSelector": selector}, what="pods"
        )
        return [item["metadata"]["name"] for item in found.get("items") or []]

    def log_of(self, pod: str, *, lines: int) -> str:
        """The last lines of a pod's log."""
        path = f"/api/v1/namespaces/{self.namespace}/pods/{pod}/log"
        return self._raw("GET", path, {"tailLines": str(lines)}, None, f"the log of pod {pod}").decode(
            "utf-8", "replace"
        )

    # --- requests ------------------------------------------------------------------------------------------------------------
    def _path(self, plural: str, name: str = "", *, everywhere: bool = False) -> str:
        middle = "" if everywhere else f"/namespaces/{self.namespace}"
        return f"/apis/{GROUP}/{VERSION}{middle}/{plural}" + (f"/{name}" if name else "")

    def _call(
        self, method: str, path: str, *, query: Mapping[str, str] | None = None, body: Manifest | None = None, what: str
    ) -> Manifest:
        answer = json.loads(self._raw(method, path, query or {}, body, what))
        return answer if isinstance(answer, dict) else {}

    def _raw(self, method: str, path: str, query: Mapping[str, str], body: Manifest | None, what: str) -> bytes:
        with self._request(method, path, query, body, what, _TIMEOUT) as answer:
            return bytes(answer.read())

    def _stream(self, path: str, query: Mapping[str, str], seconds: float) -> Iterator[Manifest]:
        from urllib3.exceptions import HTTPError

        with self._request("GET", path, query, None, "a watch", (10, seconds)) as answer:
            rest = b""
            try:
                for piece in answer.stream(65536):
                    *lines, rest = (rest + piece).split(b"\n")
                    yield from (json.loads(line) for line in lines if line)
            except HTTPError:
                return  # the connection broke, or was quiet for too long: the caller reads afresh

    def _request(
        self,
        method: str,
        path: str,
        query: Mapping[str, str],
        body: Manifest | None,
        what: str,
        timeout: tuple[float, float],
    ) -> Any:
        from urllib3 import Timeout
        from urllib3.exceptions import HTTPError

        patch = "application/merge-patch+json" if method == "PATCH" else "application/json"
        headers = {"Accept": "application/json", "Content-Type": patch, "User-Agent": "kubectl-unjucks"}
        if self._authorization:
            headers["Authorization"] = self._authorization
        try:
            answer = self._pool.request(
                method,
                self._host + path + ("?" + urlencode(query) if query else ""),
                headers=headers,
                body=None if body is None else json.dumps(body).encode(),
                timeout=Timeout(connect=timeout[0], read=timeout[1]),
                preload_content=False,
                redirect=False,
                retries=False,
            )
        except HTTPError as error:
            raise ClusterError(f"the cluster cannot be reached: {error}") from None
        if not 200 <= answer.status < 300:
            raise _told(answer, what)
        return answer


def _authorization(found: Any) -> str:
    """The value of the header; empty for those who show a certificate."""
    token = found.api_key.get("BearerToken") or found.api_key.get("authorization")
    if token:
        return str(token)
    if found.username:
        return "Basic " + base64.b64encode(f"{found.username}:{found.password or ''}".encode()).decode()
    return ""


def _told(answer: Any, what: str) -> ClusterError:
    try:
        message = str(json.loads(answer.read())["message"])
    except (ValueError, TypeError, KeyError):
        message = f"HTTP {answer.status} {answer.reason or ''}".strip()
    code = {404: Exit.NOT_FOUND, 400: Exit.USAGE, 422: Exit.USAGE}.get(answer.status, Exit.REFUSED)
    hint = "; log in again" if answer.status == 401 else ""
    return ClusterError(f"{what}: {message}{hint}", code)
