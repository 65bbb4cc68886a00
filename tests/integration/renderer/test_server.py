"""A real renderer process on loopback, called by the operator's real client: who may call, what is refused, what ends how."""

import asyncio
import base64
import hashlib
import os
import signal
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import aiohttp
import orjson
import pytest
import pytest_asyncio
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import ExtendedKeyUsageOID

from support.renderer import RendererProcess, running_renderer, write_certificates
from unjucks_api import names
from unjucks_api.reasons import Reason
from unjucks_api.render_protocol import (
    ANALYZE_PATH,
    MAX_REQUEST_BYTES,
    RENDER_PATH,
    AnalyzeRequest,
    AnalyzeResponse,
    EngineOptions,
    ErrorResponse,
    Limits,
    RenderRequest,
    RenderResponse,
    SourceFile,
)
from unjucks_api.tree import tree_digest
from unjucks_operator.errors import Bug, OperatorError, Retryable, Unavailable
from unjucks_operator.renderers.ca import Authority, new_authority
from unjucks_operator.renderers.certificates import Leaf, certificate_pem, client_context, key_pem, new_key
from unjucks_operator.renderers.client import RendererClient, RenderFailure

from .conftest import ENVIRONMENT, HOSTILE

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(180)]

UID = "0b0e0f4c-5a3e-4f6e-9d5b-0a3b6d1f2c11"
TREE = {
    "_templates/api/new/action.yaml": (
        b"description: An API\nvariables:\n  type: object\n  required: [name]\n  additionalProperties: false\n  properties:\n"
        b"    name: {type: string, pattern: '^[a-z]+$'}\n    token: {type: string}\n",
        0o644,
    ),
    "_templates/api/new/main.py.njk": (b"---\nto: src/{{ name }}.py\n---\nNAME = '{{ name }}'\n", 0o644),
    "_templates/api/new/run.sh.njk": (b"---\nto: run.sh\nchmod: '0755'\n---\n#!/bin/sh\necho {{ name }}\n", 0o644),
}
NOW = datetime.now(UTC)


def sources(tree: dict[str, tuple[bytes, int]]) -> list[SourceFile]:
    return [SourceFile(path=path, content=base64.b64encode(c).decode(), mode=mode) for path, (c, mode) in tree.items()]


def request(do: str = "", *, tree: dict[str, tuple[bytes, int]] = TREE, **changes: Any) -> RenderRequest:
    fields: dict[str, Any] = {
        "task": "task-1",
        "digest": tree_digest(tree),
        "files": sources(tree),
        "generator": "api",
        "action": "new",
        "variables": {"do": do} if do else {"name": "orders"},
    }
    return RenderRequest.model_validate(fields | changes)


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def renderer(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RendererProcess]:
    """A renderer whose children obey the variable ``do``."""
    folder = tmp_path_factory.mktemp("renderer")
    async with running_renderer(
        UID,
        authority,
        folder,
        program=HOSTILE,
        environment=ENVIRONMENT,
        arguments=["--max-tasks", "2", "--warm-trees", "0"],
    ) as process:
        yield process


@pytest_asyncio.fixture(loop_scope="module")
async def client(renderer: RendererProcess, authority: Authority) -> AsyncIterator[RendererClient]:
    made = renderer.client(authority)
    yield made
    await made.close()


@asynccontextmanager
async def connected(
    renderer: RendererProcess, authority: Authority, leaf: Leaf | None = None
) -> AsyncIterator[RendererClient]:
    """A client of its own: with the operator's certificate, or with ``leaf``."""
    made = RendererClient(renderer.endpoint(), client_context(leaf or authority.issue_client(NOW)))
    try:
        yield made
    finally:
        await made.close()


@asynccontextmanager
async def serving(
    authority: Authority, folder: Path, *arguments: str, **options: Any
) -> AsyncIterator[tuple[RendererProcess, RendererClient]]:
    """A hostile renderer of the test's own, and its client."""
    options = {"program": HOSTILE, "environment": ENVIRONMENT, "arguments": ["--warm-trees", "0", *arguments]} | options
    async with (
        running_renderer(UID, authority, folder, **options) as renderer,
        connected(renderer, authority) as client,
    ):
        yield renderer, client


