"""``spec.network`` on a real API server: what is written, refused, taken back; and the probe of policies with its real programs.

There are no nodes here, so ``ProbeKubelet`` starts the programs of the probe's pods: in a network namespace of its own, in which
the test decides with packet filter rules whether the network enforces what the policies say.
"""

import asyncio
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import pytest_asyncio

from support.operator_process import OperatorProcess, Site
from support.tenants import tenant_manifest
from unjucks_api import names
from unjucks_api.conditions import ConditionType, find_condition
from unjucks_operator.kube.api import PatchType
from unjucks_operator.kube.resources import CONFIG_MAP, NETWORK_POLICY, POD, TENANT
from unjucks_operator.network.probe_pods import EGRESS, INGRESS

pytestmark = [pytest.mark.integration, pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(240)]
PLATFORM = names.PLATFORM_NAMESPACE
RULES = {
    "ingressFrom": [{"namespace": "ingress-nginx", "ports": [8080]}],
    "egressTo": [
        {"cidr": "0.0.0.0/0", "ports": [443]},
        {"namespace": "tenant-open", "ports": [9090]},
        {"cidr": "::/0", "ports": [443]},
    ],
}
# Operators follow each other here and none fails: there is no need to notice a lost one within two seconds.
PATIENT = {"leaseDuration": 15, "renewDeadline": 10, "retryPeriod": 1}
NETWORK = {
    "clusterCidrs": ["10.244.0.0/16", "10.96.0.0/16", "fd00:10:244::/56"],
    "ingressNamespaces": ["ingress-nginx"],
    "probe": {"enabled": False},
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def operator(site: Site) -> AsyncIterator[OperatorProcess]:
    async with site.operator(network=NETWORK, leader=PATIENT) as running:
        yield running


async def condition(site: Site, name: str, kind: ConditionType) -> dict[str, Any]:
    body = await site.api.get(TENANT, name)
    assert body is not None
    found = find_condition(body.get("status") or {}, kind)
    current = found is not None and found.get("observedGeneration") == body["metadata"]["generation"]
    return dict(found) if found is not None and current else {}


async def until(site: Site, name: str, kind: ConditionType, status: str, seconds: float = 60) -> dict[str, Any]:
    """The condition, once it has that status at the current generation."""
    found: dict[str, Any] = {}
    try:
        async with asyncio.timeout(seconds):
            while found.get("status") != status:
                await asyncio.sleep(0.1)
                found = await condition(site, name, kind)
    except TimeoutError:
        raise AssertionError(f"{kind} of {name} is not {status} after {seconds} s: {found}") from None
    return found


async def policies(site: Site, namespace: str) -> dict[str, Any]:
    items, _ = await site.api.list_all(NETWORK_POLICY, namespace=namespace)
    return {item["metadata"]["name"]: item["spec"] for item in items}


async def test_rules_become_policies_that_the_server_accepts(site: Site, operator: OperatorProcess) -> None:
    await site.apply(tenant_manifest("open", network=RULES))
    await site.wait_for("tenant/open", "condition=Ready")
    found = await policies(site, "tenant-open")
    assert set(found) == {
        *(names.POLICY_DENY, names.POLICY_DNS, names.POLICY_RENDERER),
        *(names.POLICY_INGRESS, names.POLICY_EGRESS),
    }
    blocks = [
        peer["ipBlock"] for rule in found[names.POLICY_EGRESS]["egress"] for peer in rule["to"] if "ipBlock" in peer
    ]
    # The server takes all of it: each exception lies strictly inside its range, and is written as the server wants it.
    six, block = sorted(blocks, key=lambda it: str(it["cidr"]), reverse=True)
    assert (block["cidr"], six["cidr"]) == ("0.0.0.0/0", "::/0")
    assert {"fd00:ec2::/32", "fe80::/9", "::/80", "fd00:10:244::/56", "64:ff9b::af4:0/112"} <= set(six["except"])
    assert {"169.254.0.0/16", "127.0.0.0/8", "10.244.0.0/16", "10.96.0.0/16", "224.0.0.0/3"} <= set(block["except"])
    assert (await condition(site, "open", ConditionType.NETWORK_RULES_READY))["message"] == "all 4 rules are applied"


async def test_a_foreign_addition_to_a_policy_is_taken_out(site: Site, operator: OperatorProcess) -> None:
    await site.apply(tenant_manifest("edited", network={"ingressFrom": RULES["ingressFrom"]}))
    await site.wait_for("tenant/edited", "condition=Ready")
    before = (await policies(site, "tenant-edited"))[names.POLICY_INGRESS]
    await site.api.patch(
        NETWORK_POLICY,
        names.POLICY_INGRESS,
        "tenant-edited",
        [{"op": "add", "path": "/spec/ingress/-", "value": {"from": [{"namespaceSelector": {}}]}}],
        patch_type=PatchType.JSON,
        manager="somebody",
    )
    async with asyncio.timeout(30):
        while (await policies(site, "tenant-edited"))[names.POLICY_INGRESS] != before:
            await asyncio.sleep(0.05)


async def test_what_is_taken_out_of_the_spec_is_closed_again(site: Site, operator: OperatorProcess) -> None:
    await site.apply(tenant_manifest("shut", network=RULES | {"egressTo": RULES["egressTo"][:1]}))
    await site.wait_for("tenant/shut", "condition=Ready")
    assert names.POLICY_EGRESS in await policies(site, "tenant-shut")
    await site.apply(tenant_manifest("shut"))
    async with asyncio.timeout(30):
        while {names.POLICY_INGRESS, names.POLICY_EGRESS} & (await policies(site, "tenant-shut")).keys():
            await asyncio.sleep(0.05)


async def test_refused_rules_are_named_and_closed_and_the_others_work(site: Site, operator: OperatorProcess) -> None:
    rules = {
        "ingressFrom": [{"namespace": "tenant-open", "ports": [8080]}, {"namespace": "ingress-nginx", "ports": [8080]}],
        "egressTo": [{"cidr": "10.244.3.0/24", "ports": [80]}, {"cidr": "198.51.100.0/24", "ports": [80]}],
    }
    await site.apply(tenant_manifest("greedy", network=rules))
    found = await until(site, "greedy", ConditionType.NETWORK_RULES_READY, "False")
    assert found["reason"] == "NetworkRuleRefused"
    assert "spec.network.ingressFrom[0]: namespace tenant-open is neither" in found["message"]
    assert "spec.network.egressTo[0]: 10.244.3.0/24 lies in 10.244.0.0/16" in found["message"]
    ready = await condition(site, "greedy", ConditionType.READY)
    assert (ready["status"], ready["reason"]) == ("False", "NetworkRuleRefused")
    # What has nothing to do with it is in place.
    await until(site, "greedy", ConditionType.ACCESS_READY, "True")
    written = await policies(site, "tenant-greedy")
    assert len(written[names.POLICY_INGRESS]["ingress"]) == 1
    assert written[names.POLICY_EGRESS]["egress"][0]["to"] == [{"ipBlock": {"cidr": "198.51.100.0/24"}}]


async def test_without_known_ranges_no_address_is_opened(site: Site, operator: OperatorProcess) -> None:
    await operator.stop()
    # No nodes here, and no configured ranges.
    unconfigured = {key: value for key, value in NETWORK.items() if key != "clusterCidrs"}
    async with site.operator(network=unconfigured, leader=PATIENT):
        found = await until(site, "open", ConditionType.NETWORK_RULES_READY, "False")
        assert found["reason"] == "ClusterRangesUnknown"
        assert "network.clusterCidrs" in found["message"]
        written = await policies(site, "tenant-open")
        assert [rule["to"] for rule in written[names.POLICY_EGRESS]["egress"]] == [
            [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "tenant-open"}}}]
        ]


