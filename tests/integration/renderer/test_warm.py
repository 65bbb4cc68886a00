"""Template sets that are kept parsed: the same bytes, the same errors, the same confinement, and never in the way."""

import asyncio
import os
import signal
from pathlib import Path

import pytest

from unjucks_api.reasons import Reason
from unjucks_api.render_protocol import Limits
from unjucks_operator.renderers.ca import Authority
from unjucks_operator.renderers.client import RendererClient, RenderFailure

from .test_server import TREE, UID, children, refused, request, serving

pytestmark = pytest.mark.timeout(180)

WARM = ("--warm-trees", "2")


def other_action(name: str) -> dict[str, tuple[bytes, int]]:
    """The usual tree with one more file: another digest."""
    return {**TREE, f"{name}.md": (b"", 0o644)}


def nested(renderer: int) -> list[int]:
    """The kept sets: children of the zygote that have a waiting child of their own."""
    return [process for zygote in children(renderer) for process in children(zygote) if children(process)]


async def until_nested(renderer: int, count: int) -> list[int]:
    async with asyncio.timeout(30):
        while len(found := nested(renderer)) != count:
            await asyncio.sleep(0.02)
    return found


async def warmed(client: RendererClient, renderer: int, count: int = 1) -> list[int]:
    for _ in range(2):
        await client.render(request())
    return await until_nested(renderer, count)


async def test_a_kept_set_gives_the_same_bytes_for_other_variables_too(authority: Authority, tmp_path: Path) -> None:
    async with serving(authority, tmp_path, *WARM) as (renderer, client):
        cold = {name: (await client.render(request(variables={"name": name}))).files for name in ("orders", "items")}
        await until_nested(renderer.pid, 1)
        for _ in range(3):
            for name, files in cold.items():
                assert (await client.render(request(variables={"name": name}))).files == files


async def test_a_kept_set_fails_with_the_same_type_and_place(authority: Authority, tmp_path: Path) -> None:
    tree = {
        **TREE,
        "_templates/api/new/main.py.njk": (b"---\nto: src/x\n---\n{{ name }}\n{{ token.missing.more }}\n", 0o644),
    }
    async with serving(authority, tmp_path, *WARM) as (renderer, client):

        async def failure(variables: dict[str, object]) -> tuple[object, ...]:
            error = await refused(client.render(request(tree=tree, variables=variables)))
            assert isinstance(error, RenderFailure)
            return error.reason, error.path, error.line, error.column, error.message

        wrong: list[dict[str, object]] = [{"name": "a"}, {}, {"name": "UPPER"}]
        cold = [await failure(variables) for variables in wrong]
        assert cold[0][:3] == (Reason.UNDEFINED_VARIABLE, "_templates/api/new/main.py.njk", 5)
        for _ in range(2):  # only a render that works counts, so the set is kept from here on
            await client.render(request(tree=other_action("x")))
        await until_nested(renderer.pid, 1)
        assert [await failure(variables) for variables in wrong] == cold


async def test_children_of_a_kept_set_are_confined_and_share_nothing(authority: Authority, tmp_path: Path) -> None:
    async with serving(authority, tmp_path, *WARM) as (renderer, client):
        (kept,) = await warmed(client, renderer.pid)
        key = renderer.certificates / "tls.key"
        for do in ("fork", "thread", "exec", "unlimit", f"read {key}", f"write {key}", f"kill {kept}", "signal all"):
            assert (await client.render(request(do))).messages == ["denied"], do
        assert (await client.render(request("descriptors"))).messages == ["0,1,2,3"]
        for _ in range(2):
            assert (await client.render(request("remember this"))).messages == ["nothing"]
        state = (await client.render(request("state"))).messages[0]
        assert '"environment":{}' in state
        assert '"RLIMIT_NOFILE":[0,0]' in state


