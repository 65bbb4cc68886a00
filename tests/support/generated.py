"""What is generated and committed, besides what ``unjucks-crdgen`` makes: writes it, or says what is out of date.

    python -m support.generated                   write everything
    python -m support.generated --check           exit code 1 and the names of files that are out of date
    python -m support.generated --check --pure    the same without what needs Helm (the static install file)

Each file has one source: code, values of the chart, the chart itself, the health check. Called by the Makefile and by tests.
"""

import argparse
import re
import sys
from collections.abc import Iterator, Mapping
from typing import Any, Final

import yaml

from support import chart
from unjucks_api.v1alpha1 import KINDS
from unjucks_operator import reference
from unjucks_webhooks import reference as webhooks_reference

ROOT: Final = chart.ROOT
CHART_README: Final = "charts/unjucks-operator/README.md"
INSTALL: Final = "manifests/install.yaml"
HEALTH: Final = "manifests/argocd/health/health.lua"
ARGOCD: Final = "manifests/argocd/argocd-cm.yaml"

_KEY = re.compile(r"^(?P<indent> *)(?P<key>[A-Za-z][A-Za-z0-9]*):")


def pure() -> dict[str, str]:
    """Path → text of every generated file that needs nothing but Python."""
    pages = {f"docs/reference/{name}": text for name, text in reference.pages().items()}
    pages["docs/reference/webhooks.md"] = webhooks_reference.page()
    return pages | {CHART_README: chart_readme(), ARGOCD: argocd_config()}


def rendered() -> dict[str, str]:
    """Path → text of every generated file that the real Helm renders."""
    return {INSTALL: install_manifest()}


# --- the chart's README -----------------------------------------------------------------------------------------------------


def documented_values(text: str) -> Iterator[tuple[str, Any, str]]:
    """(path, default, text) for each documented key of values.yaml, in its order. Raises ValueError for one without a text."""
    defaults = yaml.safe_load(text)
    stack: list[str] = []
    comment: list[str] = []
    skip_deeper_than: int | None = None
    for line in text.splitlines():
        stripped = line.strip()
        if stripped.startswith("# --"):
            comment = [stripped.removeprefix("# --").strip()]
        elif stripped.startswith("#") and comment:
            comment.append(stripped.removeprefix("#").strip())
        elif (found := _KEY.match(line)) is not None:
            depth = len(found["indent"]) // 2
            if skip_deeper_than is not None and depth > skip_deeper_than:
                continue
            stack = [*stack[:depth], found["key"]]
            value = defaults
            for key in stack:
                value = value[key]
            path = ".".join(stack)
            if comment:
                yield path, value, " ".join(comment)
                skip_deeper_than = depth
            elif isinstance(value, dict) and value and line.rstrip().endswith(":"):
                skip_deeper_than = None
            else:
                raise ValueError(f"values.yaml: {path} has no comment that starts with '# --'")
            comment = []


def chart_readme() -> str:
    """README.md of the chart."""
    information = yaml.safe_load((chart.CHART / "Chart.yaml").read_text(encoding="utf-8"))
    rows = [
        f"| `{path}` | {_default(value)} | {_cell(text)} |"
        for path, value, text in documented_values((chart.CHART / "values.yaml").read_text(encoding="utf-8"))
    ]
    return (
        "<!-- Generated from Chart.yaml and the comments of values.yaml. Do not edit: run `make generate`. -->\n\n"
        f"# {information['name']}\n\n"
        f"{information['description']}. Needs Kubernetes {information['kubeVersion'].removesuffix('-0')} and Helm 3.\n\n"
        "```sh\n"
        "helm upgrade --install unjucks charts/unjucks-operator --namespace unjucks-system --create-namespace\n"
        "```\n\n"
        "There is one release for each cluster: the names of its objects are fixed. How to install, upgrade, watch and remove\n"
        "it: [docs/operations.md](../../docs/operations.md). What it may do in the cluster:\n"
        "[docs/security.md](../../docs/security.md). The same objects without Helm:\n"
        "[manifests/install.yaml](../../manifests/install.yaml).\n\n"
        "## Values\n\n"
        "Every value is checked against `values.schema.json`; an unknown key is refused.\n\n"
        "| value | default | meaning |\n| --- | --- | --- |\n" + "\n".join(rows) + "\n"
    )


def _default(value: Any) -> str:
    if value in ("", {}, []):
        return "none"
    if isinstance(value, str):
        return f"`{value}`"
    text = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=10_000).strip()
    return f"`{text.removesuffix('...').strip()}`"


def _cell(text: str) -> str:
    return re.sub(r"<([a-z.]+)>", r"&lt;\1&gt;", text).replace("|", "\\|")


