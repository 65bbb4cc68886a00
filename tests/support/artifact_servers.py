"""A registry of OCI artifacts and an S3 server, real ones built from Go modules, over TLS on loopback.

with oci_registry(folder) as registry: registry.push("acme/templates", "v1.0.0", archive)
with s3_server(folder) as s3: s3.put("sets/a.txt", b"...")
"""

import base64
import hashlib
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import bcrypt
import orjson
import urllib3
from minio import Minio

from e2e.cluster import golang
from support.git_host import make_certificate

USER, PASSWORD = "courier", "s3cret-of-the-test"
ACCESS, SECRET, BUCKET = "AKIATEST", "s3cret-of-the-test-key", "templates"
FLUX_LAYER = "application/vnd.cncf.flux.content.v1.tar+gzip"
_MANIFEST = "application/vnd.oci.image.manifest.v1+json"


def digest_of(data: bytes) -> str:
    """sha256:<hex>."""
    return "sha256:" + hashlib.sha256(data).hexdigest()


@contextmanager
def _running(folder: Path, kind: str, *arguments: str, address: str = "127.0.0.1") -> Iterator[tuple[int, bytes]]:
    """(port, authority) of a server. It listens on loopback; ``address``: where else somebody forwards to it from."""
    folder.mkdir(parents=True, exist_ok=True)
    certificate, key = make_certificate(folder, address)
    program = golang.test_servers()
    process = subprocess.Popen(
        [str(program), kind, str(certificate), str(key), *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stdin is not None
    try:
        yield int(process.stdout.readline()), certificate.read_bytes()
    finally:
        process.stdin.close()
        process.wait(10)
        process.stdout.close()


@dataclass
class Registry:
    """A running registry."""

    port: int
    authority: bytes

    @property
    def url(self) -> str:
        """The start of artifacts' URLs."""
        return f"oci://localhost:{self.port}"

    @property
    def credentials(self) -> dict[str, bytes]:
        """The data of a Secret."""
        auth = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        config = {"auths": {f"localhost:{self.port}": {"auth": auth}}}
        return {".dockerconfigjson": orjson.dumps(config), "ca.crt": self.authority}

    def push(
        self,
        name: str,
        tag: str,
        layer: bytes,
        *,
        media_type: str = FLUX_LAYER,
        annotations: Mapping[str, str] | None = None,
    ) -> str:
        """An artifact of one layer; its digest."""
        config = b"{}"
        manifest = {
            "schemaVersion": 2,
            "mediaType": _MANIFEST,
            "config": self._blob(name, config, "application/vnd.cncf.flux.config.v1+json"),
            "layers": [
                self._blob(name, layer, media_type) | ({"annotations": dict(annotations)} if annotations else {})
            ],
        }
        data = orjson.dumps(manifest)
        self._call("PUT", f"{name}/manifests/{tag}", data, {"Content-Type": _MANIFEST})
        return digest_of(data)

    def _blob(self, name: str, data: bytes, media_type: str) -> dict[str, Any]:
        started = self._call("POST", f"{name}/blobs/uploads/", b"", {})
        place = started.headers["Location"]
        joint = "&" if "?" in place else "?"
        self._request("PUT", f"{place}{joint}digest={digest_of(data)}", data, {})
        return {"mediaType": media_type, "digest": digest_of(data), "size": len(data)}

    def _call(self, method: str, path: str, body: bytes, headers: dict[str, str]) -> urllib3.BaseHTTPResponse:
        return self._request(method, f"https://localhost:{self.port}/v2/{path}", body, headers)

    def _request(self, method: str, url: str, body: bytes, headers: dict[str, str]) -> urllib3.BaseHTTPResponse:
        with urllib3.PoolManager(ca_cert_data=self.authority.decode()) as pool:
            login = urllib3.make_headers(basic_auth=f"{USER}:{PASSWORD}")
            response = pool.request(method, url, body=body, headers={**login, **headers})
        assert response.status < 300, response.data
        return response


@contextmanager
def oci_registry(folder: Path, address: str = "127.0.0.1") -> Iterator[Registry]:
    """A registry that asks for USER and PASSWORD."""
    folder.mkdir(parents=True, exist_ok=True)
    users = folder / "htpasswd"
    users.write_bytes(USER.encode() + b":" + bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4, prefix=b"2a")) + b"\n")
    with _running(folder, "registry", str(users), address=address) as (port, authority):
        yield Registry(port, authority)


@dataclass
class S3:
    """A running S3 server with one bucket."""

    port: int
    authority: bytes

    @property
    def endpoint(self) -> str:
        """Its URL."""
        return f"https://localhost:{self.port}"

    @property
    def credentials(self) -> dict[str, bytes]:
        """The data of a Secret."""
        return {"accesskey": ACCESS.encode(), "secretkey": SECRET.encode(), "ca.crt": self.authority}

    def client(self) -> Minio:
        """As its owner."""
        pool = urllib3.PoolManager(ca_cert_data=self.authority.decode())
        return Minio(f"localhost:{self.port}", ACCESS, SECRET, region="us-east-1", http_client=pool)

    def put(self, files: Mapping[str, bytes], bucket: str = BUCKET) -> None:
        """Store objects."""
        import io

        client = self.client()
        for name, content in files.items():
            client.put_object(bucket, name, io.BytesIO(content), len(content))
        client._http.clear()


@contextmanager
def s3_server(folder: Path, address: str = "127.0.0.1") -> Iterator[S3]:
    """A server that takes requests signed with ACCESS and SECRET; it has the bucket BUCKET."""
    with _running(folder, "s3", ACCESS, SECRET, BUCKET, address=address) as (port, authority):
        yield S3(port, authority)
