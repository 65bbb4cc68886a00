"""How the operator finds its API server: inside a cluster by the service account, outside by a kubeconfig.

The ``kubernetes`` package reads both formats; it is imported only here and only when asked, because it costs 20 MB. Must not talk
to the API server. Called by the process's start-up code, the command line and tests.
"""

import base64
import os
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from unjucks_operator.engine.clock import Clock
from unjucks_operator.errors import InvalidSpec
from unjucks_operator.kube.credentials import CertificateOnly, Credentials, Endpoint, Reloadable, TokenFile

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")


def load(
    clock: Clock,
    *,
    kubeconfig: Path | str | None = None,
    context: str | None = None,
    environ: Mapping[str, str] = os.environ,
) -> tuple[Endpoint, Credentials]:
    """A given kubeconfig; else, in a pod, its service account; else ``$KUBECONFIG`` or ``~/.kube/config``.

    Raises InvalidSpec with what is missing.
    """
    if kubeconfig is None and environ.get("KUBERNETES_SERVICE_HOST"):
        return in_cluster(clock, environ=environ)
    return from_kubeconfig(kubeconfig or environ.get("KUBECONFIG") or "~/.kube/config", context=context)


def in_cluster(
    clock: Clock, *, environ: Mapping[str, str] = os.environ, folder: Path = SERVICE_ACCOUNT
) -> tuple[Endpoint, Credentials]:
    """The service account of the pod that we run in. Its token is read again as the kubelet renews it."""
    from kubernetes.client import Configuration
    from kubernetes.config import ConfigException
    from kubernetes.config.incluster_config import InClusterConfigLoader

    token, authority = folder / "token", folder / "ca.crt"
    found = Configuration()
    try:
        InClusterConfigLoader(
            token_filename=str(token), cert_filename=str(authority), environ=dict(environ)
        ).load_and_set(found)  # type: ignore[no-untyped-call]
    except ConfigException as error:
        raise InvalidSpec(f"no service account to reach the API server with: {error}") from error
    return Endpoint(found.host, _tls(found)), TokenFile(token, clock)


def from_kubeconfig(path: Path | str, *, context: str | None = None) -> tuple[Endpoint, Credentials]:
    """The cluster and user of a kubeconfig's context. Tokens, passwords, client certificates and exec plug-ins work."""
    found = _read(path, context)
    endpoint = Endpoint(found.host, _tls(found), getattr(found, "tls_server_name", None), getattr(found, "proxy", None))
    header = _header(found)
    if header is None:
        if not found.cert_file:
            raise InvalidSpec(
                f"the kubeconfig {path} names no usable credentials (a failing exec plug-in is logged above)"
            )
        return endpoint, CertificateOnly()
    return endpoint, Reloadable(header, lambda: _header(_read(path, context)))


def _read(path: Path | str, context: str | None) -> Any:
    from kubernetes.client import Configuration
    from kubernetes.config import ConfigException, load_kube_config

    found = Configuration()
    try:
        load_kube_config(config_file=str(path), context=context, client_configuration=found)  # type: ignore[no-untyped-call]
    except (ConfigException, OSError) as error:
        raise InvalidSpec(f"the kubeconfig {path} cannot be used: {error}") from error
    return found


def _header(found: Any) -> str | None:
    token = found.api_key.get("BearerToken") or found.api_key.get("authorization")
    if token:
        return str(token)
    if found.username:
        pair = f"{found.username}:{found.password or ''}".encode()
        return "Basic " + base64.b64encode(pair).decode()
    return None


def _tls(found: Any) -> ssl.SSLContext | None:
    if not str(found.host).startswith("https://"):
        return None
    context = ssl.create_default_context(cafile=found.ssl_ca_cert or None)
    if not found.verify_ssl:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if found.cert_file:
        context.load_cert_chain(found.cert_file, found.key_file)
    return context
