"""What the operator believes of a renderer's answer: nothing that it cannot compute again."""

import base64
import hashlib

import pytest

from unjucks_api.reasons import Reason
from unjucks_api.render_protocol import AnalyzeResponse, Limits, OutputFile, RenderResponse, SourceFile
from unjucks_api.tree import tree_digest
from unjucks_operator.renderers.client import RenderFailure, printable, verified_analysis, verified_render


def output(path: str = "a.txt", content: bytes = b"x", **changes: object) -> OutputFile:
    fields = {
        "path": path,
        "content": base64.b64encode(content).decode(),
        "size": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
    }
    return OutputFile.model_validate(fields | changes)


def response(*files: OutputFile) -> RenderResponse:
    return RenderResponse(files=list(files), engine_version="1", cpu_seconds=0, wall_seconds=0, max_rss_bytes=0)


def test_a_right_answer_passes_unchanged() -> None:
    answer = response(
        output("bin/run", b"#!", mode=0o755),
        output("b.txt", b""),
        output("old", b"", action="skipped", sha256="", size=0),
    )
    assert verified_render(answer, Limits()) is answer


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ([output(sha256="0" * 64)], Reason.MANIFEST_MISMATCH),
        ([output(size=7)], Reason.MANIFEST_MISMATCH),
        ([output(content=b"x", mode=0o4755)], Reason.MANIFEST_MISMATCH),
        ([output(mode=0o777)], Reason.MANIFEST_MISMATCH),
        ([output().model_copy(update={"content": "QQ="})], Reason.MANIFEST_MISMATCH),
        ([output("a.txt", action="skipped"), output("A.TXT")], Reason.PATH_REJECTED),
        ([output("../a")], Reason.PATH_REJECTED),
        ([output("/etc/passwd")], Reason.PATH_REJECTED),
        ([output(".git/config")], Reason.PATH_REJECTED),
        ([output("a"), output("a/b")], Reason.PATH_REJECTED),
        ([output("e\u0301.txt")], Reason.PATH_REJECTED),
        ([output("a"), output("a")], Reason.PATH_REJECTED),
        ([output(content=b"y" * 11)], Reason.OUTPUT_TOO_LARGE),
        ([output("a"), output("b"), output("c"), output("d")], Reason.OUTPUT_TOO_LARGE),
    ],
)
def test_a_wrong_answer_is_refused(files: list[OutputFile], reason: Reason) -> None:
    with pytest.raises(RenderFailure) as caught:
        verified_render(response(*files), Limits(output_bytes=10, files=3))
    assert caught.value.reason is reason


def analysis(files: dict[str, bytes], **changes: object) -> AnalyzeResponse:
    fields = {
        "digest": tree_digest({path: (content, 0o644) for path, content in files.items()}),
        "files": [SourceFile(path=path, content=base64.b64encode(c).decode()) for path, c in files.items()],
        "actions": [],
        "engine_version": "1",
    }
    return AnalyzeResponse.model_validate(fields | changes)


def test_an_analysis_is_believed_when_digest_and_paths_are_right() -> None:
    answer = analysis({"a/b": b"1", "c": b"2"})
    assert verified_analysis(answer, Limits()) is answer


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (analysis({"a": b"1"}, digest="sha256:" + "0" * 64), Reason.MANIFEST_MISMATCH),
        (analysis({"a": b"1"}).model_copy(update={"files": []}), Reason.MANIFEST_MISMATCH),
        (analysis({"../a": b"1"}), Reason.PATH_REJECTED),
        (analysis({"a": b"x" * 20}), Reason.ARCHIVE_TOO_LARGE),
    ],
)
def test_a_wrong_analysis_is_refused(answer: AnalyzeResponse, reason: Reason) -> None:
    with pytest.raises(RenderFailure) as caught:
        verified_analysis(answer, Limits(source_bytes=10))
    assert caught.value.reason is reason


def test_texts_from_a_renderer_cannot_steer_a_terminal() -> None:
    assert printable("a\x1b[31mb\u202ec\nd") == "a\ufffd[31mb\ufffdc\nd"
