"""A job that has ended: when it runs again, what its conditions tell, and that nothing changes while nothing happens."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from support.builders import job
from unjucks_api.conditions import ConditionType, find_condition
from unjucks_api.render_protocol import Action
from unjucks_operator.job.afterwards import Drift, Seen, compute_after, has_future, plan_occasion, seconds_to_schedule

NOW = datetime(2026, 6, 1, 12, 0, 30, tzinfo=UTC)
OLD, NEW = "sha256:" + "1" * 64, "sha256:" + "2" * 64
DRIFTED = Drift("Drifted", "configmap/out", "77", ["a.txt"])
IN_SYNC = Drift("InSync", "configmap/out")


def action(digest: str) -> Action:
    return Action(generator="service", action="new", digest=digest, files=1)


def ended(*, kind: str = "Complete", status: dict[str, Any] | None = None, **spec: Any) -> Any:
    good = kind == "Complete"
    conditions = [
        {
            "type": name, "status": value, "reason": "Succeeded" if good else "TemplateError", "message": "done",
            "observedGeneration": 1, "lastTransitionTime": "2026-06-01T09:00:00Z",
        }
        for name, value in (("Ready", str(good)), (kind, "True"))
    ]  # fmt: skip
    told = {
        "observedGeneration": 1,
        "startTime": "2026-06-01T09:00:00Z",
        "completionTime": "2026-06-01T09:00:01Z",
        "template": {"actionDigest": OLD, "registry": "platform"},
        "conditions": conditions,
    }
    return job(spec=spec, status=told | (status or {}))


class TestOccasions:
    def test_a_schedule_that_has_come(self) -> None:
        hourly = ended(schedule={"cron": "0 * * * *"})
        occasion = plan_occasion(hourly, Seen(), NOW)
        assert occasion is not None
        assert occasion.scheduled == datetime(2026, 6, 1, 12, tzinfo=UTC)
        assert plan_occasion(hourly, Seen(), NOW + timedelta(minutes=10)) == occasion  # a crash does not make two of it
        done = ended(schedule={"cron": "0 * * * *"}, status={"lastScheduleTime": "2026-06-01T12:00:00Z"})
        assert plan_occasion(done, Seen(), NOW) is None
        assert seconds_to_schedule(done, NOW) == pytest.approx(59 * 60 + 30.5)

    @pytest.mark.parametrize(
        ("trigger", "runs", "dry"),
        [
            ("Ignore", False, False),
            ("Report", False, False),
            ("DryRun", True, True),
            ("Run", True, False),
            (None, False, False),
        ],
    )
    def test_a_newer_template(self, trigger: str | None, runs: bool, dry: bool) -> None:
        spec = {"trigger": {"onTemplateChange": trigger}} if trigger else {}
        occasion = plan_occasion(ended(**spec), Seen(action(NEW)), NOW)
        assert (occasion is not None) == runs
        assert occasion is None or occasion.dry == dry
        # The same action in another tree, or one that was tried already, is no reason.
        assert plan_occasion(ended(**spec), Seen(action(OLD)), NOW) is None
        tried = ended(**spec, status={"template": {"actionDigest": OLD, "newestDigest": NEW}})
        assert plan_occasion(tried, Seen(action(NEW)), NOW) is None

    def test_a_failed_run_is_repeated_with_new_templates_and_only_shown_with_dry_run(self) -> None:
        run = ended(kind="Failed", trigger={"onTemplateChange": "Run"})
        assert plan_occasion(run, Seen(action(NEW)), NOW) is not None
        dry = ended(kind="Failed", trigger={"onTemplateChange": "DryRun"})
        assert plan_occasion(dry, Seen(action(NEW)), NOW) is None

    def test_drift_is_repaired_only_where_asked_and_only_ours(self) -> None:
        repair = ended(driftDetection={"onDrift": "Repair"})
        occasion = plan_occasion(repair, Seen(None, DRIFTED), NOW)
        assert occasion is not None
        assert (occasion.name, occasion.repair) == ("repair/77", True)
        assert plan_occasion(repair, Seen(None, IN_SYNC), NOW) is None
        stolen = Drift("Drifted", "configmap/out", "1", note="ConfigMap out belongs to somebody else")
        assert plan_occasion(repair, Seen(None, stolen), NOW) is None
        assert plan_occasion(ended(driftDetection={}), Seen(None, DRIFTED), NOW) is None


class TestStatus:
    def after(self, body: Any, seen: Seen, now: datetime = NOW) -> Any:
        status = compute_after(body, seen, now=now)
        return job(spec=body.spec.wire(), status=status), status

    def test_nothing_new_is_nothing_written(self) -> None:
        quiet = ended()
        assert compute_after(quiet, Seen(action(OLD)), now=NOW) == quiet.status
        assert compute_after(quiet, Seen(), now=NOW) == quiet.status

    def test_an_outdated_template_is_told_once_and_taken_back(self) -> None:
        told, status = self.after(ended(), Seen(action(NEW)))
        assert find_condition(status, ConditionType.TEMPLATE_OUTDATED)
        assert (find_condition(status, ConditionType.READY) or {})["status"] == "True"
        again, same = self.after(told, Seen(action(NEW)), NOW + timedelta(hours=1))
        assert same == status
        _, back = self.after(again, Seen(action(OLD)))
        assert back == ended().status

    def test_drift_takes_ready_away_and_gives_it_back(self) -> None:
        watched = ended(driftDetection={"interval": "1m"})
        calm, status = self.after(watched, Seen(None, IN_SYNC))
        assert status["drift"] == {"state": "InSync", "files": 0, "checkedAt": "2026-06-01T12:00:30Z"}
        _, same = self.after(calm, Seen(None, IN_SYNC), NOW + timedelta(hours=1))
        assert same == status
        drifted, status = self.after(calm, Seen(None, DRIFTED))
        ready = find_condition(status, ConditionType.READY) or {}
        assert (ready["status"], ready["reason"]) == ("False", "DriftDetected")
        assert "1 file(s) of configmap/out were changed since: a.txt" in ready["message"]
        assert find_condition(status, ConditionType.STALLED)
        assert find_condition(status, ConditionType.COMPLETE)
        _, back = self.after(drifted, Seen(None, IN_SYNC))
        assert (find_condition(back, ConditionType.READY) or {})["status"] == "True"
        assert find_condition(back, ConditionType.STALLED) is None
        assert find_condition(back, ConditionType.DRIFTED) is None

    def test_a_failed_job_keeps_its_own_failure(self) -> None:
        failed = ended(kind="Failed", driftDetection={})
        status = compute_after(failed, Seen(action(NEW), DRIFTED), now=NOW)
        assert status["conditions"] == failed.status["conditions"]


def test_most_jobs_that_ended_cost_nothing() -> None:
    assert not has_future(ended(trigger={"onTemplateChange": "Ignore"}))
    assert has_future(ended())
