"""The command line without a cluster: help, checking and printing the configuration, exit codes."""

import json
from pathlib import Path

import pytest
import yaml

from unjucks_operator import config
from unjucks_operator.__main__ import EXIT_CODES, _hide, main
from unjucks_operator.config import Config
from unjucks_operator.engine.logs import Secrets
from unjucks_operator.engine.process import Exit


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("POD_NAME", "POD_NAMESPACE", "UNJUCKS_DATABASE_DSN", "KUBERNETES_SERVICE_HOST"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def bad(tmp_path: Path) -> str:
    path = tmp_path / "operator.yaml"
    path.write_text("workers: {jobs: 0}\nlogging: {level: LOUD}\n")
    return str(path)


def test_help_documents_every_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    assert ended.value.code == 0
    text = capsys.readouterr().out
    for code in Exit:
        assert f"  {code.value}  {dict(EXIT_CODES)[code]}" in text


def test_a_good_configuration_is_said_to_be_good(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--check-config"]) == 0
    assert capsys.readouterr().out == "the configuration is good\n"
    assert main(["--check-config", "--output", "json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"valid": True, "problems": []}


def test_every_problem_is_listed(bad: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--config", bad, "--check-config"]) == 3
    told = capsys.readouterr()
    assert told.out == ""
    assert "workers.jobs" in told.err
    assert "logging.level" in told.err
    assert main(["--config", bad, "--check-config", "--output", "json"]) == 3
    answer = json.loads(capsys.readouterr().out)
    assert answer["valid"] is False
    assert len(answer["problems"]) == 2


def test_a_bad_configuration_does_not_start(bad: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--config", bad]) == 3
    assert "the configuration has 2 problem(s)" in capsys.readouterr().err


@pytest.mark.parametrize("output", ["text", "json"])
def test_the_printed_configuration_is_complete_and_hides_the_secret(
    output: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UNJUCKS_DATABASE_DSN", "postgresql://u:hunter-two@h/d")
    monkeypatch.setenv("UNJUCKS_CACHE_URLS", "redis://:hunter-three@one queue=redis://:hunter-four@two")
    assert main(["--print-config", "--output", output]) == 0
    text = capsys.readouterr().out
    for secret in ("hunter-two", "hunter-three", "hunter-four"):
        assert secret not in text
    shown = json.loads(text) if output == "json" else yaml.safe_load(text)
    assert shown.keys() == config.dump(Config()).keys()
    assert shown["workers"] == config.dump(Config())["workers"]


def test_no_log_shows_an_address_or_its_password() -> None:
    urls = "redis://:hunter-three@one\nqueue=redis://u:hunter-four@two"
    secrets = Secrets()
    _hide(
        config.load(None, {"UNJUCKS_CACHE_URLS": urls, "UNJUCKS_DATABASE_DSN": "postgresql://u:hunter-two@h/d"}),
        secrets,
    )
    for secret in ("hunter-two", "hunter-three", "hunter-four", "queue=redis://u:hunter-four@two"):
        assert secret not in secrets.redact(f"it said: {secret}!")
    assert secrets.redact("it said: one") == "it said: one", "the control"


def test_a_wrong_command_line_is_a_usage_error() -> None:
    for arguments in (["--nonsense"], ["--check-config", "--print-config"], ["--check-conf"], ["extra"]):
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        assert ended.value.code == Exit.USAGE
