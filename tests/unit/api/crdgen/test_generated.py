"""The committed files are what the generator makes; the generator writes, checks, and says what it did."""

import json
from pathlib import Path

import pytest
import yaml

from unjucks_api import names
from unjucks_api.conditions import ConditionType
from unjucks_api.crdgen import __main__ as command
from unjucks_api.crdgen.crd import HEADER, build_crd, chart_template, render_yaml
from unjucks_api.markers import X_RULES
from unjucks_api.v1alpha1 import KINDS
from unjucks_api.v1alpha1.common import Object

ROOT = Path(__file__).resolve().parents[4]


@pytest.mark.parametrize("path", command.generated_files(), ids=str)
def test_no_drift(path: Path) -> None:
    assert (ROOT / path).read_text(encoding="utf-8") == command.generated_files()[path], "run `make generate`"


def test_nothing_stale_is_left_in_the_repository() -> None:
    assert command.stale_files(ROOT, command.generated_files()) == []


def test_the_same_models_give_the_same_bytes() -> None:
    assert command.generated_files() == command.generated_files()


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_the_file_holds_the_object(kind: type[Object]) -> None:
    crd = build_crd(kind)
    text = render_yaml(crd)
    assert text.startswith(HEADER)
    assert yaml.safe_load(text) == crd
    assert "x-unjucks" not in text
    assert "&id" not in text


@pytest.mark.parametrize("path", command.generated_files(), ids=str)
def test_the_files_are_small(path: Path) -> None:
    assert (ROOT / path).stat().st_size < 100_000


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_names_and_rules_of_the_crd(kind: type[Object]) -> None:
    crd = build_crd(kind)
    assert crd["metadata"]["name"] == f"{crd['spec']['names']['plural']}.{names.GROUP}"
    (version,) = crd["spec"]["versions"]
    assert (version["name"], version["served"], version["storage"]) == (names.VERSION, True, True)
    schema = version["schema"]["openAPIV3Schema"]
    assert schema["properties"]["metadata"] == {"type": "object"}
    assert len(schema[X_RULES]) == len(kind.rules)
    conditions = schema["properties"]["status"]["properties"]["conditions"]
    assert conditions["x-kubernetes-list-map-keys"] == ["type"]
    assert conditions["maxItems"] >= len(ConditionType)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_the_chart_copy_is_the_same_object_between_its_conditions(kind: type[Object]) -> None:
    lines = chart_template(build_crd(kind)).splitlines()
    assert lines[1] == "{{- if .Values.crds.enabled }}"
    assert lines[-1] == "{{- end }}"
    start = lines.index("  {{- if .Values.crds.keep }}")
    assert lines[start + 1 : start + 4] == ["  annotations:", "    helm.sh/resource-policy: keep", "  {{- end }}"]
    kept = [line for number, line in enumerate(lines[2:-1], start=2) if not start <= number < start + 4]
    assert yaml.safe_load("\n".join(kept).replace('{{ "{{" }}', "{{")) == build_crd(kind)


def test_template_brackets_in_texts_survive_helm() -> None:
    crd = build_crd(KINDS[0])
    crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["description"] = "Prints {{ name }}."
    assert 'Prints {{ "{{" }} name }}.' in chart_template(crd)


# --- the command ---------------------------------------------------------------------------------------------------------
def test_write_then_check_then_repair(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["--out", str(tmp_path)]) == 0
    assert command.main(["--out", str(tmp_path), "--check"]) == 0
    assert "7 files unchanged, 0 written, 0 removed" in capsys.readouterr().out

    (tmp_path / "crds/tenants.yaml").write_text("something else")
    stale = tmp_path / "charts/unjucks-operator/templates/crds/gone.yaml"
    stale.write_text(HEADER + "kind: Gone\n")
    foreign = tmp_path / "crds/hand-written.yaml"
    foreign.write_text("kind: Mine\n")
    assert command.main(["--out", str(tmp_path), "--check"]) == 1
    errors = capsys.readouterr().err
    assert "crds/tenants.yaml is not what the models say; run `make generate`" in errors
    assert "gone.yaml" in errors
    assert "hand-written" not in errors
    assert (tmp_path / "crds/tenants.yaml").read_text() == "something else"

    assert command.main(["--out", str(tmp_path), "--output", "json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["written"] == ["crds/tenants.yaml"]
    assert report["removed"] == ["charts/unjucks-operator/templates/crds/gone.yaml"]
    assert len(report["unchanged"]) == 6
    assert foreign.exists()
    assert not stale.exists()


def test_a_finding_of_the_lint_stops_everything(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("unjucks_api.crdgen.lint.MAX_CRD_BYTES", 100)  # so that a rule is broken without a broken model
    assert command.main(["--out", str(tmp_path)]) == 1
    assert "keep it below 100 [crd-size]" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_checking_a_folder_that_is_not_there_is_wrong_usage(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        command.main(["--check", "--out", str(tmp_path / "nowhere")])
    assert stopped.value.code == 2
    assert "no such folder" in capsys.readouterr().err


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "crds").write_text("a file where a folder should be")
    with pytest.raises(SystemExit) as stopped:
        command.main(["--out", str(tmp_path)])
    assert stopped.value.code == 2
    assert "crds" in capsys.readouterr().err


# --- the reference -------------------------------------------------------------------------------------------------------
def test_the_reference_has_every_field_with_its_text() -> None:
    page = (ROOT / command.REFERENCE).read_text(encoding="utf-8")
    for kind in KINDS:
        section = page.split(f"\n## {kind.definition.kind}\n")[1].split("\n## ")[0]
        schema = build_crd(kind)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]
        for part in ("spec", "status"):
            for name, child in schema[part]["properties"].items():
                assert f"| `{part}.{name}` |" in section
                assert child["description"].replace("|", "\\|") in section


def test_tables_of_the_reference_are_whole() -> None:
    page = (ROOT / command.REFERENCE).read_text(encoding="utf-8")
    rows = [line for line in page.splitlines() if line.startswith(("| `spec", "| `status"))]
    assert len(rows) > 150
    assert all(line.replace("\\|", "").count("|") == 4 for line in rows)
