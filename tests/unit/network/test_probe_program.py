"""The two programs of a probe, on loopback: what the client reports for ports that answer, that do not, and that close late."""

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from unjucks_operator.config import Config
from unjucks_operator.network.probe_pods import ALLOWED, EGRESS, INGRESS, build_client, build_policies, build_server
from unjucks_runtime.network_probe import attempt, connects, serve

HOST = "127.0.0.1"


@pytest.fixture
def ports() -> Iterator[list[int]]:
    """Three ports that answer, and one at the end that nobody listens at."""
    servers = serve([0, 0, 0])
    with socket.create_server((HOST, 0)) as free:
        closed = free.getsockname()[1]
    yield [server.getsockname()[1] for server in servers] + [closed]
    for server in servers:
        server.close()


def test_all_ports_answer_over_both_versions_of_ip(ports: list[int]) -> None:
    assert [connects(HOST, port) for port in ports] == [True, True, True, False]
    if socket.has_dualstack_ipv6() and connects("::1", ports[0]):
        assert connects("::1", ports[1])


class Time:
    """A clock that moves with sleeping only."""

    def __init__(self) -> None:
        self.now = 0.0

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def tried(allowed: int, ingress: int, egress: int, time: Time) -> dict[str, object]:
    forbidden = {"ingress": ingress, "egress": egress}
    return attempt(
        HOST, allowed, forbidden, patience=3, settle=5, now=lambda: time.now, sleep=time.sleep, connect=connects
    )


def test_the_report_says_what_got_through(ports: list[int]) -> None:
    one, two, three, closed = ports
    report = tried(one, closed, closed, Time())
    assert report == {"allowed": True, "ingress": False, "egress": False, "window": 0.0}
    for ingress, egress in ((two, closed), (closed, three), (two, three)):
        report = tried(one, ingress, egress, Time())
        assert (report["allowed"], report["ingress"], report["egress"]) == (True, ingress != closed, egress != closed)


def test_without_the_allowed_connection_it_gives_up(ports: list[int]) -> None:
    time = Time()
    assert tried(ports[3], ports[0], ports[1], time) == {"allowed": False, "ingress": False, "egress": False}
    assert 3 <= time.now < 4.5


@pytest.mark.parametrize(("closes_at", "result"), [(0.0, False), (3.0, False), (100.0, True)])
def test_a_port_may_close_a_little_late_but_not_never(closes_at: float, result: bool) -> None:
    time = Time()

    def connect(host: str, port: int) -> bool:
        return port == 1 or (port == 2 and time.now < closes_at)

    report = attempt(
        HOST,
        1,
        {"ingress": 2, "egress": 3},
        patience=1,
        settle=5,
        connect=connect,
        now=lambda: time.now,
        sleep=time.sleep,
    )
    assert report["ingress"] is result
    assert report["egress"] is False
    assert report["window"] == pytest.approx(min(closes_at, 5.5), abs=0.6)


def test_a_port_that_opens_again_is_not_closed() -> None:
    time, seen = Time(), []

    def connect(host: str, port: int) -> bool:
        seen.append(port)
        return port == 1 or (port == 2 and seen.count(2) % 2 == 0)

    report = attempt(
        HOST, 1, {"ingress": 2}, patience=1, settle=5, connect=connect, now=lambda: time.now, sleep=time.sleep
    )
    assert report["ingress"] is True


def test_the_command_serves_and_tries(tmp_path: Path) -> None:
    program = [sys.executable, "-m", "unjucks_runtime.network_probe"]
    with socket.create_server((HOST, 0)) as first, socket.create_server((HOST, 0)) as second:
        chosen = [str(it.getsockname()[1]) for it in (first, second)]
    with subprocess.Popen([*program, "serve", *chosen], stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            assert json.loads(server.stdout.readline()) == {"listening": [int(it) for it in chosen]}
            report = tmp_path / "report"
            arguments = ["try", HOST, chosen[0], chosen[1], "1", "--settle", "0.1", "--report", str(report)]
            subprocess.run([*program, *arguments], check=True, capture_output=True, timeout=20)
            found = json.loads(report.read_text())
            assert (found["allowed"], found["ingress"], found["egress"]) == (True, True, False)
        finally:
            server.kill()


def test_the_pods_hold_nothing_and_keep_the_level_restricted() -> None:
    config = Config()
    for pod in (build_server(config, "a"), build_client(config, "a", "10.244.0.9")):
        spec = pod["spec"]
        assert pod["metadata"]["namespace"] == config.platform_namespace
        assert spec["automountServiceAccountToken"] is False
        assert spec["activeDeadlineSeconds"] > 0
        assert spec["restartPolicy"] == "Never"
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not {"volumes", "hostNetwork", "serviceAccountName"} & spec.keys()
        (container,) = spec["containers"]
        assert "env" not in container
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }


def test_the_two_policies_share_one_port_and_each_forbids_another() -> None:
    server, client = build_policies(Config())
    for policy in (server, client):
        assert policy["spec"]["policyTypes"] == ["Ingress", "Egress"]
    let_in = [port["port"] for rule in server["spec"]["ingress"] for port in rule["ports"]]
    let_out = [port["port"] for rule in client["spec"]["egress"] for port in rule["ports"]]
    assert (let_in, let_out) == ([ALLOWED, EGRESS], [ALLOWED, INGRESS])
    assert "egress" not in server["spec"]
    assert "ingress" not in client["spec"]
    # Each selects exactly the pods that the other names, by labels that the builders give them.
    for policy, pod in ((server, build_server(Config(), "a")), (client, build_client(Config(), "a", "x"))):
        assert policy["spec"]["podSelector"]["matchLabels"].items() <= pod["metadata"]["labels"].items()
    peer = server["spec"]["ingress"][0]["from"][0]["podSelector"]
    assert peer == client["spec"]["podSelector"]
