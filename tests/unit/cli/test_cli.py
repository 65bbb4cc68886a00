"""The ``unjucks`` command as people and scripts run it: real processes, a real terminal where it matters, exit codes, JSON."""

import json
import os
import pty
import re
import select
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from unjucks_runtime.cli.app import app
from unjucks_runtime.cli.output import Exit, Failure
from unjucks_runtime.cli.sets import read_set
from unjucks_runtime.generator import load_tree

COMMAND = [sys.executable, "-W", "error", "-m", "unjucks_runtime.cli"]
EXAMPLES = Path(__file__).parents[3] / "examples" / "templates"
ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")

ACTION = """\
description: A page
variables:
  name: {type: string, pattern: "^[a-z-]+$", description: Its name}
  port: {type: integer, minimum: 1}
  withTests: {type: boolean, default: false}
  tags: {type: array, items: {type: string}, default: []}
  mode: {type: string, enum: [fast, slow], default: fast}
"""
PAGE = '---\nto: "{{ name }}.txt"\nmessage: "open {{ name }}"\n---\n{{ name }} {{ port }} {{ mode }} {{ tags | join("+") }}\n'
TEST = '---\nto: "{{ name }}.test"\nif: withTests\n---\ntest\n'


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a set, as the working directory."""
    for path, text in {"action.yaml": ACTION, "page.njk": PAGE, "test.njk": TEST}.items():
        place = tmp_path / "_templates" / "web" / "page" / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("UNJUCKS_TEMPLATES", raising=False)
    return tmp_path


class Done:
    """What a command left: exit code, output, and the JSON of it."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err

    @property
    def json(self) -> Any:
        return json.loads(self.out)


def unjucks(*words: str, stdin: str | None = None) -> Done:
    """Runs a command in this process (quick); a pipe is what it sees."""
    result = CliRunner().invoke(app, list(words), input=stdin, prog_name="unjucks")
    if isinstance(result.exception, Failure):
        return Done(int(result.exception.code), result.stdout, result.stderr)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return Done(result.exit_code, result.stdout, result.stderr)