async def refused(call: Any) -> OperatorError:
    with pytest.raises(OperatorError) as caught:
        await call
    return caught.value


# --- the two tasks ----------------------------------------------------------------------------------------------------------


async def test_analysis_and_render(client: RendererClient) -> None:
    analysis = await client.analyze(AnalyzeRequest(files=sources(TREE)))
    assert analysis.digest == tree_digest(TREE)
    assert [(action.generator, action.action, action.valid) for action in analysis.actions] == [("api", "new", True)]
    assert [variable.name for variable in analysis.actions[0].variables] == ["name", "token"]
    result = await client.render(request())
    assert {file.path: (base64.b64decode(file.content), file.mode) for file in result.files} == {
        "run.sh": (b"#!/bin/sh\necho orders\n", 0o755),
        "src/orders.py": (b"NAME = 'orders'\n", 0o644),
    }
    assert result.cpu_seconds > 0
    assert result.wall_seconds > 0
    assert result.max_rss_bytes > 10_000_000


async def test_the_same_task_gives_the_same_bytes(client: RendererClient) -> None:
    first, second = await client.render(request()), await client.render(request())
    assert first.files == second.files


async def test_a_tree_is_sent_once(client: RendererClient, renderer: RendererProcess) -> None:
    tree = {**TREE, "README.md": (b"once", 0o644)}
    for _ in range(2):
        await client.render(request(tree=tree))
    assert tree_digest(tree) in client.known
    client.known.add("sha256:forgotten")
    with_files = request(tree={**TREE, "README.md": (b"never sent", 0o644)})
    client.known.add(with_files.digest)  # we believe that it has it, but it has not
    result = await client.render(with_files)
    assert len(result.files) == 2


async def test_a_tree_that_nobody_sent_is_asked_for(client: RendererClient) -> None:
    error = await refused(client.render(request(files=[], digest="sha256:" + "0" * 64)))
    assert isinstance(error, Bug)


async def test_variables_of_the_registry_belong_to_every_action(client: RendererClient) -> None:
    shared = {
        "type": "object",
        "required": ["org"],
        "properties": {"org": {"type": "string"}, "name": {"type": "integer"}},
    }
    tree = {**TREE, "_templates/api/new/main.py.njk": (b"---\nto: x\n---\n{{ org }}/{{ name }}\n", 0o644)}
    analysis = await client.analyze(AnalyzeRequest(files=sources(tree), shared_schema=shared))
    (action,) = analysis.actions
    assert action.valid
    assert sorted(action.schema_["properties"]) == ["name", "org", "token"]
    assert action.schema_["properties"]["name"]["type"] == "string"  # the action's own wins
    result = await client.render(request(tree=tree, shared_schema=shared, variables={"name": "a", "org": "acme"}))
    assert base64.b64decode(result.files[1].content) == b"acme/a\n"
    error = await refused(client.render(request(tree=tree, shared_schema=shared)))
    assert error.reason is Reason.VARIABLES_MISSING
    assert "org" in error.message


async def test_an_archive_is_unpacked_in_the_child(client: RendererClient) -> None:
    import gzip
    import io
    import tarfile

    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for path, (content, _) in TREE.items():
            info = tarfile.TarInfo(f"project-main/{path}")
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    packed = base64.b64encode(gzip.compress(stream.getvalue())).decode()
    analysis = await client.analyze(AnalyzeRequest(archive=packed, path="./project-main"))
    assert analysis.digest == tree_digest(TREE)
    bomb = base64.b64encode(gzip.compress(bytes(100_000_000))).decode()
    error = await refused(client.analyze(AnalyzeRequest(archive=bomb)))
    assert error.reason is Reason.ARCHIVE_TOO_LARGE


# --- failures keep their type and place -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"generator": "nothing"}, Reason.TEMPLATE_NOT_FOUND),
        ({"variables": {}}, Reason.VARIABLES_MISSING),
        ({"variables": {"name": "UPPER"}}, Reason.VARIABLES_INVALID),
        ({"variables": {"name": "a", "other": 1}}, Reason.VARIABLES_INVALID),
        ({"limits": Limits(output_bytes=3)}, Reason.LIMIT_EXCEEDED),
    ],
)
async def test_a_failed_task_says_why(client: RendererClient, changes: dict[str, Any], reason: Reason) -> None:
    error = await refused(client.render(request(**changes)))
    assert isinstance(error, RenderFailure)
    assert error.reason is reason


