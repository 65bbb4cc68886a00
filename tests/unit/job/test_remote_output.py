"""Outputs by the courier: what is asked of it, which endpoint a token may go to, and when nothing has to be written."""

import base64
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from support.builders import job as a_job
from support.builders import tenant as a_tenant
from unjucks_api.courier_protocol import (
    Allow,
    GitProvider,
    GitTarget,
    InspectRequest,
    InspectResponse,
    PublishRequest,
    PublishResponse,
)
from unjucks_api.reasons import Reason
from unjucks_api.render_protocol import EngineOptions, SourceFile
from unjucks_operator.config import Config
from unjucks_operator.config.courier import Courier, GitHost
from unjucks_operator.errors import Conflict, NotPermitted, Retryable, Terminal, Waiting
from unjucks_operator.job.outputs.base import Result
from unjucks_operator.job.outputs.files import File
from unjucks_operator.job.outputs.remote import MAX_BYTES, RemoteOutput
from unjucks_operator.job.outputs.target import refuse_misplaced, target_of
from unjucks_operator.job.plan import Run
from unjucks_operator.job.provenance import attest

KEY = "a" * 40
CONFIG = Config(
    courier=Courier(git_hosts=(GitHost(host="git.example", provider="Gitea", api="https://git.example/api/v1"),))
)


class StandInCourier:
    """Stands where a pod would: a process of its own for each of these cases would tell nothing more about the operator."""

    def __init__(self, seen: InspectResponse, error: Exception | None = None) -> None:
        self.seen, self.error = seen, error
        self.asked: list[InspectRequest | PublishRequest] = []

    async def inspect(self, request: InspectRequest) -> InspectResponse:
        self.asked.append(request)
        return self.seen

    async def publish(self, request: PublishRequest) -> PublishResponse:
        self.asked.append(request)
        if self.error is not None:
            raise self.error
        return PublishResponse(version="c0ffee", written=not request.unchanged, facts={"revision": "b@sha1:c0ffee"})


class Api:
    """Answers for one Secret; ``KubeApi`` against a real server is tried in the integration tests."""

    def __init__(self, secret: dict[str, Any] | None) -> None:
        self.secret = secret

    async def get(self, *_: Any) -> dict[str, Any] | None:
        return self.secret


SECRET = {"metadata": {"name": "push"}, "data": {"password": "cHc=", "unrelated": "eA=="}}


def output(courier: StandInCourier, *, secret: dict[str, Any] | None = SECRET, **git: Any) -> RemoteOutput:
    spec = {"url": "https://git.example/acme/orders.git", "secretRef": {"name": "push"}, **git}
    job = a_job(spec={"output": {"git": spec}, "variables": {}})
    run = Run(
        KEY, "hmac-sha256:1", "sha256:" + "1" * 64, "service", "new", {"name": "bob", "token": "hunter2"}, ("token",),
        EngineOptions(),
    )  # fmt: skip

    @asynccontextmanager
    async def lease(*_: Any) -> AsyncIterator[Any]:
        yield courier

    target = target_of(job)
    assert target is not None
    return RemoteOutput(
        api=Api(secret), lease=lease, allow=lambda _: Allow(), config=CONFIG, job=job, tenant=a_tenant(), run=run,
        target=target, attest=lambda files, manifest, engine: attest(job, run, files, manifest, engine=engine),
    )  # type: ignore[arg-type]  # fmt: skip


def result(*files: File) -> Result:
    return Result(KEY, "service", "new", "sha256:" + "1" * 64, "1", files, time=7)


def file(path: str, content: bytes = b"x", action: str = "created") -> File:
    return File(path, content, 0o644, hashlib.sha256(content).hexdigest(), action)


async def test_the_secret_goes_along_and_nothing_else_of_it() -> None:
    courier = StandInCourier(InspectResponse())
    made = output(courier)
    found = await made.observe()
    published = await made.publish(made.prepare(result(file("a.txt"), file("old", b"", "removed"))), found)
    assert published.written
    asked = courier.asked[-1]
    assert isinstance(asked, PublishRequest)
    assert asked.credentials == {"password": "cHc="}
    assert (asked.run_key, asked.removed, [it.path for it in asked.files]) == (KEY, ["old"], ["a.txt"])
    assert isinstance(asked.target, GitTarget)
    assert (asked.target.branch, asked.target.time) == (f"unjucks/{made.target.name.rpartition('/')[2]}", 7)
    assert "cHc=" not in repr(asked)


