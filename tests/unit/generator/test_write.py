"""Writing: all or nothing, also when killed at any point; never through links; permissions kept."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from support.trees import run, tree
from unjucks_api.reasons import Reason
from unjucks_runtime.generator import FolderTree, GenerationError, read_tree, recover, write_atomically
from unjucks_runtime.generator import write as write_module
from unjucks_runtime.generator.result import File, Status
from unjucks_runtime.generator.write import PREFIX, write_files

FILES = {"a.njk": "new a\n", "sub/deep/b.njk": "new b\n", "run.sh.njk": ("#!/bin/sh\n", 0o755)}


def contents(folder: Path) -> dict[str, str]:
    return {path: item[0].decode() for path, item in read_tree(folder).items()}


def file(path: str, text: str = "x", mode: int = 0o644) -> File:
    return File(path, Status.CREATED, text.encode(), mode, "")


class TestNewFolder:
    def test_appears_whole(self, tmp_path: Path) -> None:
        target = tmp_path / "not" / "yet"
        assert write_atomically(run(FILES), target) == ["a", "run.sh", "sub/deep/b"]
        assert contents(target) == {"a": "new a\n", "sub/deep/b": "new b\n", "run.sh": "#!/bin/sh\n"}
        assert stat.S_IMODE((target / "run.sh").stat().st_mode) & 0o100
        assert os.listdir(tmp_path / "not") == ["yet"]

    def test_a_failure_leaves_nothing(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def full(*_: object) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(write_module, "_sync_folders", full)
        with pytest.raises(OSError, match="No space"):
            write_atomically(run(FILES), tmp_path / "new")
        assert os.listdir(tmp_path) == []


class TestExistingFolder:
    def test_changes_and_keeps_the_rest(self, tmp_path: Path) -> None:
        (tmp_path / "other").write_text("mine")
        (tmp_path / "a").write_text("old")
        (tmp_path / "a").chmod(0o600)
        result = run(FILES, base={"a": "old"}, on_conflict="overwrite")
        write_atomically(result, tmp_path)
        assert contents(tmp_path) == {"a": "new a\n", "sub/deep/b": "new b\n", "run.sh": "#!/bin/sh\n", "other": "mine"}
        assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o600

    def test_conflicts_write_nothing(self, tmp_path: Path) -> None:
        (tmp_path / "a").write_text("mine")
        with FolderTree(tmp_path) as base:
            result = run(FILES, base={"a": base["a"][0].decode()})
        with pytest.raises(GenerationError) as caught:
            write_atomically(result, tmp_path)
        assert caught.value.reason is Reason.CONFLICT
        assert contents(tmp_path) == {"a": "mine"}

    @pytest.mark.parametrize("link", ["a", "sub", "sub/deep"])
    def test_links_are_not_followed(self, tmp_path: Path, link: str) -> None:
        outside = tmp_path / "outside"
        outside.mkdir()
        (outside / "victim").write_text("safe")
        target = tmp_path / "target"
        (target / link).parent.mkdir(parents=True)
        (target / link).symlink_to(outside / "victim" if link == "a" else outside)
        with pytest.raises(GenerationError) as caught:
            write_atomically(run(FILES), target)
        assert caught.value.reason is Reason.PATH_REJECTED
        assert contents(outside) == {"victim": "safe"}
        assert not (target / "run.sh").exists()

    def test_a_file_where_a_folder_is_needed(self, tmp_path: Path) -> None:
        (tmp_path / "sub").write_text("file")
        with pytest.raises(GenerationError) as caught:
            write_atomically(run(FILES), tmp_path)
        assert caught.value.reason is Reason.OUTPUT_COLLISION
        assert contents(tmp_path) == {"sub": "file"}

    def test_special_files(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "a")
        with pytest.raises(GenerationError, match="no regular file"):
            write_atomically(run(FILES), tmp_path)

    @pytest.mark.parametrize("path", ["../x", "/etc/x", ".git/hooks/x", "a//b", "a\\b"])
    def test_paths_are_checked_again(self, tmp_path: Path, path: str) -> None:
        with pytest.raises(GenerationError):
            write_files([file(path)], tmp_path)
        assert os.listdir(tmp_path) == []

    def test_a_failure_while_moving_is_rolled_back(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "a").write_text("old a")
        real = os.rename
        moved: list[object] = []

        def rename(source: str, target: str, **more: int) -> None:
            if target == "x":
                raise OSError(5, "Input/output error")
            moved.append(target)
            real(source, target, **more)

        monkeypatch.setattr(os, "rename", rename)
        with pytest.raises(OSError, match="Input/output"):
            write_files([file("a", "new"), file("made/b"), file("made/x")], tmp_path)
        assert {"a", "b"} <= set(moved)
        assert contents(tmp_path) == {"a": "old a"}
        assert os.listdir(tmp_path) == ["a"]

    def test_a_removal_is_rolled_back_too(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "sub").mkdir()
        (tmp_path / "sub" / "old").write_text("old")
        real = os.rename

        def rename(source: str, target: str, **more: int) -> None:
            if target == "x":
                raise OSError(5, "Input/output error")
            real(source, target, **more)

        monkeypatch.setattr(os, "rename", rename)
        with pytest.raises(OSError, match="Input/output"):
            write_files([File("sub/old", Status.REMOVED, b"", 0o644, ""), file("x")], tmp_path)
        assert contents(tmp_path) == {"sub/old": "old"}

    def test_removals_take_empty_folders_along_and_no_others(self, tmp_path: Path) -> None:
        for path in ("one/two/gone", "kept/gone", "kept/mine"):
            (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / path).write_text("x")
        write_files([File(p, Status.REMOVED, b"", 0o644, "") for p in ("one/two/gone", "kept/gone", "never")], tmp_path)
        assert contents(tmp_path) == {"kept/mine": "x"}
        assert os.listdir(tmp_path) == ["kept"]


KILLED = """
import os, signal, sys
folder, first = sys.argv[1], int(sys.argv[2])
sys.path[:0] = sys.argv[3:]
from unjucks_runtime.generator.result import File, Status
from unjucks_runtime.generator.write import write_files