class TestNew:
    def test_flags_become_variables(self, here: Path) -> None:
        done = unjucks("new", "web", "page", "--name", "home", "--port=80", "--with-tests", "--set", 'tags=["a","b"]')
        assert done.code == 0, done.out
        assert (here / "home.txt").read_text() == "home 80 fast a+b\n"
        assert (here / "home.test").exists()
        assert done.json["summary"]["created"] == 2
        assert done.json["messages"] == ["open home"]

    @pytest.mark.parametrize(
        "words",
        [
            ["web", "page", "home", "port=80"],
            ["web/page", "home", "--port", "80"],
            ["web", "name=home", "port=80"],
            ["web", "page", "--port", "80", "--no-with-tests", "home"],
            ["web", "page", "home", "--port", "80", "--with_tests", "false"],
        ],
    )
    def test_ways_to_say_it(self, here: Path, words: list[str]) -> None:
        done = unjucks("new", *words)
        assert done.code == 0, done.out
        assert (here / "home.txt").read_text() == "home 80 fast \n"
        assert not (here / "home.test").exists()

    def test_data_files_and_stdin_and_their_order(self, here: Path) -> None:
        (here / "a.yaml").write_text("name: a\nport: 1\ntags: [x]\n")
        (here / "b.json").write_text('{"port": 2}')
        assert unjucks("new", "web", "page", "--data", "a.yaml", "--data", "b.json", "--mode", "slow").code == 0
        assert (here / "a.txt").read_text() == "a 2 slow x\n"
        assert unjucks("new", "web", "page", "--data", "-", "--dest", "o", stdin="name: s\nport: 3\n").code == 0
        assert (here / "o" / "s.txt").read_text() == "s 3 fast \n"

    def test_twice_is_a_no_op_and_a_changed_file_a_conflict(self, here: Path) -> None:
        words = ["new", "web", "page", "home", "--port", "80"]
        unjucks(*words)
        assert unjucks(*words).json["summary"] == {
            "created": 0, "updated": 0, "unchanged": 1, "skipped": 0, "conflicted": 0, "removed": 0,
        }  # fmt: skip
        (here / "home.txt").write_text("mine\n")
        done = unjucks(*words)
        assert done.code == Exit.CONFLICT
        assert done.json["ok"] is False
        assert (here / "home.txt").read_text() == "mine\n"
        assert unjucks(*words, "--skip-existing").code == 0
        assert (here / "home.txt").read_text() == "mine\n"
        assert unjucks(*words, "--force").code == 0
        assert (here / "home.txt").read_text() == "home 80 fast \n"

    def test_dry_run_writes_nothing(self, here: Path) -> None:
        done = unjucks("new", "web", "page", "home", "--port", "80", "--dry-run")
        assert done.code == 0
        assert done.json["files"][0]["action"] == "created"
        assert not (here / "home.txt").exists()

    def test_manifest_lets_unedited_files_be_updated(self, here: Path) -> None:
        words = ["new", "web", "page", "home", "--manifest", "m.json"]
        assert unjucks(*words, "--port", "80").code == 0
        assert json.loads((here / "m.json").read_text())["files"][0]["path"] == "home.txt"
        assert unjucks(*words, "--port", "81").code == 0
        assert (here / "home.txt").read_text() == "home 81 fast \n"
        (here / "home.txt").write_text("mine")
        assert unjucks(*words, "--port", "82").code == Exit.CONFLICT

    @pytest.mark.parametrize(
        ("words", "code", "reason"),
        [
            (["web", "page"], Exit.VARIABLES, "VariablesMissing"),
            (["web", "page", "HOME", "--port", "x"], Exit.VARIABLES, "VariablesInvalid"),
            (["web", "page", "home", "--prot", "1"], Exit.VARIABLES, "VariablesInvalid"),
            (["web", "page", "home", "more", "--port", "1"], Exit.VARIABLES, "VariablesInvalid"),
            (["web", "page", "--port"], Exit.VARIABLES, "VariablesInvalid"),
            (["web", "page", "--data", "none.yaml"], Exit.NOT_FOUND, "SourceNotFound"),
            (["web", "pag"], Exit.NOT_FOUND, "TemplateNotFound"),
            (["wbe", "page"], Exit.NOT_FOUND, "TemplateNotFound"),
            ([], Exit.NOT_FOUND, "TemplateNotFound"),
            (["web", "page", "-t", "nowhere"], Exit.NOT_FOUND, "PathNotFound"),
        ],
    )
    def test_failures_have_codes_and_reasons(self, here: Path, words: list[str], code: Exit, reason: str) -> None:
        done = unjucks("new", *words)
        assert (done.code, done.json["error"]["reason"]) == (code, reason)

    def test_all_problems_are_listed_for_people(self, here: Path) -> None:
        done = unjucks("new", "web", "page", "HOME", "--port", "x", "--oops", "1", "-o", "text")
        assert "name: must match the pattern" in done.err
        assert 'port: must be a whole number, got text ("x")' in done.err
        assert "oops: is not a known variable" in done.err

    def test_template_errors_show_place_and_source(self, here: Path) -> None:
        (here / "_templates/web/page/page.njk").write_text("---\nto: a\n---\nfine\n  {{ nowhere }}\n")
        done = unjucks("new", "web", "page", "home", "--port", "1", "-o", "text")
        assert done.code == Exit.FAILED
        assert "_templates/web/page/page.njk:5:" in done.err
        assert "     5 |   {{ nowhere }}" in done.err
        assert "^" in done.err

    def test_yaml_data_errors_have_a_place(self, here: Path) -> None:
        (here / "bad.yaml").write_text("a: 1\na: 2\n")
        error = unjucks("new", "web", "page", "--data", "bad.yaml").json["error"]
        assert (error["path"], error["line"], error["message"]) == ("bad.yaml", 2, "the key 'a' stands twice")

    def test_options_of_the_set_hold(self, here: Path) -> None:
        (here / "unjucks.yaml").write_text("engine: {undefined: Empty}\n")
        (here / "_templates/web/page/page.njk").write_text("---\nto: a\n---\n[{{ nowhere }}]")
        assert unjucks("new", "web", "page", "home", "--port", "1").code == 0
        assert (here / "a").read_text() == "[]"

    def test_generate_is_the_same(self, here: Path) -> None:
        assert unjucks("generate", "web", "page", "home", "--port", "1").code == 0

    def test_a_link_in_the_way(self, here: Path) -> None:
        (here / "home.txt").symlink_to("/etc/hostname")
        done = unjucks("new", "web", "page", "home", "--port", "1")
        assert (done.code, done.json["error"]["reason"]) == (Exit.FAILED, "PathRejected")

    def test_an_interrupted_write_is_finished_first(self, here: Path) -> None:
        journal = here / ".unjucks-journal-0.committed"
        (journal / "new").mkdir(parents=True)
        (journal / "new" / "0").write_text("home 80 fast \n")
        (journal / "journal.json").write_text('{"paths": ["home.txt"], "folders": []}')
        done = unjucks("new", "web", "page", "home", "--port", "80")
        assert done.json["summary"]["unchanged"] == 1
        assert "interrupted write" in done.err
        assert not journal.exists()


