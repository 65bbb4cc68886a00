"""Servers on loopback for the tests of sources."""

from collections.abc import Iterator

import pytest

from support.git_host import GitHost
from support.sources import HttpsServer


@pytest.fixture(scope="module")
def https(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HttpsServer]:
    """A TLS server that answers as told."""
    server = HttpsServer(tmp_path_factory.mktemp("https"))
    yield server
    server.close()


@pytest.fixture(scope="module")
def git_host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GitHost]:
    """Git over https and ssh."""
    host = GitHost(tmp_path_factory.mktemp("git"))
    host.start_ssh()
    yield host
    host.close()
