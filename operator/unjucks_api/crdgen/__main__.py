"""``unjucks-crdgen``: write the CRDs, the chart's copies and the API reference, or check that they are up to date.

    unjucks-crdgen [--check] [--out DIR] [--output text|json]

Exit status: 0 all is well, 1 a rule of the lint is broken or (with --check) a file differs, 2 wrong usage. The only module of
the generator that touches files. Called by ``make generate`` and by ``.ci/run``.
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from unjucks_api.crdgen import reference
from unjucks_api.crdgen.crd import HEADER, build_crd, chart_template, file_name, render_yaml
from unjucks_api.crdgen.lint import check_kind
from unjucks_api.crdgen.schema import SchemaError
from unjucks_api.v1alpha1 import KINDS

CRD_FOLDER = Path("crds")
CHART_FOLDER = Path("charts/unjucks-operator/templates/crds")
REFERENCE = Path("docs/reference/api.md")


@dataclass
class Outcome:
    """What happened, for people and for programs."""

    written: list[str] = field(default_factory=list)
    unchanged: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    differing: list[str] = field(default_factory=list)
    findings: list[str] = field(default_factory=list)

    @property
    def good(self) -> bool:
        """Whether the exit status is 0."""
        return not self.differing and not self.findings


def generated_files() -> dict[Path, str]:
    """Every generated file of the repository: path relative to its root, and text."""
    files: dict[Path, str] = {}
    for kind in KINDS:
        crd = build_crd(kind)
        files[CRD_FOLDER / file_name(kind)] = render_yaml(crd)
        files[CHART_FOLDER / file_name(kind)] = chart_template(crd)
    files[REFERENCE] = reference.render(KINDS)
    return files


def stale_files(root: Path, wanted: Mapping[Path, str]) -> list[Path]:
    """Files of ours below ``root`` that no kind asks for any more; only those that carry our header."""
    found = []
    for folder in (CRD_FOLDER, CHART_FOLDER):
        for path in sorted((root / folder).glob("*.yaml")):
            relative = path.relative_to(root)
            if relative not in wanted and path.read_text(encoding="utf-8").startswith(HEADER):
                found.append(relative)
    return found


def run(root: Path, *, check: bool) -> Outcome:
    """Lint, then write below ``root`` what differs; with ``check`` only compare. Nothing is written when the lint fails."""
    outcome = Outcome(findings=[str(finding) for kind in KINDS for finding in check_kind(kind)])
    if outcome.findings:
        return outcome
    wanted = generated_files()
    for relative, text in wanted.items():
        path = root / relative
        if path.is_file() and path.read_text(encoding="utf-8") == text:
            outcome.unchanged.append(str(relative))
        elif check:
            outcome.differing.append(str(relative))
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
            outcome.written.append(str(relative))
    for relative in stale_files(root, wanted):
        if check:
            outcome.differing.append(str(relative))
        else:
            (root / relative).unlink()
            outcome.removed.append(str(relative))
    return outcome


def _print_text(outcome: Outcome) -> None:
    for finding in outcome.findings:
        print(finding, file=sys.stderr)
    for path in outcome.differing:
        print(f"{path} is not what the models say; run `make generate`", file=sys.stderr)
    for word, paths in (("written", outcome.written), ("removed", outcome.removed)):
        for path in paths:
            print(f"{word}: {path}")
    if outcome.good:
        print(
            f"{len(outcome.unchanged)} files unchanged, {len(outcome.written)} written, {len(outcome.removed)} removed"
        )


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="unjucks-crdgen", description="Generate CRDs and the API reference from the models."
    )
    parser.add_argument("--check", action="store_true", help="write nothing; fail when a file differs")
    parser.add_argument(
        "--out", type=Path, default=Path("."), metavar="DIR", help="root of the repository (default: here)"
    )
    parser.add_argument("--output", choices=("text", "json"), default="text", help="form of the report (default: text)")
    options = parser.parse_args(arguments)
    if options.check and not options.out.is_dir():
        parser.error(f"--out {options.out}: there is no such folder to check")
    try:
        outcome = run(options.out, check=options.check)
    except SchemaError as error:
        outcome = Outcome(findings=[str(error)])
    except OSError as error:
        parser.error(f"{error.filename}: {error.strerror}")
    if options.output == "json":
        print(json.dumps(vars(outcome), indent=2))
    else:
        _print_text(outcome)
    return 0 if outcome.good else 1


if __name__ == "__main__":
    sys.exit(main())
