"""The template sets that are shipped as examples, through a real renderer: every golden test gives exactly its expected files."""

import base64
from pathlib import Path

import pytest

from support.renderer import running_renderer
from unjucks_api.render_protocol import AnalyzeRequest, RenderRequest, SourceFile
from unjucks_operator.errors import OperatorError
from unjucks_operator.renderers.ca import Authority
from unjucks_operator.renderers.client import RendererClient, RenderFailure
from unjucks_runtime.generator import load_tree, read_tree
from unjucks_runtime.generator.model import Action, TestCase

pytestmark = pytest.mark.timeout(120)

SETS = sorted(path for path in (Path(__file__).parents[3] / "examples" / "templates").iterdir() if path.is_dir())


def sources(tree: dict[str, tuple[bytes, int]]) -> list[SourceFile]:
    return [SourceFile(path=path, content=base64.b64encode(c).decode(), mode=mode) for path, (c, mode) in tree.items()]


@pytest.mark.parametrize("folder", SETS, ids=lambda path: path.name)
async def test_golden_tests_through_the_wire(authority: Authority, tmp_path: Path, folder: Path) -> None:
    tree = read_tree(folder)
    known = load_tree(tree)
    async with running_renderer("uid", authority, tmp_path) as renderer:
        client = renderer.client(authority)
        try:
            analysis = await client.analyze(AnalyzeRequest(files=sources(dict(tree))))
            assert [
                problem for action in analysis.actions for problem in action.problems if problem.severity == "error"
            ] == []
            assert analysis.digest == known.digest
            ran = 0
            for action in known.actions:
                for case in action.tests:
                    for _ in range(3):  # the third time from a set that is kept parsed
                        await check(client, action, case, analysis.digest, analysis.files)
                    ran += 1
            assert ran > 0
        finally:
            await client.close()


async def check(client: RendererClient, action: Action, case: TestCase, digest: str, files: list[SourceFile]) -> None:
    request = RenderRequest(
        task=case.name,
        digest=digest,
        files=files,
        generator=action.generator,
        action=action.action,
        variables=dict(case.variables),
        base=sources(dict(case.base)),
    )
    if case.expected_error:
        with pytest.raises(OperatorError) as caught:
            await client.render(request)
        assert isinstance(caught.value, RenderFailure)
        assert caught.value.reason == case.expected_error.splitlines()[0].strip()
        return
    result = await client.render(request)
    real = {file.path: (base64.b64decode(file.content), file.mode) for file in result.files if file.action != "skipped"}
    assert real == dict(case.expected), case.name