async def test_limits_hold_in_children_of_a_kept_set(authority: Authority, tmp_path: Path) -> None:
    limits = Limits(memory_bytes=64 << 20, cpu_seconds=1, wall_seconds=60)  # a part of what makes two sets the same
    async with serving(authority, tmp_path, *WARM) as (renderer, client):
        for _ in range(2):
            await client.render(request(limits=limits))
        await until_nested(renderer.pid, 1)
        for do, limit in (("grow", "memory"), ("spin", "cpu"), ("flood", "output")):
            error = await refused(client.render(request(do, limits=limits)))
            assert isinstance(error, RenderFailure)
            assert (error.reason, error.limit) == (Reason.LIMIT_EXCEEDED, limit)
        assert len(nested(renderer.pid)) == 1


async def test_the_kept_process_itself_is_confined(authority: Authority, tmp_path: Path) -> None:
    async with serving(authority, tmp_path, *WARM) as (renderer, client):
        (kept,) = await warmed(client, renderer.pid)
        status = dict(
            line.split(":\t", 1) for line in Path(f"/proc/{kept}/status").read_text().splitlines() if ":\t" in line
        )
        assert status["NoNewPrivs"] == "1"
        assert status["Seccomp"] == "2"
        assert status["CapEff"] == "0" * 16
        limits = Path(f"/proc/{kept}/limits").read_text()
        assert "Max open files            64 " in limits
        assert Path(f"/proc/{kept}/environ").read_bytes() == b""


async def test_only_so_many_are_kept_and_the_oldest_goes(authority: Authority, tmp_path: Path) -> None:
    async with serving(authority, tmp_path, *WARM) as (renderer, client):
        (first,) = await warmed(client, renderer.pid)
        for name, count in (("a", 2), ("b", 2)):
            for _ in range(2):
                await client.render(request(tree=other_action(name)))
            async with asyncio.timeout(30):
                while len(nested(renderer.pid)) != count or (name == "b" and first in nested(renderer.pid)):
                    await asyncio.sleep(0.02)
        assert len((await client.render(request())).files) == 2


async def test_a_lost_kept_set_is_made_up_for_in_the_same_call(authority: Authority, tmp_path: Path) -> None:
    async with serving(authority, tmp_path, *WARM) as (renderer, client):
        (kept,) = await warmed(client, renderer.pid)
        os.kill(kept, signal.SIGKILL)
        for _ in range(3):
            assert len((await client.render(request())).files) == 2
        os.kill((await until_nested(renderer.pid, 1))[0], signal.SIGSTOP)  # hangs, and its waiting child does not
        for _ in range(2):
            assert len((await client.render(request())).files) == 2


async def test_kept_sets_end_with_their_zygote_and_with_the_renderer(authority: Authority, tmp_path: Path) -> None:
    async with serving(authority, tmp_path, *WARM) as (renderer, client):
        kept = await warmed(client, renderer.pid)
        (zygote,) = children(renderer.pid)
        os.kill(zygote, signal.SIGKILL)
        async with asyncio.timeout(30):
            while any(Path(f"/proc/{pid}").exists() for pid in kept):
                await asyncio.sleep(0.02)
            while children(renderer.pid) in ([], [zygote]):
                await asyncio.sleep(0.02)
        kept = await warmed(client, renderer.pid)
        assert await renderer.terminate() == 0
        async with asyncio.timeout(30):
            while any(Path(f"/proc/{pid}").exists() for pid in kept):
                await asyncio.sleep(0.02)


async def test_other_limits_or_options_are_another_set(authority: Authority, tmp_path: Path) -> None:
    from unjucks_api.render_protocol import EngineOptions

    tree = {**TREE, "_templates/api/new/main.py.njk": (b"---\nto: x\n---\n[{{ token }}]\n", 0o644)}
    async with serving(authority, tmp_path, *WARM) as (renderer, client):
        empty = request(tree=tree, engine=EngineOptions(undefined="Empty"))
        for _ in range(2):
            await client.render(empty)
        await until_nested(renderer.pid, 1)
        assert len((await client.render(empty)).files) == 2
        error = await refused(client.render(request(tree=tree, engine=EngineOptions(undefined="Error"))))
        assert error.reason is Reason.UNDEFINED_VARIABLE
    assert renderer.tenant_uid == UID
