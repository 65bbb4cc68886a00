"""The demo: ``python -m e2e.demo up|down``. From an empty machine to generated files on a real cluster.

Exit codes: 0 done · 1 failed · 2 wrong usage · 3 something is missing on this machine (the message says what to run).
"""

import argparse
import json
import sys
import time
from typing import Any, Final

from e2e.cluster import packages, paths, provider
from e2e.cluster.errors import ClusterError
from e2e.cluster.progress import step
from e2e.cluster.provider import AnyCluster
from e2e.cluster.settings import DEFAULT_NAME
from e2e.install import InstallError, install

TENANT: Final = "acme"
NAMESPACE: Final = f"tenant-{TENANT}"
_WAIT: Final = "--timeout=180s"


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m e2e.demo",
        description="Bring up a cluster, install the operator, generate files from the examples.",
        epilog=(__doc__ or "").split("\n\n", 1)[-1],
    )
    parser.add_argument(
        "command", choices=("up", "down"), help="up: do it all; down: remove the cluster and everything in it"
    )
    parser.add_argument("--name", default=DEFAULT_NAME, help="name of the cluster (default: %(default)s)")
    options = parser.parse_args()
    packages.extend_path()
    try:
        return up(options.name) if options.command == "up" else down(options.name)
    except (ClusterError, InstallError) as error:
        print(f"error: {error}", file=sys.stderr)
        return getattr(error, "exit_code", 1)
    except KeyboardInterrupt:
        return 130


def up(name: str) -> int:
    """The whole demo."""
    started = time.monotonic()
    cluster = provider.up(name)
    install(cluster)
    before = _versions(cluster)
    with step("applying the examples"):
        _kubectl(cluster, "apply", "--filename", str(paths.REPOSITORY / "examples"))
    for what, where in (("tenant/" + TENANT, []), ("templateregistry", ["--all"]), ("generationjob", ["--all"])):
        with step(f"waiting for {what.partition('/')[0]} to be Ready"):
            namespace = [] if "/" in what else ["--namespace", NAMESPACE]
            _kubectl(cluster, "wait", "--for=condition=Ready", what, *where, *namespace, _WAIT)
    for kind in ("tenants", "templateregistries", "generationjobs"):
        _show(cluster, "get", kind, "--all-namespaces")
    for output in ("orders-api", "billing-api"):
        _print_files(cluster, output)
    changed = {key for key, value in _versions(cluster).items() if before.get(key) not in (None, value)}
    print(
        f"\nDone in {time.monotonic() - started:.0f} s."
        + ("" if changed or not before else " Nothing had to be changed.")
    )
    print(f"Go on with:  export KUBECONFIG={cluster.kubeconfig}\nRemove it with:  make demo-down")
    return 0


def down(name: str) -> int:
    """Remove the cluster."""
    print("removed" if provider.down(name) else "there was nothing to remove")
    return 0


def _versions(cluster: AnyCluster) -> dict[str, str]:
    """The version of every object of ours and of every output; empty on a new cluster."""
    found = cluster.kubectl(
        "get",
        "tenants,templateregistries,generationjobs,configmaps",
        "--all-namespaces",
        "--output",
        "json",
        check=False,
    )
    if found.returncode:
        return {}
    items: list[dict[str, Any]] = json.loads(found.stdout)["items"]
    return {
        f"{item['kind']}/{item['metadata'].get('namespace', '')}/{item['metadata']['name']}": item["metadata"][
            "resourceVersion"
        ]
        for item in items
        if item["kind"] != "ConfigMap" or "unjucks.io/job" in (item["metadata"].get("labels") or {})
    }


def _print_files(cluster: AnyCluster, output: str) -> None:
    found = json.loads(_kubectl(cluster, "get", "configmap", output, "--namespace", NAMESPACE, "--output", "json"))
    manifest = json.loads(found["data"]["manifest.json"])
    for file in manifest["files"]:
        print(f"\n--- {output}: {file['path']}  ({file['size']} bytes, sha256 {file['sha256'][:12]}…)")
        print(found["data"].get(file["key"], "(binary)"), end="")


def _show(cluster: AnyCluster, *arguments: str) -> None:
    print(f"\n$ kubectl {' '.join(arguments)}")
    print(_kubectl(cluster, *arguments), end="", flush=True)


def _kubectl(cluster: AnyCluster, *arguments: str) -> str:
    done = cluster.kubectl(*arguments, check=False)
    if done.returncode:
        state = cluster.kubectl("get", "unjucks", "--all-namespaces", "-o", "wide", check=False).stdout
        pods = cluster.kubectl("get", "pods", "--all-namespaces", "-o", "wide", check=False).stdout
        raise InstallError(f"kubectl {' '.join(arguments)}: {done.stderr}\n{state}\n{pods}")
    return done.stdout


if __name__ == "__main__":
    sys.exit(main())