class TestLook:
    def test_list(self, here: Path) -> None:
        (action,) = unjucks("list").json["actions"]
        assert (action["generator"], action["action"], action["description"]) == ("web", "page", "A page")
        assert action["schema"]["required"] == ["name", "port"]
        assert "name*, port*, withTests" in unjucks("list", "-o", "text").out

    def test_describe(self, here: Path) -> None:
        assert unjucks("describe", "web").json["templates"][1]["to"] == "{{ name }}.test"
        text = unjucks("describe", "web", "page", "-o", "text").out
        for words in ("A page", "fast", "Its name", "{{ name }}.test  if withTests", "unjucks new web page --name"):
            assert words in text

    def test_found_upwards_and_by_environment(
        self, here: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        (here / "deep" / "er").mkdir(parents=True)
        monkeypatch.chdir(here / "deep" / "er")
        assert unjucks("list").code == 0
        monkeypatch.chdir("/")
        assert unjucks("list").code == Exit.NOT_FOUND
        monkeypatch.setenv("UNJUCKS_TEMPLATES", str(here))
        assert unjucks("list").code == 0

    def test_a_folder_of_sets_is_named(self, here: Path) -> None:
        error = unjucks("list", "-t", str(here.parent)).json["error"]
        assert error["reason"] == "NoTemplates"
        assert here.name in error["message"]

    @pytest.mark.parametrize("words", [("list",), ("describe", "api"), ("new", "api", "crud"), ("diff", "api", "crud")])
    def test_a_folder_of_sets_that_is_called_templates(
        self, words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delenv("UNJUCKS_TEMPLATES", raising=False)
        named = unjucks(*words, "-t", str(EXAMPLES), "-o", "json")
        monkeypatch.chdir(EXAMPLES)
        inside = unjucks(*words, "-o", "json")
        for done in (named, inside):
            assert done.code == Exit.NOT_FOUND
            assert done.json["error"]["reason"] == "NoTemplates"
            assert "the sets api, chart, monorepo, service, terraform" in done.json["error"]["message"]
            assert str(EXAMPLES / "api") in done.json["error"]["message"]

    def test_diff(self, here: Path) -> None:
        words = ["web", "page", "home", "--port", "80"]
        done = unjucks("diff", *words)
        assert done.code == Exit.FOUND
        assert done.out.startswith("diff --git a/home.txt b/home.txt\nnew file mode 100644\n")
        assert unjucks("diff", *words, "-o", "json").json["diff"] == done.out
        unjucks("new", *words)
        assert unjucks("diff", *words).code == 0
        assert unjucks("diff", *words, "-y").code == 0
        (here / "home.txt").write_text("mine\n")
        assert "-mine\n+home 80 fast \n" in unjucks("diff", *words).out

    def test_a_diff_can_be_applied(self, here: Path, tmp_path: Path) -> None:
        done = unjucks("diff", "web", "page", "home", "--port", "80", "--with-tests")
        (here / "out").mkdir()
        subprocess.run(["git", "init", "-q", "out"], check=True)
        subprocess.run(["git", "-C", "out", "apply"], input=done.out, text=True, check=True)
        assert (here / "out/home.txt").read_text() == "home 80 fast \n"

    def test_lint(self, here: Path) -> None:
        assert unjucks("lint").json == {"ok": True, "actions": 1, "problems": []}
        (here / "_templates/web/page/bad.njk").write_text("a\n{{ x | nothing }}")
        done = unjucks("lint", "-o", "text")
        assert done.code == Exit.FOUND
        assert "_templates/web/page/bad.njk:2:" in done.out
        assert "unknown filter 'nothing'" in done.out

    def test_lint_strict(self, here: Path) -> None:
        (here / "_templates/web/page/more.njk").write_text("{{ undeclared }}")
        assert unjucks("lint").code == 0
        assert unjucks("lint", "--strict").code == Exit.FOUND

    def test_lint_finds_credentials_and_shows_none(self, here: Path) -> None:
        token = "ghp" + "_" + "a1B2" * 9
        (here / "_templates/web/page/leak.njk").write_text(f"key: {token}\n")
        for output in ("text", "json"):
            done = unjucks("lint", "--strict", "-o", output)
            assert done.code == Exit.FOUND
            assert "github-token" in done.out
            assert token not in done.out

    def test_migrate(self, here: Path) -> None:
        assert unjucks("migrate").code == 0
        (here / "_templates/web/page/old.ejs.t").write_text("---\nto: a\n---\n<%= name %>")
        done = unjucks("migrate")
        assert done.code == Exit.FOUND
        assert {item["rule"] for item in done.json["findings"]} == {"ejs"}
        assert "{{ name }}" in unjucks("migrate", "-o", "text").out


class TestRender:
    def test_file_data_and_includes(self, here: Path) -> None:
        (here / "t.njk").write_text("{{ a }} {{ b.c }} {% include './p.njk' %}.\n")
        (here / "p.njk").write_text("P{{ a }}")
        (here / "d.json").write_text('{"a": 1, "b": {"c": [1, 2]}}')
        assert unjucks("render", "t.njk", "--data", "d.json").out == "1 1,2 P1.\n"
        assert unjucks("render", "t.njk", "--data", "d.json", "--set", "b.c=x", "-s", "a=true").out == "true x Ptrue.\n"

    def test_stdin_both_ways(self, here: Path) -> None:
        assert unjucks("render", "-", "--set", "a=1", stdin="{{ a + 1 }}").out == "2"
        (here / "t.njk").write_text("{{ a }}")
        assert unjucks("render", "t.njk", "--data", "-", stdin="a: yes").out == "yes"

    def test_to_a_file_and_errors(self, here: Path) -> None:
        (here / "t.njk").write_text("x\n{{ a.b }}")
        done = unjucks("render", "t.njk", "-o", "text")
        assert done.code == Exit.FAILED
        assert "t.njk:2" in done.err
        assert unjucks("render", "t.njk", "--undefined", "Empty", "--to", "o").code == 0
        assert (here / "o").read_text() == "x\n"
        assert unjucks("render", "none.njk", "-o", "json").code == Exit.NOT_FOUND
        assert unjucks("render", "t.njk", "--undefined", "Maybe").code == Exit.USAGE


class TestGolden:
    def test_update_then_pass_then_fail(self, here: Path) -> None:
        case = here / "_templates/web/page/_tests/plain"
        case.mkdir(parents=True)
        (case / "variables.yaml").write_text("name: home\nport: 1\n")
        assert unjucks("test").code == Exit.FOUND
        assert unjucks("test", "--update").json["updated"] == ["web/page: plain"]
        assert (case / "expected/home.txt").read_text() == "home 1 fast \n"
        assert unjucks("test").json["passed"] == 1
        (case / "expected/home.txt").write_text("other\n")
        done = unjucks("test", "-o", "text")
        assert done.code == Exit.FOUND
        assert "-other" in done.out
        assert unjucks("test", "web/page").code == Exit.FOUND
        assert unjucks("test", "nothing").code == Exit.FOUND

    def test_init_makes_a_set_that_passes(self, tmp_path: Path) -> None:
        folder = str(tmp_path / "new")
        assert unjucks("init", folder).code == 0
        assert unjucks("lint", "--strict", "-t", folder).code == 0
        assert unjucks("test", "-t", folder).json["ok"] is True
        dest = str(tmp_path / "out")
        words = ["new", "component", "new", "OrderList", "-t", folder, "--dest", dest]
        assert unjucks(*words).json["summary"]["created"] == 3
        assert unjucks(*words).json["summary"]["unchanged"] == 3
        assert unjucks("init", folder).code == Exit.CONFLICT


class TestProcess:
    """What only a real process shows."""

    def test_exit_code_and_streams_in_pipes(self, here: Path) -> None:
        done = subprocess.run(
            [*COMMAND, "new", "web", "page"], capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL
        )
        assert done.returncode == Exit.VARIABLES
        assert json.loads(done.stdout)["error"]["reason"] == "VariablesMissing"
        assert done.stderr == ""

    def test_help_usage_and_version(self, here: Path) -> None:
        assert "Exit codes" in unjucks("--help").out
        assert unjucks("--version").out.startswith("unjucks ")
        assert unjucks("bogus").code == Exit.USAGE
        assert unjucks("new", "web", "page", "--force", "--skip-existing").code == Exit.USAGE

    def test_shell_completion_knows_generators_and_actions(self, here: Path) -> None:
        environment = {
            **os.environ,
            "_UNJUCKS_COMPLETE": "complete_bash",
            "COMP_WORDS": "unjucks new w",
            "COMP_CWORD": "2",
        }
        done = subprocess.run(COMMAND, capture_output=True, text=True, env=environment, check=False)
        assert done.stdout.split() == ["web", "web/page"]

    def test_asks_on_a_terminal_until_it_fits(self, here: Path) -> None:
        text, code = on_terminal(
            [*COMMAND, "new", "web", "page"],
            [("name", "Bad Name"), ("must match", ""), ("name", "home"), ("port", "80")],
        )
        assert code == 0, text
        assert (here / "home.txt").read_text() == "home 80 fast \n"
        assert "created" in text
        assert "open home" in text

    def test_never_asks_when_told_not_to(self, here: Path) -> None:
        text, code = on_terminal([*COMMAND, "new", "web", "page", "--no-input"], [])
        assert code == Exit.VARIABLES
        assert "name: is required" in text

    def test_text_on_a_terminal_is_no_markup(self, here: Path) -> None:
        (here / "_templates/web/page/action.yaml").write_text("description: '[red]x[/red] [link=x]y'\n")
        text, code = on_terminal([*COMMAND, "list"], [])
        assert code == 0
        assert "[red]x[/red]" in text


def on_terminal(command: list[str], answers: list[tuple[str, str]]) -> tuple[str, int]:
    """Runs a command on a pseudo-terminal; types each answer when its words have appeared. (text, exit code)"""
    parent, child = pty.openpty()
    process = subprocess.Popen(command, stdin=child, stdout=child, stderr=child, close_fds=True, start_new_session=True)
    os.close(child)
    text, seen, pending = "", 0, list(answers)
    deadline = time.monotonic() + 25
    try:
        while time.monotonic() < deadline:
            if not select.select([parent], [], [], 0.5)[0]:
                continue
            try:
                data = os.read(parent, 65536)
            except OSError:  # the process has gone
                break
            if not data:
                break
            text += ANSI.sub("", data.decode("utf-8", "replace"))
            while pending and pending[0][0] in text[seen:]:
                words, answer = pending.pop(0)
                seen = text.index(words, seen) + len(words)
                if answer:
                    os.write(parent, answer.encode() + b"\n")
        return text, process.wait(timeout=5)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        os.close(parent)


class TestUpdate:
    """Runs after edits: --update merges, --check compares, --prune removes."""

    def new(self, *more: str, port: int = 1) -> Done:
        return unjucks("new", "web", "page", "--name", "a", "--port", str(port), "--manifest", "m.json", *more)

    def test_edits_are_kept_and_told(self, here: Path) -> None:
        page = here / "_templates" / "web" / "page" / "page.njk"
        page.write_text('---\nto: "{{ name }}.txt"\n---\nhead\n\n{{ port }}\n\ntail\n')
        assert self.new("--update").code == Exit.OK
        (here / "a.txt").write_text("my head\n\n1\n\ntail\n")
        assert self.new("--check").code == Exit.FOUND
        assert self.new(port=2).code == Exit.CONFLICT
        done = self.new("--update", port=2)
        assert (done.code, done.json["files"][0]["action"]) == (Exit.OK, "updated")
        assert (here / "a.txt").read_text() == "my head\n\n2\n\ntail\n"
        assert self.new("--update", port=2).json["summary"]["unchanged"] == 1
        (here / "a.txt").write_text("my head\n\nthree\n\ntail\n")
        assert self.new("--update", port=4).code == Exit.CONFLICT
        assert self.new("--update", "--markers", port=4).code == Exit.OK
        assert "<<<<<<< existing\nthree\n=======\n4\n>>>>>>> generated\n" in (here / "a.txt").read_text()

    def test_prune_removes_what_is_not_made_any_more(self, here: Path) -> None:
        assert self.new("--withTests").code == Exit.OK
        assert (here / "a.test").exists()
        assert self.new().json["summary"]["removed"] == 0
        assert self.new("--prune").json["summary"]["removed"] == 1
        assert not (here / "a.test").exists()
        assert self.new("--check").code == Exit.OK

    def test_check_writes_nothing(self, here: Path) -> None:
        assert self.new("--check").code == Exit.FOUND
        assert not (here / "a.txt").exists()
        assert not (here / "m.json").exists()

    @pytest.mark.parametrize(
        "words", [("--update",), ("--prune",), ("--check", "--force"), ("--markers", "--skip-existing")]
    )
    def test_what_excludes_each_other_is_told(self, here: Path, words: tuple[str, ...]) -> None:
        done = unjucks("new", "web", "page", "--name", "a", "--port", "1", *words)
        assert done.code == Exit.USAGE
        assert "--" in done.err

    def test_a_damaged_record_of_the_last_run_is_not_believed(self, here: Path) -> None:
        assert self.new("--update").code == Exit.OK
        record = json.loads((here / "m.json.last").read_text())
        record["files"]["a.txt"]["text"] = "something else"
        (here / "m.json.last").write_text(json.dumps(record))
        (here / "a.txt").write_text("mine\n")
        assert self.new("--update").code == Exit.CONFLICT


@pytest.mark.parametrize("name", ["api", "chart", "monorepo", "service", "terraform"])
def test_the_example_sets_by_the_command(name: str, tmp_path: Path) -> None:
    """`new` works with the data of a golden test; a second time it changes nothing, which `diff` says too."""
    loaded = load_tree(read_set(EXAMPLES / name))
    for action in loaded.actions:
        case = next(case for case in action.tests if not case.expected_error)
        dest = tmp_path / action.generator / action.action
        for path, (content, mode) in case.base.items():
            (dest / path).parent.mkdir(parents=True, exist_ok=True)
            (dest / path).write_bytes(content)
            (dest / path).chmod(mode)
        dest.mkdir(parents=True, exist_ok=True)
        data = tmp_path / "data.json"
        data.write_text(json.dumps(case.variables))
        words = [
            action.generator,
            action.action,
            "-t",
            str(EXAMPLES / name),
            "--dest",
            str(dest),
            "-d",
            str(data),
            "-y",
        ]
        assert unjucks("diff", *words).code == Exit.FOUND
        first = unjucks("new", *words, "-o", "json")
        assert first.code == 0, first.out
        assert {file["action"] for file in first.json["files"]} & {"created", "updated"}
        before = {path: path.stat().st_mtime_ns for path in dest.rglob("*")}
        second = unjucks("new", *words, "-o", "json")
        assert second.code == 0, second.out
        assert {file["action"] for file in second.json["files"]} <= {"unchanged", "skipped"}
        assert {path: path.stat().st_mtime_ns for path in dest.rglob("*")} == before
        assert unjucks("diff", *words).code == 0