# --- the probe ----------------------------------------------------------------------------------------------------------------
class ProbeKubelet:
    """Runs the programs of the probe's pods in one network namespace. ``enforce`` blocks what the policies forbid."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.holder = subprocess.Popen(
            ["unshare", "--net", "--", "sh", "-c", "ip link set lo up && echo up && exec cat"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.holder.stdout is not None
        assert self.holder.stdout.readline() == "up\n"
        self.inside = ["nsenter", f"--net=/proc/{self.holder.pid}/ns/net", "--"]
        self.programs: dict[str, subprocess.Popen[str]] = {}
        self.probes = 0
        """Clients that were started."""

    def enforce(self, *ports: int) -> None:
        """From now on connections to exactly these ports are refused."""
        subprocess.run([*self.inside, "iptables", "-F", "INPUT"], check=True)
        for port in ports:
            rule = ["-A", "INPUT", "-p", "tcp", "--dport", str(port), "-j", "REJECT"]
            subprocess.run([*self.inside, "iptables", *rule], check=True)

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            pods, _ = await self.site.api.list_all(
                POD, namespace=PLATFORM, label_selector=f"{names.LABEL_PART_OF}={names.PART_OF}"
            )
            for pod in pods:
                await self._sync(pod)
            for uid in self.programs.keys() - {pod["metadata"]["uid"] for pod in pods}:
                _end(self.programs.pop(uid))
            await asyncio.sleep(0.05)

    async def _sync(self, pod: dict[str, Any]) -> None:
        uid, phase = pod["metadata"]["uid"], (pod.get("status") or {}).get("phase")
        command = pod["spec"]["containers"][0]["command"]
        client = "try" in command
        if uid not in self.programs:
            folder = self.site.folder / uid
            folder.mkdir()
            arguments = [sys.executable, *command[1:], *(["--report", str(folder / "report")] if client else [])]
            self.programs[uid] = subprocess.Popen(
                [*self.inside, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                text=True,
                env=dict(os.environ),
            )
            self.probes += client
        elif not client and phase == "Pending":
            await self._status(pod, {"phase": "Running", "podIP": "127.0.0.1", "podIPs": [{"ip": "127.0.0.1"}]})
        elif client and phase == "Pending" and self.programs[uid].poll() is not None:
            message = (self.site.folder / uid / "report").read_text()
            ended = {"exitCode": 0, "reason": "Completed", "message": message}
            state = {"name": "probe", "image": "x", "imageID": "x", "ready": False, "restartCount": 0}
            await self._status(
                pod, {"phase": "Succeeded", "containerStatuses": [{**state, "state": {"terminated": ended}}]}
            )

    async def _status(self, pod: dict[str, Any], status: dict[str, Any]) -> None:
        await self.site.api.patch(
            POD,
            pod["metadata"]["name"],
            PLATFORM,
            {"status": status},
            patch_type=PatchType.MERGE,
            manager="probe-kubelet",
            subresource="status",
        )

    def stop(self) -> None:
        """End the programs and the namespace."""
        for program in self.programs.values():
            _end(program)
        self.holder.kill()
        self.holder.communicate()


def _end(program: "subprocess.Popen[str]") -> None:
    program.kill()
    program.wait()


@asynccontextmanager
async def probe_kubelet(site: Site) -> AsyncIterator[ProbeKubelet]:
    kubelet = ProbeKubelet(site)
    task = asyncio.create_task(kubelet.run())
    try:
        yield kubelet
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        kubelet.stop()


PROBE = {"network": {"probe": {"enabled": True, "interval": 600, "settle": 1}}}


async def ask_again(site: Site, value: str) -> None:
    await site.kubectl(
        *(
            "-n",
            PLATFORM,
            "annotate",
            "configmap",
            names.PROBE,
            f"{names.ANNOTATION_REQUESTED_AT}={value}",
            "--overwrite",
        )
    )


@pytest.mark.isolation("T-net-unenforced", state="up")
async def test_tenants_are_told_whether_policies_are_enforced(site: Site, operator: OperatorProcess) -> None:
    assert shutil.which("unshare")
    await operator.stop()
    await site.apply(tenant_manifest("probed"))
    async with probe_kubelet(site) as kubelet:
        async with site.operator(**PROBE, leader=PATIENT):
            # A network that ignores policies: nobody may be told that it is isolated.
            found = await until(site, "probed", ConditionType.NETWORK_ISOLATED, "False")
            assert found["reason"] == "PolicyNotEnforced"
            assert "lets nothing in" in found["message"]
            assert "lets nothing out" in found["message"]
            assert (await condition(site, "probed", ConditionType.READY))["reason"] == "PolicyNotEnforced"
            # Somebody mends one half of it and asks for another probe.
            kubelet.enforce(INGRESS)
            await ask_again(site, "half")
            async with asyncio.timeout(60):
                while "lets nothing in" in (await condition(site, "probed", ConditionType.NETWORK_ISOLATED)).get(
                    "message", ""
                ):
                    await asyncio.sleep(0.1)
            assert (await condition(site, "probed", ConditionType.NETWORK_ISOLATED))["status"] == "False"
            kubelet.enforce(INGRESS, EGRESS)
            await ask_again(site, "whole")
            await until(site, "probed", ConditionType.NETWORK_ISOLATED, "True")
            await site.wait_for("tenant/probed", "condition=Ready")
            body = await site.api.get(TENANT, "probed")
            assert body is not None
            isolation = body["status"]["isolation"]
            assert isolation["checks"] >= 2  # those in the database count too, once they were made
            assert isolation["failed"] == 0
            assert "failures" not in isolation
            async with asyncio.timeout(30):  # nothing is left of a probe but its policies and its result
                while (await site.api.list_all(POD, namespace=PLATFORM))[0]:
                    await asyncio.sleep(0.1)
            kept = await site.api.get(CONFIG_MAP, names.PROBE, PLATFORM)
            assert kept is not None
            assert kept["data"]["verdict"] == "Enforced"
        # The next operator believes the last result: no tenant is doubted, and no pod is made for it.
        made, version = kubelet.probes, body["metadata"]["resourceVersion"]
        async with site.operator(**PROBE, leader=PATIENT):
            await asyncio.sleep(3)
            body = await site.api.get(TENANT, "probed")
            assert body is not None
            assert body["metadata"]["resourceVersion"] == version
            assert kubelet.probes == made


async def test_a_probe_that_cannot_run_leaves_tenants_unverified(site: Site, operator: OperatorProcess) -> None:
    await operator.stop()
    await site.kubectl("-n", PLATFORM, "delete", "configmap", names.PROBE, "--ignore-not-found")
    quick = {"network": {"probe": {"enabled": True, "interval": 600, "patience": 5}}}
    async with site.operator(**quick, leader=PATIENT):  # nobody starts its pods
        await site.apply(tenant_manifest("doubted"))
        found = await until(site, "doubted", ConditionType.NETWORK_ISOLATED, "Unknown")
        assert found["reason"] == "PolicyUnverified"
        async with asyncio.timeout(60):
            while "is not done after 5 s" not in found.get("message", ""):
                await asyncio.sleep(0.2)
                found = await condition(site, "doubted", ConditionType.NETWORK_ISOLATED)
        assert (await condition(site, "doubted", ConditionType.READY))["status"] == "False"
        # All that isolates is there all the same.
        assert {names.POLICY_DENY, names.POLICY_DNS} <= (await policies(site, "tenant-doubted")).keys()
    assert (await site.api.list_all(POD, namespace=PLATFORM))[0] == []