async def test_a_template_error_has_its_place(client: RendererClient) -> None:
    tree = {**TREE, "_templates/api/new/bad.txt.njk": (b"---\nto: x\n---\nline\n{% if %}\n", 0o644)}
    analysis = await client.analyze(AnalyzeRequest(files=sources(tree)))
    problem = next(item for item in analysis.actions[0].problems if item.severity == "error")
    assert (problem.path, problem.line) == ("_templates/api/new/bad.txt.njk", 5)
    error = await refused(client.render(request(tree=tree)))
    assert isinstance(error, RenderFailure)
    assert error.reason in (Reason.TEMPLATE_ERROR, Reason.TEMPLATES_INVALID)
    assert (error.path, error.line) == ("_templates/api/new/bad.txt.njk", 5)


async def test_an_undefined_variable_has_its_place_and_name(client: RendererClient) -> None:
    tree = {**TREE, "_templates/api/new/main.py.njk": (b"---\nto: x\n---\n{{ name }}\n  {{ token }}\n", 0o644)}
    error = await refused(client.render(request(tree=tree, engine=EngineOptions(undefined="Error"))))
    assert isinstance(error, RenderFailure)
    assert error.reason is Reason.UNDEFINED_VARIABLE
    assert (error.path, error.line) == ("_templates/api/new/main.py.njk", 5)
    assert "token" in error.message


async def test_files_with_another_digest_are_refused(client: RendererClient) -> None:
    error = await refused(client.render(request(digest="sha256:" + "1" * 64)))
    assert error.reason is Reason.MANIFEST_MISMATCH


@pytest.mark.parametrize(
    ("do", "limits", "kind", "reason"),
    [
        ("grow", Limits(memory_bytes=64 << 20), RenderFailure, Reason.LIMIT_EXCEEDED),
        ("spin", Limits(cpu_seconds=1), RenderFailure, Reason.LIMIT_EXCEEDED),
        ("sleep", Limits(wall_seconds=0.3), RenderFailure, Reason.LIMIT_EXCEEDED),
        ("flood", Limits(), RenderFailure, Reason.LIMIT_EXCEEDED),
        ("promise", Limits(), RenderFailure, Reason.LIMIT_EXCEEDED),
        ("garbage", Limits(), RenderFailure, Reason.MANIFEST_MISMATCH),
        ("no such thing", Limits(), RenderFailure, Reason.INTERNAL_ERROR),
        ("exit", Limits(), Retryable, Reason.RENDERER_LOST),
        ("die", Limits(), Retryable, Reason.RENDERER_LOST),
    ],
)
async def test_hostile_tasks_end_typed(
    client: RendererClient, do: str, limits: Limits, kind: type[OperatorError], reason: Reason
) -> None:
    error = await refused(client.render(request(do, limits=limits)))
    assert isinstance(error, kind)
    assert error.reason is reason
    assert len((await client.render(request())).files) == 2


@pytest.mark.parametrize(
    ("text", "limit"),
    [
        ("{% for i in range(999999999) %}x{% endfor %}", "items"),
        ("{% for i in range(9999) %}{% for j in range(9999) %}x{% endfor %}{% endfor %}", "work"),
        ("{% macro m(n) %}{{ m(n + 1) }}{% endmacro %}{{ m(0) }}", "macro_depth"),
        ('{% include "api/new/main.py.njk" %}', "include_depth"),
        ("{{ 'x' | center(999999999) }}", "string"),
        ("{{ 'x'.repeat(999999999) }}", "string"),
        ("{% set s = 'xxxxxxxx' %}{% for i in range(60) %}{% set s = s + s %}{% endfor %}", "string"),
        ("{% set l = [1] %}{% for i in range(60) %}{% set l = l.concat(l) %}{% endfor %}", "items"),
        ("{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}", "nesting"),
        ("{% if 1 %}" * 5000 + "{% endif %}" * 5000, "nesting"),
    ],
    ids=lambda value: value[:40],
)
async def test_bombs_in_templates_end_in_a_typed_failure(client: RendererClient, text: str, limit: str) -> None:
    tree = {**TREE, "_templates/api/new/main.py.njk": (b"---\nto: x\n---\n" + text.encode(), 0o644)}
    limits = Limits(memory_bytes=128 << 20, output_bytes=1 << 20)
    error = await refused(client.render(request(tree=tree, limits=limits)))
    assert isinstance(error, RenderFailure)
    assert (error.reason, error.limit) == (Reason.LIMIT_EXCEEDED, limit)
    assert (error.path, error.line) == ("_templates/api/new/main.py.njk", 4)


