"""The operator's rights are a golden file: whoever changes them changes two places, and the second one is read in the review."""

from pathlib import Path

import pytest

from support import chart, rights

GOLDEN = Path(__file__).with_name("operator-rights.txt")
WITH_WEBHOOKS = Path(__file__).with_name("operator-rights-webhooks.txt")
"""What comes on top while webhooks are switched on."""


@pytest.mark.isolation("T-operator-rbac-golden", state="up")
@pytest.mark.parametrize("values", list(chart.VALUES))
def test_the_operators_rights_are_these(values: str) -> None:
    manifests = chart.render(chart.VALUES[values])
    found = rights.lines(rights.granted(manifests))
    wanted = GOLDEN.read_text(encoding="utf-8").splitlines()
    if chart.of_kind(manifests, "ValidatingWebhookConfiguration"):
        wanted += WITH_WEBHOOKS.read_text(encoding="utf-8").splitlines()
    added, removed = sorted(set(found) - set(wanted)), sorted(set(wanted) - set(found))
    assert (added, removed) == ([], []), (
        f"is it meant? then change {GOLDEN.name}; a new right needs a use in test_rights.py"
    )


@pytest.mark.isolation("T-operator-rbac-golden", state="up")
def test_no_right_becomes_another() -> None:
    text = GOLDEN.read_text(encoding="utf-8") + WITH_WEBHOOKS.read_text(encoding="utf-8")
    for word in ("impersonate", "escalate", "approve", "sign", "serviceaccounts/token", "pods/exec", "nodes/proxy"):
        assert word not in text
    for line in text.splitlines():
        where, resource, verbs, *_ = line.split(" ")
        assert "*" not in resource + verbs
        assert where in ("*", chart.NAMESPACE, "default")
        if "bind" in verbs.split(","):
            assert " only " in line
