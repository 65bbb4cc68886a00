"""Settings about the network that would open more than they say are refused, all at once and with words."""

from pathlib import Path

import pytest

from unjucks_operator.config import Config
from unjucks_operator.config.loading import ConfigError, load


def loaded(tmp_path: Path, text: str, environment: dict[str, str] | None = None) -> Config:
    path = tmp_path / "config.yaml"
    path.write_text(text)
    return load(path, environment or {})


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("network: {clusterCidrs: [10.0.0.1/8]}", "is no address range"),
        ("network: {clusterCidrs: ['::ffff:10.0.0.0/104']}", "is no address range"),
        ("network: {ingressNamespaces: [Ingress]}", "network.ingressNamespaces.0"),
        ("network: {egressNamespaces: ['*']}", "network.egressNamespaces.0"),
        ("network: {probe: {interval: 1s}}", "network.probe.interval"),
        ("network: {probes: {}}", "did you mean probe?"),
        ("dns: {podLabels: {}}", "dns.podLabels"),  # would select every pod of kube-system
    ],
)
def test_what_would_open_too_much_is_refused(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(ConfigError) as refused:
        loaded(tmp_path, text)
    (problem,) = refused.value.problems
    assert words in problem


def test_what_is_asked_for_is_read(tmp_path: Path) -> None:
    text = "network: {clusterCidrs: [10.0.0.0/8, 'fd00:10::/48'], ingressNamespaces: [ingress-nginx], probe: {interval: 30m}}"
    config = loaded(tmp_path, text, {"POD_IP": "10.244.0.7"})
    assert config.network.cluster_cidrs == ("10.0.0.0/8", "fd00:10::/48")
    assert config.network.ingress_namespaces == ("ingress-nginx",)
    assert config.network.egress_namespaces == ()
    assert config.network.probe.interval == 1800
    assert config.network.pod_ip == "10.244.0.7"
