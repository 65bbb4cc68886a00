"""The committed files that are generated, and the generator of the chart's README."""

import pytest
import yaml

from support import chart, generated


@pytest.mark.parametrize("path", [*generated.pure(), *generated.rendered()])
def test_the_file_is_up_to_date(path: str) -> None:
    assert generated.stale({path: (generated.pure() | generated.rendered())[path]}) == [], "run `make generate`"


def test_the_readme_documents_every_value() -> None:
    text = (chart.CHART / "values.yaml").read_text(encoding="utf-8")
    documented = [path for path, _, _ in generated.documented_values(text)]
    assert len(documented) == len(set(documented))
    missing = [
        path
        for path in _leaves(yaml.safe_load(text))
        if not any(path == known or path.startswith(known + ".") for known in documented)
    ]
    assert missing == []


def test_a_value_without_a_text_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"values\.yaml: b\.c has no comment"):
        list(generated.documented_values("# -- Text.\na: 1\nb:\n  c: 2\n"))


def test_texts_of_several_lines_and_of_groups() -> None:
    text = "# -- One\n# two.\na:\n  b: 1\n  c: {d: 2}\n# no text\ne:\n  # -- Three.\n  f: x\n"
    assert list(generated.documented_values(text)) == [
        ("a", {"b": 1, "c": {"d": 2}}, "One two."),
        ("e.f", "x", "Three."),
    ]


def test_the_static_file_brings_its_namespace_first_and_the_kinds_before_everything_else() -> None:
    kinds = [item["kind"] for item in yaml.safe_load_all(generated.install_manifest()) if item]
    assert kinds[0] == "Namespace"
    assert kinds[1:4] == ["CustomResourceDefinition"] * 3
    assert {"Deployment", "ClusterRole", "ConfigMap", "NetworkPolicy"} <= set(kinds)
    assert not {"Secret", "StatefulSet"} & set(kinds)
    assert "helm.sh/" not in generated.install_manifest()


def _leaves(values: dict[str, object], prefix: str = "") -> list[str]:
    found = []
    for key, value in values.items():
        found += _leaves(value, f"{prefix}{key}.") if isinstance(value, dict) and value else [prefix + key]
    return found