async def test_what_is_there_already_is_not_written_again() -> None:
    courier = StandInCourier(InspectResponse())
    made = output(courier)
    prepared = made.prepare(result(file("a.txt")))
    await made.publish(prepared, await made.observe())
    wrote = courier.asked[-1]
    assert isinstance(wrote, PublishRequest)
    there = InspectResponse(
        version="v", run_key="b" * 40, manifest=wrote.manifest, statement=wrote.statement,
        files=[SourceFile(path="a.txt", content=base64.b64encode(b"x").decode())],
    )  # fmt: skip
    courier.seen = there
    again = await made.publish(prepared, await made.observe())
    assert not again.written
    edited = there.model_copy(update={"files": [SourceFile(path="a.txt", content=base64.b64encode(b"y").decode())]})
    courier.seen = edited
    assert (await made.publish(prepared, await made.observe())).written


async def test_a_token_goes_only_to_the_endpoint_of_the_configuration() -> None:
    courier = StandInCourier(InspectResponse())
    await output(courier, pullRequest={"title": "Greet {{ name }}", "labels": ["b", "a"]}).observe()
    target = courier.asked[-1].target
    assert isinstance(target, GitTarget)
    assert target.pull_request is not None
    asked = target.pull_request
    assert (asked.provider, asked.api, asked.repository) == (
        GitProvider.GITEA,
        "https://git.example/api/v1",
        "acme/orders",
    )
    assert (asked.title, asked.labels) == ("Greet bob", ["a", "b"])
    elsewhere = output(courier, url="https://elsewhere.example/acme/orders.git", pullRequest={})
    with pytest.raises(Terminal, match=r"courier\.gitHosts") as caught:
        await elsewhere.observe()
    assert caught.value.reason is Reason.NOT_PERMITTED


async def test_secrets_do_not_get_into_texts() -> None:
    with pytest.raises(Terminal, match="comes from a Secret"):
        output(StandInCourier(InspectResponse()), commitMessage="{{ token }}").prepare(result(file("a.txt")))


@pytest.mark.parametrize(
    ("secret", "error"),
    [
        (None, Waiting),
        ({"metadata": {"labels": {"app.kubernetes.io/managed-by": "unjucks-operator"}}, "data": {}}, NotPermitted),
        ({"metadata": {}, "type": "kubernetes.io/service-account-token", "data": {}}, NotPermitted),
    ],
    ids=["missing", "ours", "token"],
)
async def test_secrets_that_are_not_for_outputs(secret: dict[str, Any] | None, error: type[Exception]) -> None:
    with pytest.raises(error):
        await output(StandInCourier(InspectResponse()), secret=secret).observe()


async def test_a_place_that_moved_is_a_conflict() -> None:
    courier = StandInCourier(InspectResponse(), Retryable("moved", reason=Reason.CONFLICT))
    made = output(courier)
    with pytest.raises(Conflict):
        await made.publish(made.prepare(result(file("a.txt"))), await made.observe())


def test_too_much_is_told_with_both_sizes() -> None:
    with pytest.raises(Terminal, match=str(MAX_BYTES)) as caught:
        output(StandInCourier(InspectResponse())).prepare(result(file("a", b"x" * MAX_BYTES)))
    assert caught.value.reason is Reason.OUTPUT_TOO_LARGE


@pytest.mark.parametrize("allowed", [False, True])
def test_files_with_secrets_go_to_git_only_where_it_is_allowed(allowed: bool) -> None:
    git = {"url": "https://git.example/a/b.git", "secretRef": {"name": "push"}}
    target = target_of(a_job(spec={"output": {"git": git | ({"sensitiveFiles": "Allow"} if allowed else {})}}))
    assert target is not None
    secret = File("a", b"x", 0o644, "0", "created", sensitive=True)
    if allowed:
        assert target.takes_secrets
        refuse_misplaced(target, [secret])
    else:
        with pytest.raises(Terminal, match=r"spec\.output\.git\.sensitiveFiles: Allow") as caught:
            refuse_misplaced(target, [secret])
        assert caught.value.reason is Reason.SENSITIVE_DATA_BLOCKED


async def test_contents_that_were_seen_are_held_once_and_their_paths_still_told() -> None:
    there = [SourceFile(path="a.txt", content="eA==")]
    manifest = base64.b64encode(b'{"files": [{"path": "a.txt", "sha256": "0", "mode": "0644"}]}').decode()
    seen = InspectResponse(manifest=manifest, files=there, others=[SourceFile(path="b", content="eQ==")])
    courier = StandInCourier(seen.model_copy(update={"others_truncated": True}))
    made = output(courier)
    found = await made.observe()
    assert found is not None
    assert [it.content for it in (*found.files, *found.others)] == [b"x", b"y"]
    assert {it.content for it in (*found.raw.files, *found.raw.others)} == {""}
    await made.publish(made.prepare(result(file("a.txt", b"new"))), found)
    asked = courier.asked[-1]
    assert isinstance(asked, PublishRequest)
    assert asked.seen == ["a.txt", "b"]