# --- manifests ----------------------------------------------------------------------------------------------------------------


class _Dumper(yaml.SafeDumper):
    """Texts of several lines stand as lines; lists are indented."""

    def represent_str(self, data: str) -> yaml.ScalarNode:
        style = "|" if "\n" in data else None
        return self.represent_scalar("tag:yaml.org,2002:str", data, style=style)

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> Any:
        return super().increase_indent(flow, False)


_Dumper.add_representer(str, _Dumper.represent_str)


def install_manifest() -> str:
    """The chart rendered for an external database, in an order in which everything exists before it is needed."""
    manifests = chart.render(chart.EXTERNAL)
    policies = ["ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding"]
    order = [
        "CustomResourceDefinition",
        *policies,
        "ServiceAccount",
        "ClusterRole",
        "Role",
        "ClusterRoleBinding",
        "RoleBinding",
    ]
    manifests.sort(key=lambda it: order.index(it["kind"]) if it["kind"] in order else len(order))
    namespace = {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {
            "name": chart.NAMESPACE,
            "labels": {
                "app.kubernetes.io/part-of": "unjucks",
                "pod-security.kubernetes.io/enforce": "restricted",
                "pod-security.kubernetes.io/warn": "restricted",
            },
        },
    }
    documents = [namespace, *(_without_helm(manifest) for manifest in manifests)]
    head = (
        "# Unjucks Operator without Helm: the chart rendered for an external PostgreSQL. Generated: run `make generate`.\n"
        "#\n"
        "#   kubectl create namespace unjucks-system\n"
        "#   kubectl -n unjucks-system create secret generic unjucks-database --from-file=dsn=dsn.txt\n"
        "#   kubectl apply --server-side -f manifests/install.yaml\n"
        "#\n"
        "# dsn.txt holds postgresql://login:password@host:5432/name, without a line break at its end. The images have to be\n"
        "# somewhere where your nodes find them; docs/operations.md has the rest.\n"
    )
    body = "---\n".join(
        yaml.dump(document, Dumper=_Dumper, sort_keys=False, width=10_000, allow_unicode=True) for document in documents
    )
    return f"{head}---\n{body}"


def _without_helm(manifest: dict[str, Any]) -> dict[str, Any]:
    """Without the marks by which Helm finds its own objects again."""
    for metadata in (
        manifest["metadata"],
        manifest.get("spec", {}).get("template", {}).get("metadata", {}),
    ):
        for group, keys in (
            ("labels", ("helm.sh/chart", "app.kubernetes.io/managed-by")),
            ("annotations", ("helm.sh/resource-policy",)),
        ):
            if group in metadata:
                metadata[group] = {key: value for key, value in metadata[group].items() if key not in keys}
                if not metadata[group]:
                    del metadata[group]
    return manifest


def argocd_config() -> str:
    """The health check as a patch of Argo CD's configuration, once for each kind."""
    script = (ROOT / HEALTH).read_text(encoding="utf-8")
    body = "".join(f"    {line}".rstrip() + "\n" for line in script.splitlines())
    head = (
        "# Health of our kinds in Argo CD. Generated from health/health.lua: run `make generate`.\n"
        "#\n"
        "#   kubectl -n argocd patch configmap argocd-cm --type=merge --patch-file manifests/argocd/argocd-cm.yaml\n"
        "data:\n"
    )
    kinds = sorted(kind.definition.kind for kind in KINDS)
    return head + "".join(f"  resource.customizations.health.unjucks.io_{kind}: |\n{body}" for kind in kinds)


# --- command ------------------------------------------------------------------------------------------------------------------


def stale(files: Mapping[str, str]) -> list[str]:
    """Paths whose committed text is another one."""
    return [
        path
        for path, text in files.items()
        if not (ROOT / path).exists() or (ROOT / path).read_text(encoding="utf-8") != text
    ]


def main() -> int:
    """Write or check."""
    parser = argparse.ArgumentParser(description="Writes the generated files of the repository, or checks them.")
    parser.add_argument("--check", action="store_true", help="write nothing; exit code 1 when a file is out of date")
    parser.add_argument("--pure", action="store_true", help="only files that need nothing but Python")
    options = parser.parse_args()
    files = pure() if options.pure else pure() | rendered()
    for path in (outdated := stale(files)):
        if not options.check:
            (ROOT / path).parent.mkdir(parents=True, exist_ok=True)
            (ROOT / path).write_text(files[path], encoding="utf-8")
        print(("out of date: " if options.check else "written: ") + path, file=sys.stderr)
    if outdated and options.check:
        print("run `make generate`", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