async def test_the_key_of_this_very_server_is_out_of_reach(client: RendererClient, renderer: RendererProcess) -> None:
    key = renderer.certificates / "tls.key"
    for do in (f"read {key}", f"stat {key}", f"write {key}", f"kill {renderer.pid}", "signal all"):
        assert (await client.render(request(do))).messages == ["denied"], do


async def test_secrets_are_masked_in_messages(client: RendererClient) -> None:
    tree = {
        **TREE,
        "_templates/api/new/main.py.njk": (b"---\nto: x\nmessage: use {{ token }}\n---\n{{ token }}\n", 0o644),
    }
    variables = {"name": "orders", "token": "hunter2hunter2"}
    result = await client.render(request(tree=tree, variables=variables, sensitive=["token"]))
    assert result.messages == ["use ***"]
    assert {file.path: file.sensitive for file in result.files} == {"run.sh": False, "x": True}


async def test_logs_hold_no_variables_and_no_contents(client: RendererClient, renderer: RendererProcess) -> None:
    marks = ("vvvariable", "cccontent", "ttttoken")
    tree = {**TREE, "_templates/api/new/main.py.njk": (b"---\nto: x\n---\ncccontent\n", 0o644)}
    await client.render(request(tree=tree, task="seen-in-log", variables={"name": "vvvariable", "token": "ttttoken"}))
    await refused(client.render(request(tree=tree, variables={"name": "vvvariable!", "token": "ttttoken"})))
    await refused(client.render(request("no such thing ttttoken")))
    await raw(renderer, client, b'{"variables": {"vvvariable": "ttttoken"}}')
    text = orjson.dumps(renderer.logs).decode()
    assert "seen-in-log" in text
    assert not [mark for mark in marks if mark in text]


# --- who may call -----------------------------------------------------------------------------------------------------------


def forged(authority: Authority, *identities: x509.GeneralName, usage: x509.ObjectIdentifier | None) -> Leaf:
    """A certificate that our authority would never issue, signed with its key."""
    key = new_key()
    issuer = authority.signer.certificate
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, names.OPERATOR_IDENTITY)]))
        .issuer_name(issuer.subject)
        .public_key(key.public_key())
        .serial_number(7)
        .not_valid_before(NOW - timedelta(hours=1))
        .not_valid_after(NOW + timedelta(hours=1))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.signer.key.public_key()), critical=False
        )
    )
    if identities:
        builder = builder.add_extension(x509.SubjectAlternativeName(identities), critical=False)
    if usage is not None:
        builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=True)
    certificate = builder.sign(authority.signer.key, hashes.SHA256())
    return Leaf(certificate_pem(certificate), key_pem(key), authority.bundle, "7", NOW, NOW)


CLIENT = ExtendedKeyUsageOID.CLIENT_AUTH
OPERATOR = x509.DNSName(names.OPERATOR_IDENTITY)


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda it: new_authority(NOW).issue_client(NOW), id="other authority"),
        pytest.param(lambda it: it.issue_client(NOW - timedelta(days=91)), id="expired"),
        pytest.param(lambda it: it.issue_client(NOW + timedelta(days=1)), id="not yet valid"),
        pytest.param(lambda it: it.issue_server(names.OPERATOR_IDENTITY, NOW), id="server certificate"),
        pytest.param(lambda it: it.issue_server(names.renderer_identity(UID), NOW), id="a renderer's own"),
    ],
)
async def test_a_wrong_certificate_ends_in_the_handshake(
    renderer: RendererProcess, authority: Authority, make: Callable[[Authority], Leaf]
) -> None:
    # With the right authority to check the server by: it is the server that has to refuse.
    async with connected(renderer, authority, replace(make(authority), bundle=authority.bundle)) as client:
        error = await refused(client.render(request()))
    assert isinstance(error, Retryable)
    assert error.reason in (Reason.RENDERER_LOST, Reason.RENDERER_UNAVAILABLE)


