"""``kubectl unjucks diff``: whose output the dry run looks at, what is printed, and when there is a difference."""

from types import SimpleNamespace
from typing import Any, cast

import pytest

from support.builders import job, tenant
from unjucks_api import names
from unjucks_operator.errors import Terminal
from unjucks_operator.job.diffs import KEY, build_diff
from unjucks_operator.job.outputs.objects import ObjectOutput
from unjucks_operator.job.outputs.target import git_branch, owner_name, target_of
from unjucks_runtime.cli.output import Exit, Failure, Format, Out
from unjucks_runtime.kubectl.app import _differences
from unjucks_runtime.kubectl.running import condition, dry_copy

ORIGINAL = {
    "apiVersion": "unjucks.io/v1alpha1",
    "kind": "GenerationJob",
    "metadata": {"name": "orders"},
    "spec": {"output": {"configMap": {"name": "out"}}, "schedule": {"cron": "0 3 * * *"}},
}


def published_by(name: str) -> dict[str, Any]:
    labels = names.tenant_labels("acme", tenant().uid, names.COMPONENT_OUTPUT) | {names.LABEL_JOB: name}
    return {"kind": "ConfigMap", "metadata": {"name": "out", "uid": "u", "resourceVersion": "1", "labels": labels}}


def output_of(made: Any) -> ObjectOutput:
    async def get(*_: Any) -> dict[str, Any]:
        return published_by("orders")

    target = target_of(made)
    assert target is not None
    return ObjectOutput(cast(Any, SimpleNamespace(get=get)), made, target, tenant().uid, {}, lambda *_: None)


@pytest.mark.asyncio
async def test_the_copy_looks_at_the_output_of_the_job_and_only_a_dry_run_may() -> None:
    metadata = dry_copy(ORIGINAL)["metadata"]
    assert dry_copy(ORIGINAL)["spec"]["dryRun"] is True
    copy = job(spec={"dryRun": True}, name="orders-diff-x7k2p", annotations=metadata["annotations"])
    assert await output_of(copy).observe() is not None
    real = job(name="orders-diff-x7k2p", annotations=metadata["annotations"])
    with pytest.raises(Terminal, match="belongs to job orders"):
        await output_of(real).observe()


def test_also_the_branch_is_that_of_the_job() -> None:
    git = {
        "output": {"git": {"url": "https://git.example/a.git", "base": "main", "secretRef": {"name": "push"}}},
        "dryRun": True,
    }
    copy = job(spec=git, name="orders-diff-x7k2p", annotations={names.ANNOTATION_DIFF_OF: "orders"})
    assert git_branch(copy) == "unjucks/orders"
    odd = job(spec=git, name="orders-diff-x7k2p", annotations={names.ANNOTATION_DIFF_OF: "../other/orders"})
    assert owner_name(odd) == "orders-diff-x7k2p"


class Cluster:
    """The one read of the API server that the command makes."""

    def __init__(self, text: str) -> None:
        self.body = build_diff(job(), tenant(), text)

    def read_output(self, kind: str, name: str) -> dict[str, Any]:
        assert (kind, name) == ("ConfigMap", self.body["metadata"]["name"])
        return self.body


MODE = "diff --git a/run.sh b/run.sh\nold mode 100644\nnew mode 100755\n"
GONE = "diff --git a/x b/x\ndeleted file mode 100644\n--- a/x\n+++ /dev/null\n@@ -1 +0,0 @@\n-gone\n"


@pytest.mark.parametrize(
    ("text", "figures"),
    [(MODE, {"added": 0, "removed": 0, "bytes": len(MODE)}), (GONE, {"added": 0, "removed": 1, "bytes": len(GONE)})],
)
def test_every_difference_is_printed_and_found(
    text: str, figures: dict[str, int], capsys: pytest.CaptureFixture[str]
) -> None:
    files = [{"path": "a.txt", "action": "conflicted", "why": "it exists with other content"}]
    status = {"diff": {**figures, "truncated": False, "ref": {"kind": "ConfigMap", "name": "orders-diff"}}}
    body = {"metadata": {"name": "orders"}, "status": status | {"files": files}}
    with pytest.raises(Failure) as ended:
        _differences(cast(Any, Cluster(text)), Out(Format.TEXT, text_in_pipes=True), body)
    assert ended.value.code is Exit.FOUND
    told = capsys.readouterr()
    assert told.out == text
    assert "a.txt is in conflict: it exists with other content" in told.err
    assert KEY == "diff"


def test_no_difference_is_none(capsys: pytest.CaptureFixture[str]) -> None:
    body = {"metadata": {"name": "orders"}, "status": {"diff": {"added": 0, "removed": 0, "bytes": 0}}}
    _differences(cast(Any, Cluster("")), Out(Format.TEXT, text_in_pipes=True), body)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("item", "told"),
    [({"observedGeneration": 2}, "not read yet"), ({"observedGeneration": 1}, ""), ({}, "")],
)
def test_a_condition_counts_by_its_own_generation(item: dict[str, int], told: str) -> None:
    ready = {"type": "Ready", "status": "False", "message": "not read yet", **item}
    body = {"metadata": {"generation": 2}, "status": {"observedGeneration": 1, "conditions": [ready]}}
    assert condition(body, "Ready").get("message", "") == told
