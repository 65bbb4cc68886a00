"""Looking for sensitive data through the wire: warn, redact and block, in generated files and in templates."""

import base64
import hashlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from support.renderer import running_renderer
from unjucks_api.reasons import Reason
from unjucks_api.render_protocol import AnalyzeRequest, OnFinding, RenderRequest, SourceFile
from unjucks_api.tree import tree_digest
from unjucks_operator.errors import Terminal
from unjucks_operator.renderers.ca import Authority
from unjucks_operator.renderers.client import RendererClient

pytestmark = pytest.mark.integration

UID = "5d9a3b1e-0000-4000-8000-00000000dddd"
TOKEN = "ghp" + "_" + "a1B2" * 9
"""Put together, so that no scanner of repositories takes this file for a leak."""
TREE = {
    "_templates/app/new/config.txt.njk": (b"---\nto: config.txt\n---\nuser = me\ntoken = {{ token }}\n", 0o644),
    "_templates/app/new/clean.txt.njk": (b"---\nto: clean.txt\n---\nnothing\n", 0o644),
}


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def client(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RendererClient]:
    async with running_renderer(UID, authority, tmp_path_factory.mktemp("renderer")) as process:
        made = process.client(authority)
        yield made
        await made.close()


def sources(tree: dict[str, tuple[bytes, int]]) -> list[SourceFile]:
    return [SourceFile(path=path, content=base64.b64encode(c).decode(), mode=mode) for path, (c, mode) in tree.items()]


def request(on_finding: OnFinding, **changes: Any) -> RenderRequest:
    fields: dict[str, Any] = {
        "task": "task-1",
        "digest": tree_digest(TREE),
        "files": sources(TREE),
        "generator": "app",
        "action": "new",
        "variables": {"token": TOKEN},
        "on_finding": on_finding,
    }
    return RenderRequest.model_validate(fields | changes)


@pytest.mark.asyncio(loop_scope="module")
async def test_warn_tells_and_publishes(client: RendererClient) -> None:
    result = await client.render(request(OnFinding.WARN))
    contents = {file.path: base64.b64decode(file.content) for file in result.files}
    assert contents["config.txt"] == f"user = me\ntoken = {TOKEN}\n".encode()
    assert [(it.path, it.line, it.column, it.detector) for it in result.findings] == [
        ("config.txt", 2, 9, "github-token")
    ]
    assert result.findings_total == 1


@pytest.mark.asyncio(loop_scope="module")
async def test_redact_takes_it_out_and_the_digests_fit(client: RendererClient) -> None:
    result = await client.render(request(OnFinding.REDACT))
    files = {file.path: file for file in result.files}
    content = base64.b64decode(files["config.txt"].content)
    assert content == b"user = me\ntoken = [REDACTED:github-token]\n"
    assert files["config.txt"].sha256 == hashlib.sha256(content).hexdigest()
    assert files["config.txt"].size == len(content)
    assert base64.b64decode(files["clean.txt"].content) == b"nothing\n"
    assert result.findings_total == 1
    assert TOKEN not in result.model_dump_json()


@pytest.mark.asyncio(loop_scope="module")
async def test_block_fails_with_the_place_and_without_the_data(client: RendererClient) -> None:
    with pytest.raises(Terminal) as caught:
        await client.render(request(OnFinding.BLOCK))
    assert caught.value.reason is Reason.SENSITIVE_DATA_BLOCKED
    assert "config.txt:2:9: github-token (40 characters, not shown)" in caught.value.message
    assert TOKEN not in caught.value.message
    clean = await client.render(request(OnFinding.BLOCK, variables={"token": "none"}))
    assert clean.findings == []


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize(("on_finding", "severity"), [(OnFinding.WARN, "warning"), (OnFinding.BLOCK, "error")])
async def test_templates_are_searched_when_they_arrive(
    client: RendererClient, on_finding: OnFinding, severity: str
) -> None:
    tree = TREE | {"_templates/app/new/leak.txt.njk": (f"a\nkey: {TOKEN}\n".encode(), 0o644)}
    analysis = await client.analyze(AnalyzeRequest(files=sources(tree), on_finding=on_finding))
    (problem,) = [it for it in analysis.problems if "sensitive" in it.message]
    assert (problem.path, problem.line, problem.severity) == ("_templates/app/new/leak.txt.njk", 2, severity)
    assert TOKEN not in problem.message