def counted(name, state):
    real = getattr(os, name)
    def wrapper(*args, **more):
        if state["left"] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        state["left"] -= 1
        return real(*args, **more)
    setattr(os, name, wrapper)

def run(step):
    state = {"left": step}
    for name in ("open", "mkdir", "write", "rename", "link", "unlink", "rmdir", "fsync"):
        counted(name, state)
    target = os.path.join(folder, str(step), "target")
    made = [File(p, Status.CREATED, b"new " + p.encode(), 0o644, "") for p in ("a", "b", "sub/c", "made/d")]
    write_files([*made, File("dead/deep/e", Status.REMOVED, b"", 0o644, "")], target)

# One child for each step, killed before its system call of that number; the parent only starts and waits.
step = first
while True:
    child = os.fork()
    if child == 0:
        run(step)
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    if status == 0:
        break
    assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL, status
    step += 1
print(step)
"""
OLD = {"a": "old a", "sub/c": "old c", "kept": "kept", "dead/deep/e": "old e"}
NEW = {"a": "new a", "b": "new b", "sub/c": "new sub/c", "made/d": "new made/d", "kept": "kept"}


class TestKilled:
    """kill -9 before each single system call of a write, with real processes."""

    def run(self, folder: Path, first: int = 0) -> int:
        """Runs until a child is not killed any more; the number of that step."""
        command = [sys.executable, "-c", KILLED, str(folder), str(first), *sys.path]
        done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
        assert done.returncode == 0, done.stderr
        return int(done.stdout)

    @pytest.mark.timeout(120)
    def test_at_every_step_it_is_the_old_tree_or_the_new_one(self, tmp_path: Path) -> None:
        for step in range(200):
            for path, text in OLD.items():
                place = tmp_path / str(step) / "target" / path
                place.parent.mkdir(parents=True, exist_ok=True)
                place.write_text(text)
        last = self.run(tmp_path)
        outcomes = []
        for step in range(last):
            folder = tmp_path / str(step) / "target"
            recover(folder)
            found = contents(folder)
            assert found in (OLD, NEW), (step, found)
            outcomes.append(found == NEW)
            assert not [name for name in os.listdir(folder) if name.startswith(PREFIX)]
        assert contents(tmp_path / str(last) / "target") == NEW
        assert not (tmp_path / str(last) / "target" / "dead").exists()
        assert 40 < last < 199
        # Old up to one step, the commit; new from then on.
        assert outcomes == sorted(outcomes)
        assert set(outcomes) == {True, False}

    @pytest.mark.timeout(120)
    def test_a_new_folder_is_there_whole_or_not_at_all(self, tmp_path: Path) -> None:
        for step in range(100):
            (tmp_path / str(step)).mkdir()
        last = self.run(tmp_path)
        wanted = {path: text for path, text in NEW.items() if path != "kept"}
        seen = [(tmp_path / str(step) / "target").exists() for step in range(last + 1)]
        assert seen == sorted(seen)
        assert set(seen) == {True, False}
        for step in range(last + 1):
            if seen[step]:
                assert contents(tmp_path / str(step) / "target") == wanted
            else:
                left = os.listdir(tmp_path / str(step))
                write_files([file("a")], tmp_path / str(step) / "target")
                assert os.listdir(tmp_path / str(step)) == ["target"], left


class TestReading:
    def test_links_are_refused_and_named(self, tmp_path: Path) -> None:
        (tmp_path / "sub").mkdir()
        (tmp_path / "sub" / "link").symlink_to("/etc/passwd")
        with pytest.raises(GenerationError, match=r"sub/link: .* is a link"):
            read_tree(tmp_path)

    def test_folders_that_are_no_source_are_left_out(self, tmp_path: Path) -> None:
        for path in (".git/config", "node_modules/x/y", "src/a"):
            (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / path).write_text("x")
        assert set(read_tree(tmp_path)) == {"src/a"}

    def test_a_base_is_read_on_demand(self, tmp_path: Path) -> None:
        (tmp_path / "a").write_text("x")
        (tmp_path / "d").mkdir()
        (tmp_path / "l").symlink_to("a")
        with FolderTree(tmp_path) as base:
            assert base["a"] == (b"x", 0o644)
            assert base.get("none") is None
            assert base.get("a/below") is None
            for path in ("l", "d", "../x", ".git/config"):
                with pytest.raises(GenerationError):
                    base.get(path)
        with FolderTree(tmp_path / "nowhere") as base:
            assert dict(base) == {}

    def test_a_generation_does_not_read_through_links(self, tmp_path: Path) -> None:
        (tmp_path / "secret").write_text("secret\n")
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "x").symlink_to(tmp_path / "secret")
        from support.trees import action_set
        from unjucks_runtime.generator import generate

        with FolderTree(tmp_path / "out") as base, pytest.raises(GenerationError, match="link"):
            generate(action_set({"a.njk": "---\nto: x\nappend: true\n---\ny\n"}), "gen", "new", {}, base=base)


def test_trees_of_tests_are_trees() -> None:
    assert tree({"a": ("x", 0o755), "b": b"\0"}) == {"a": (b"x", 0o755), "b": (b"\0", 0o644)}
