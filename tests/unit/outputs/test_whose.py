"""What is somebody else's stays so: requests of forks, and prefixes of other jobs."""

from types import SimpleNamespace
from typing import Any

import pytest

from unjucks_api.courier_protocol import Allow, BucketTarget, CourierLimits, GitProvider
from unjucks_api.reasons import Reason
from unjucks_runtime.courier.errors import CourierError
from unjucks_runtime.courier.net import Network, Timeouts
from unjucks_runtime.outputs.bucket import BucketOutput
from unjucks_runtime.outputs.pull_requests import _HOSTS
from unjucks_runtime.sources.model import Job
from unjucks_runtime.sources.select import Selection

BASE, BRANCH = "main", "unjucks/orders"


class Api:
    """Answers every look at requests with these, as the hosts' documents show them (the fields that count)."""

    def __init__(self, *requests: dict[str, Any]) -> None:
        self.requests = list(requests)

    def call(self, method: str, path: str, body: Any = None, **_: Any) -> tuple[int, Any]:
        assert method == "GET"
        return 200, self.requests if "?" in path else self.requests[0]


def request(number: int, project: int) -> dict[str, Any]:
    return {
        "number": number, "iid": number, "state": "open", "html_url": f"https://git.example/{number}",
        "web_url": f"https://git.example/{number}", "source_branch": BRANCH, "target_branch": BASE,
        "source_project_id": project, "target_project_id": 1,
        "head": {"ref": BRANCH, "repo": {"id": project}}, "base": {"ref": BASE, "repo": {"id": 1}},
    }  # fmt: skip


@pytest.mark.parametrize("provider", GitProvider)
def test_the_request_of_a_fork_with_a_branch_of_that_name_is_not_ours(provider: GitProvider) -> None:
    assert _HOSTS[provider](Api(request(7, 666)), "acme/orders").find(BASE, BRANCH) is None  # type: ignore[arg-type]
    found = _HOSTS[provider](Api(request(7, 666), request(8, 1)), "acme/orders").find(BASE, BRANCH)  # type: ignore[arg-type]
    assert found is not None
    assert found.number == 8


@pytest.mark.parametrize(("owner", "refused"), [("tenant-globex/orders", True), ("tenant-acme/orders", False)])
def test_a_prefix_of_another_job_of_that_name_is_left_alone(
    monkeypatch: pytest.MonkeyPatch, owner: str, refused: bool
) -> None:
    limits = CourierLimits()
    secret = {"accesskey": b"access-key", "secretkey": b"secret-key"}
    job = Job(Network(Allow(), Timeouts()), limits, Selection(".", "", limits), credentials=secret)
    output = BucketOutput(BucketTarget(endpoint="https://s3.example", bucket="generated"), "tenant-acme/orders", job)
    # The server's part; a real one is in the integration tests.
    stat = SimpleNamespace(etag="e", metadata={"x-amz-meta-unjucks-run": "r", "X-Amz-Meta-Unjucks-Job": owner})
    monkeypatch.setattr(output._client, "stat_object", lambda *_: stat)
    monkeypatch.setattr(output, "_get", lambda *_: b"{}")
    if not refused:
        assert output.look() == ("e", "r", b"{}", b"{}")
        return
    with pytest.raises(CourierError, match="tenant-globex/orders") as caught:
        output.look()
    assert caught.value.reason is Reason.NOT_OWNED