@pytest.mark.parametrize(
    "leaf",
    [
        pytest.param(lambda it: it.issue_client(NOW, "somebody.unjucks.io"), id="other name"),
        pytest.param(lambda it: forged(it, usage=CLIENT), id="name in the subject only"),
        pytest.param(lambda it: forged(it, OPERATOR, x509.DNSName("x"), usage=CLIENT), id="two names"),
        pytest.param(lambda it: forged(it, x509.RFC822Name("a@" + names.OPERATOR_IDENTITY), usage=CLIENT), id="mail"),
        pytest.param(
            lambda it: forged(it, x509.UniformResourceIdentifier(names.OPERATOR_IDENTITY), usage=CLIENT), id="URI"
        ),
        pytest.param(lambda it: forged(it, x509.DNSName("*.unjucks.io"), usage=CLIENT), id="wildcard"),
    ],
)
async def test_a_certificate_for_somebody_else_gets_403(
    renderer: RendererProcess, authority: Authority, leaf: Callable[[Authority], Leaf]
) -> None:
    async with connected(renderer, authority, leaf(authority)) as client:
        status, body = await raw(renderer, client, b"{}")
    assert status == 403
    assert ErrorResponse.model_validate_json(body).reason is Reason.NOT_PERMITTED


async def test_no_certificate_no_answer(renderer: RendererProcess, authority: Authority) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=authority.bundle.decode())
    client = RendererClient(renderer.endpoint(), context)
    error = await refused(client.render(request()))
    await client.close()
    assert isinstance(error, Retryable)


async def test_old_tls_is_refused(renderer: RendererProcess, authority: Authority) -> None:
    context = client_context(authority.issue_client(NOW))
    context.minimum_version, context.maximum_version = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_2
    client = RendererClient(renderer.endpoint(), context)
    error = await refused(client.render(request()))
    await client.close()
    assert isinstance(error, Unavailable)


async def test_a_renderer_of_another_tenant_is_not_spoken_to(renderer: RendererProcess, authority: Authority) -> None:
    """A pod's address was given to another tenant's pod: nothing is sent there."""
    wrong = renderer.endpoint().__class__(
        pod_uid="x", pod="x", ip=renderer.address, tenant_uid="another-uid", port=renderer.port
    )
    before = len(renderer.logs)
    client = RendererClient(wrong, client_context(authority.issue_client(NOW)))
    error = await refused(client.render(request()))
    await client.close()
    assert error.reason is Reason.RENDERER_UNAVAILABLE
    assert "prove" in error.message
    assert len(renderer.logs) == before


# --- requests that are none -------------------------------------------------------------------------------------------------


async def raw(
    renderer: RendererProcess, client: RendererClient, body: Any, path: str = RENDER_PATH, method: str = "POST"
) -> tuple[int, bytes]:
    async with client._session.request(
        method,
        f"https://{renderer.address}:{renderer.port}{path}",
        data=body,
        server_hostname=names.renderer_identity(renderer.tenant_uid),
        trace_request_ctx=SimpleNamespace(),
    ) as response:
        return response.status, await response.read()


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b"\xff\xfe",
        b"{}",
        b'{"task": 1}',
        b"[" * 100_000,
        b'{"a":' * 50_000,
        b"1" * 5000,
        b'{"task":"t","digest":"d","files":[],"generator":"g","action":"a","surprise":1}',
        b'{"task":"t","digest":"d","generator":"g","action":"a","limits":{"wall_seconds":1e400}}',
        b'{"task":"t","digest":"d","generator":"g","action":"a","limits":{"memory_bytes":1}}',
    ],
)
@pytest.mark.parametrize("path", [RENDER_PATH, ANALYZE_PATH])
async def test_garbage_is_a_clear_error(
    renderer: RendererProcess, client: RendererClient, body: bytes, path: str
) -> None:
    status, answer = await raw(renderer, client, body, path)
    error = ErrorResponse.model_validate_json(answer)
    if path == ANALYZE_PATH and body == b"{}":
        assert status == 422  # a request without any file: there is no such folder
    else:
        assert status == 400
        assert "protocol" in error.message
    assert not error.retryable


