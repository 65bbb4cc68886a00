"""A Git host, a registry of artifacts and an S3 server outside of a cluster, as one process in another network namespace.

    python -m support.outside_servers FOLDER ADDRESS        (inside that namespace: nsenter)

Prints one line of JSON with URLs, ports and the data of Secrets; then answers a line of JSON for each line on standard input:
``{"artifact": NAME, "tag": TAG}``, ``{"objects": PREFIX}`` and ``{"branch": NAME, "repository": NAME}`` give files as path to text.
The repository ``acme/templates`` holds the example template sets; ``acme/shop`` and the bucket's prefix ``workspace`` hold what the
golden tests of two sets start from. Ends with its standard input.
"""

import asyncio
import base64
import gzip
import io
import json
import subprocess
import sys
import tarfile
import threading
from pathlib import Path
from typing import Any

import orjson
import urllib3

from support.artifact_servers import BUCKET, PASSWORD, S3, USER, Registry, oci_registry, s3_server
from support.git_host import GitHost, git
from support.tcp_proxy import TcpProxy

EXAMPLES = Path(__file__).resolve().parents[2] / "examples/templates"
GOLDEN = {
    "service": "service/_templates/service/new/_tests/python",
    "terraform": "terraform/_templates/terraform/module/_tests/bucket",
    "chart": "chart/_templates/chart/new/_tests/plain",
    "api": "api/_templates/api/crud/_tests/order",
    "monorepo": "monorepo/_templates/monorepo/package/_tests/typescript",
}
"""A golden test of each set: its variables, what it starts from, what has to come out. None of them
prints an object of variables in the order of its keys: the API server sorts them."""


def texts(folder: Path) -> dict[str, str]:
    """All files below a folder."""
    return {
        path.relative_to(folder).as_posix(): path.read_text() for path in sorted(folder.rglob("*")) if path.is_file()
    }


def _forward(address: str, ports: list[int]) -> None:
    """Lets the servers, which listen on loopback, be called at the address too."""

    async def run() -> None:
        for port in ports:
            await TcpProxy("127.0.0.1", port).start(address, port)
        ready.set()
        await asyncio.Event().wait()

    ready = threading.Event()
    threading.Thread(target=lambda: asyncio.run(run()), daemon=True).start()
    assert ready.wait(10)


def _artifact(registry: Registry, name: str, tag: str) -> dict[str, str]:
    base = f"https://localhost:{registry.port}/v2/{name}"
    headers = urllib3.make_headers(basic_auth=f"{USER}:{PASSWORD}")
    with urllib3.PoolManager(ca_cert_data=registry.authority.decode()) as pool:
        accept = {"Accept": "application/vnd.oci.image.manifest.v1+json"}
        manifest = orjson.loads(pool.request("GET", f"{base}/manifests/{tag}", headers=headers | accept).data)
        layer = pool.request("GET", f"{base}/blobs/{manifest['layers'][0]['digest']}", headers=headers).data
    with tarfile.open(fileobj=io.BytesIO(gzip.decompress(layer))) as archive:
        found = {}
        for member in archive.getmembers():
            content = archive.extractfile(member)
            if content is not None:
                found[member.name.removeprefix("./")] = content.read().decode()
        return found


def _objects(s3: S3, prefix: str) -> dict[str, str]:
    client = s3.client()
    names = [str(item.object_name) for item in client.list_objects(BUCKET, prefix=f"{prefix}/", recursive=True)]
    found = {name.removeprefix(f"{prefix}/"): client.get_object(BUCKET, name).data.decode() for name in names}
    client._http.clear()
    return found


def _branch(host: GitHost, repository: str, branch: str) -> dict[str, str]:
    bare = host.root / f"{repository}.git"
    names = git(bare, "ls-tree", "-r", "--name-only", branch).splitlines()
    # Not by git(), which strips what it returns.
    show = ("git", "-C", str(bare), "show")
    return {
        name: subprocess.run([*show, f"{branch}:{name}"], check=True, capture_output=True, text=True).stdout
        for name in names
    }


def _data(data: dict[str, bytes]) -> dict[str, str]:
    return {key: base64.b64encode(value).decode() for key, value in data.items()}


def main() -> None:
    """See the module's text."""
    folder, address = Path(sys.argv[1]), sys.argv[2]
    host = GitHost(folder / "git", address)
    host.create("acme/templates", texts(EXAMPLES))
    host.create("acme/shop", texts(EXAMPLES / GOLDEN["api"] / "base"))
    with oci_registry(folder / "oci", address) as registry, s3_server(folder / "s3", address) as s3:
        base = texts(EXAMPLES / GOLDEN["monorepo"] / "base")
        s3.put({f"workspace/{path}": text.encode() for path, text in base.items()})
        _forward(address, [registry.port, s3.port])
        docker = {
            "auths": {f"{address}:{registry.port}": {"auth": base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()}}
        }
        told: dict[str, Any] = {
            "git": {"url": host.url, "port": host.port, "secret": host.secret},
            "oci": {
                "url": f"oci://{address}:{registry.port}",
                "port": registry.port,
                "secret": _data({".dockerconfigjson": orjson.dumps(docker), "ca.crt": registry.authority}),
            },
            "s3": {
                "endpoint": f"https://{address}:{s3.port}",
                "bucket": BUCKET,
                "port": s3.port,
                "secret": _data(s3.credentials),
            },
        }
        print(json.dumps(told), flush=True)
        for line in sys.stdin:
            asked = json.loads(line)
            if "artifact" in asked:
                answer = _artifact(registry, asked["artifact"], asked["tag"])
            elif "objects" in asked:
                answer = _objects(s3, asked["objects"])
            else:
                answer = _branch(host, asked["repository"], asked["branch"])
            print(json.dumps(answer), flush=True)
    host.close()


if __name__ == "__main__":
    main()
