"""The certificate authority in a real API server: made once whoever comes first, moved on under its version, never overwritten."""

import asyncio
import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import pytest

from e2e.cluster.controlplane import ControlPlane
from support.kube import client, unique
from unjucks_api import names
from unjucks_operator.errors import Terminal
from unjucks_operator.kube.api import KubeApi
from unjucks_operator.kube.resources import SECRET
from unjucks_operator.renderers import ca
from unjucks_operator.renderers.ca import load_authority

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]

NOW = datetime.now(UTC)


@asynccontextmanager
async def namespace_of_its_own(plane: ControlPlane) -> AsyncIterator[tuple[KubeApi, str]]:
    """An API and a new namespace."""
    async with client(plane) as api:
        name = unique("ca")
        await api.create(
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}, manager=names.MANAGER_PLATFORM
        )
        yield api, name


async def test_all_comers_get_the_one_authority(control_plane: ControlPlane) -> None:
    async with namespace_of_its_own(control_plane) as (api, namespace):
        found = await asyncio.gather(*(load_authority(api, namespace, NOW) for _ in range(8)))
        assert len({authority.bundle for authority in found}) == 1
        again = await load_authority(api, namespace, NOW + timedelta(days=30))
        assert again.bundle == found[0].bundle
        secret = await api.get(SECRET, names.CA_SECRET, namespace)
        assert secret is not None
        assert sorted(secret["data"]) == ["ca.crt", "ca.key"]


async def test_looking_at_it_writes_nothing(control_plane: ControlPlane) -> None:
    async with namespace_of_its_own(control_plane) as (api, namespace):
        await load_authority(api, namespace, NOW)
        before = await api.get(SECRET, names.CA_SECRET, namespace)
        await load_authority(api, namespace, NOW + timedelta(days=100))
        after = await api.get(SECRET, names.CA_SECRET, namespace)
        assert before is not None
        assert after is not None
        assert before["metadata"]["resourceVersion"] == after["metadata"]["resourceVersion"]


async def test_rotation_by_several_operators_at_once_is_one_rotation(control_plane: ControlPlane) -> None:
    async with namespace_of_its_own(control_plane) as (api, namespace):
        first = await load_authority(api, namespace, NOW)
        due = NOW + timedelta(days=4 * 365)
        trusting = await asyncio.gather(*(load_authority(api, namespace, due) for _ in range(5)))
        assert len({authority.bundle for authority in trusting}) == 1
        assert trusting[0].signer.certificate == first.signer.certificate
        assert trusting[0].successor is not None
        issuing = await asyncio.gather(*(load_authority(api, namespace, due + ca.DISTRIBUTION) for _ in range(5)))
        assert {authority.signer.certificate for authority in issuing} == {trusting[0].successor.certificate}
        end = due + ca.LEAF_LIFETIME + ca.DISTRIBUTION * 4
        done = await load_authority(api, namespace, end)
        assert done.bundle.count(b"BEGIN CERTIFICATE") == 1
        secret = await api.get(SECRET, names.CA_SECRET, namespace)
        assert secret is not None
        assert sorted(secret["data"]) == ["ca.crt", "ca.key"]  # nothing of the old one is left


async def test_a_secret_that_is_something_else_is_not_overwritten(control_plane: ControlPlane) -> None:
    async with namespace_of_its_own(control_plane) as (api, namespace):
        foreign = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": names.CA_SECRET, "namespace": namespace},
            "data": {"password": base64.b64encode(b"somebody's").decode()},
        }
        await api.create(foreign, manager="somebody")
        with pytest.raises(Terminal, match=f"{namespace}/{names.CA_SECRET}"):
            await load_authority(api, namespace, NOW)
        secret = await api.get(SECRET, names.CA_SECRET, namespace)
        assert secret is not None
        assert secret["data"] == foreign["data"]