async def test_a_request_that_is_too_large(renderer: RendererProcess, client: RendererClient) -> None:
    async def endless() -> AsyncIterator[bytes]:
        for _ in range(MAX_REQUEST_BYTES // (1 << 20) + 2):
            yield b" " * (1 << 20)

    try:
        status, _ = await raw(renderer, client, endless())
    except aiohttp.ClientError:
        status = 413  # closed while it was still being sent: the answer could not be read
    assert status == 413
    big = request(variables={"name": "a", "token": "x" * MAX_REQUEST_BYTES})
    error = await refused(client.render(big))
    assert isinstance(error, RenderFailure)
    assert error.reason is Reason.ARCHIVE_TOO_LARGE
    assert len((await client.render(request())).files) == 2


@pytest.mark.parametrize(
    ("method", "path", "status"), [("GET", RENDER_PATH, 405), ("POST", "/v1/other", 404), ("GET", "/healthz", 404)]
)
async def test_other_paths(
    renderer: RendererProcess, client: RendererClient, method: str, path: str, status: int
) -> None:
    got, body = await raw(renderer, client, b"", path, method)
    assert got == status
    assert ErrorResponse.model_validate_json(body)


@pytest.mark.parametrize("path", ["../x", "/etc/x", "a/../b", ".git/config", "a\nb"])
async def test_bad_paths_in_a_tree(client: RendererClient, path: str) -> None:
    files = [SourceFile(path=path, content="")]
    for call in (client.render(request(files=files)), client.analyze(AnalyzeRequest(files=files))):
        assert (await refused(call)).reason is Reason.PATH_REJECTED


# --- how many, and the end --------------------------------------------------------------------------------------------------


async def busy(
    client: RendererClient, renderer: RendererProcess, count: int, do: str = "sleep"
) -> list[asyncio.Task[RenderResponse]]:
    """Tasks that take their time in children, once they really do.

    A task has its child only after the server admitted it. Children of earlier tasks are waited out first: one that is still
    ending must not be taken for one of these.
    """
    await settled(renderer)
    tasks = [asyncio.create_task(client.render(request(do, limits=Limits(wall_seconds=50)))) for _ in range(count)]
    async with asyncio.timeout(40):
        while len(grandchildren(renderer.pid)) < count + 1:  # with the spare
            assert not any(task.done() for task in tasks), tasks
            await asyncio.sleep(0.01)
    return tasks


def children(pid: int) -> list[int]:
    try:
        return [int(item) for item in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except (FileNotFoundError, ProcessLookupError):
        return []  # it has ended


def grandchildren(pid: int) -> list[int]:
    """The renderer's worker processes: children of its zygote."""
    return [worker for zygote in children(pid) for worker in children(zygote)]


async def settled(renderer: RendererProcess) -> list[int]:
    """The one waiting worker process, once no other is left."""
    async with asyncio.timeout(40):
        while len(found := grandchildren(renderer.pid)) != 1:
            await asyncio.sleep(0.01)
    return found


async def test_a_full_renderer_says_so_and_a_caller_who_leaves_frees_his_place(
    client: RendererClient, renderer: RendererProcess
) -> None:
    tasks = await busy(client, renderer, 2)
    error = await refused(client.render(request()))
    assert isinstance(error, Unavailable)
    assert error.reason is Reason.RENDERER_UNAVAILABLE
    assert error.after is not None
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await settled(renderer)
    assert len((await client.render(request())).files) == 2


async def test_a_killed_child_is_lost_and_the_next_task_runs(client: RendererClient, renderer: RendererProcess) -> None:
    (victim,) = await settled(renderer)  # it is the one that will run the task
    (task,) = await busy(client, renderer, 1)
    os.kill(victim, signal.SIGKILL)
    error = await refused(task)
    assert error.reason is Reason.RENDERER_LOST
    assert isinstance(error, Retryable)
    assert len((await client.render(request())).files) == 2


async def test_a_killed_zygote_comes_back(client: RendererClient, renderer: RendererProcess) -> None:
    (zygote,) = children(renderer.pid)
    os.kill(zygote, signal.SIGKILL)
    async with asyncio.timeout(40):
        while True:
            try:
                assert len((await client.render(request())).files) == 2
                break
            except Retryable:
                await asyncio.sleep(0.05)
    assert children(renderer.pid) != [zygote]


async def test_sigterm_lets_a_task_finish_and_refuses_new_ones(authority: Authority, tmp_path: Path) -> None:
    async with serving(authority, tmp_path) as (renderer, client):
        # Two kept connections: one for the task, one as the only way in once the listener is closed.
        await asyncio.gather(client.render(request()), client.render(request()))
        (worker,) = await settled(renderer)
        (running,) = await busy(client, renderer, 1, "wait")
        renderer.process.send_signal(signal.SIGTERM)
        await logged(renderer, "ending", 1)
        assert [entry["tasks"] for entry in renderer.logs if entry["message"] == "ending"] == [1]
        error = await refused(client.render(request()))
        assert isinstance(error, Unavailable)
        assert "the renderer is ending" in error.message
        async with connected(renderer, authority) as newcomer:
            error = await refused(newcomer.render(request()))
        assert isinstance(error, Unavailable)
        assert "no connection" in error.message
        assert not running.done()
        while not running.done():  # more than once, because the child may not have come to the point where it listens
            with suppress(ProcessLookupError):  # it has gone on already, and its answer is on the way
                os.kill(worker, signal.SIGCONT)
            await asyncio.sleep(0.1)
        assert (await running).messages == ["told to go on"]
        assert await renderer.process.wait() == 0


async def test_sigterm_gives_up_on_a_task_after_the_grace_time(authority: Authority, tmp_path: Path) -> None:
    async with serving(authority, tmp_path, "--grace", "0.3") as (renderer, client):
        (running,) = await busy(client, renderer, 1)
        workers = grandchildren(renderer.pid)
        renderer.process.send_signal(signal.SIGTERM)
        error = await refused(running)
        assert isinstance(error, Retryable)
        assert error.reason is Reason.RENDERER_LOST
        assert "run it again" in error.message
        assert await renderer.process.wait() == 0
        async with asyncio.timeout(40):
            while any(Path(f"/proc/{pid}").exists() for pid in workers):
                await asyncio.sleep(0.02)


async def test_a_killed_renderer_is_lost_then_unavailable(authority: Authority, tmp_path: Path) -> None:
    async with serving(authority, tmp_path) as (renderer, client):
        (running,) = await busy(client, renderer, 1)
        workers = [*grandchildren(renderer.pid), *children(renderer.pid)]
        renderer.process.kill()
        error = await refused(running)
        assert error.reason is Reason.RENDERER_LOST
        assert (await refused(client.render(request()))).reason is Reason.RENDERER_UNAVAILABLE
        async with asyncio.timeout(40):  # nothing that it started is left
            while any(Path(f"/proc/{pid}").exists() for pid in workers):
                await asyncio.sleep(0.02)


async def test_once_serves_one_task_and_ends_with_0(authority: Authority, tmp_path: Path) -> None:
    async with serving(authority, tmp_path, "--once") as (renderer, client):
        status, _ = await raw(renderer, client, b"garbage")
        assert status == 400  # that was no task
        assert len((await client.analyze(AnalyzeRequest(files=sources(TREE)))).actions) == 1  # nor was that a render
        assert len((await client.render(request())).files) == 2
        assert await renderer.process.wait() == 0


async def test_once_ends_with_0_when_its_task_fails(authority: Authority, tmp_path: Path) -> None:
    async with serving(authority, tmp_path, "--once") as (renderer, client):
        assert isinstance(await refused(client.render(request(variables={}))), RenderFailure)
        assert await renderer.process.wait() == 0


# --- certificates and start -------------------------------------------------------------------------------------------------


async def test_new_certificates_are_used_without_a_restart(authority: Authority, tmp_path: Path) -> None:
    async with serving(authority, tmp_path, "--reload-interval", "0.05") as (renderer, client):
        await client.render(request())
        other = new_authority(NOW)
        rotate(renderer, other.issue_server(names.renderer_identity(UID), NOW))
        await logged(renderer, "certificates loaded", 2)
        async with connected(renderer, other) as following:
            assert len((await following.render(request())).files) == 2
        # The kept connection of before is answered once more and then closed; the next one is refused.
        await client.render(request())
        assert isinstance(await refused(client.render(request())), Retryable)


async def test_broken_new_certificates_change_nothing(authority: Authority, tmp_path: Path) -> None:
    async with running_renderer(UID, authority, tmp_path, arguments=["--reload-interval", "0.05"]) as renderer:
        key = renderer.certificates / "tls.key"
        key.unlink()
        await logged(renderer, "cannot be used", 1)
        async with connected(renderer, authority) as client:
            assert len((await client.render(request())).files) == 2
            rotate(renderer, authority.issue_server(names.renderer_identity("another"), NOW))
            await logged(renderer, "cannot be used", 2)
            rotate(renderer, authority.issue_server(names.renderer_identity(UID), NOW))
            await logged(renderer, "certificates loaded", 2)
            assert len((await client.render(request())).files) == 2


def rotate(renderer: RendererProcess, leaf: Leaf) -> None:
    for path in renderer.certificates.iterdir():
        path.unlink()
    write_certificates(renderer.certificates, leaf)


async def logged(renderer: RendererProcess, text: str, times: int) -> None:
    async with asyncio.timeout(40):
        while sum(text in entry["message"] for entry in renderer.logs) < times:
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("what", ["no folder", "other tenant", "port taken"])
async def test_a_start_that_cannot_work_ends_with_2_and_one_reason(
    authority: Authority, tmp_path: Path, what: str
) -> None:
    leaf = authority.issue_server(names.renderer_identity("other" if what == "other tenant" else UID), NOW)
    arguments = ["--certificates", str(tmp_path / "nothing")] if what == "no folder" else []
    async with await asyncio.start_server(lambda *_: None, "127.0.0.1", 0) as taken:
        port = taken.sockets[0].getsockname()[1] if what == "port taken" else 0
        with pytest.raises(RuntimeError, match="ended with 2"):
            async with running_renderer(UID, authority, tmp_path, leaf=leaf, port=port, arguments=arguments):
                pytest.fail("it must not start")


async def test_health_follows_the_state(authority: Authority, tmp_path: Path) -> None:
    spare = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
    port = spare.sockets[0].getsockname()[1]
    spare.close()
    await spare.wait_closed()
    async with (
        running_renderer(
            UID, authority, tmp_path, health_port=port, program=HOSTILE, environment=ENVIRONMENT
        ) as renderer,
        aiohttp.ClientSession() as session,
    ):

        async def status(path: str) -> int:
            async with session.get(f"http://127.0.0.1:{port}{path}") as response:
                return response.status

        assert (await status("/healthz"), await status("/readyz")) == (200, 200)
        async with connected(renderer, authority) as client:
            (running,) = await busy(client, renderer, 1)
            renderer.process.send_signal(signal.SIGTERM)
            await logged(renderer, "ending", 1)
            assert (await status("/healthz"), await status("/readyz")) == (200, 503)
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            assert await renderer.process.wait() == 0


async def test_digest_of_every_file_is_that_of_its_content(client: RendererClient, renderer: RendererProcess) -> None:
    status, body = await raw(renderer, client, request().model_dump_json().encode())
    assert status == 200
    for file in RenderResponse.model_validate_json(body).files:
        assert hashlib.sha256(base64.b64decode(file.content)).hexdigest() == file.sha256


async def test_analysis_is_bounded(client: RendererClient, renderer: RendererProcess) -> None:
    tree = {f"_templates/g/a{n}/x.njk": (b"{% if %}", 0o644) for n in range(1200)}
    status, body = await raw(
        renderer, client, AnalyzeRequest(files=sources(tree)).model_dump_json().encode(), ANALYZE_PATH
    )
    assert status == 200
    analysis = AnalyzeResponse.model_validate_json(body)
    assert len(analysis.actions) == 1200
