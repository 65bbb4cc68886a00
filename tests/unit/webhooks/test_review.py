"""Reviews as they come and go, and the rules about objects that need no process."""

import base64
import json
from collections.abc import Mapping
from typing import Any

import pytest

from unjucks_api import names
from unjucks_api.render_protocol import Problem
from unjucks_webhooks import review
from unjucks_webhooks.approve import LAST_APPLIED, _without_code
from unjucks_webhooks.review import Answer, NotAReviewError
from unjucks_webhooks.templates import Checked
from unjucks_webhooks.validate import validate


class Parser:
    """Stands where the confined children are: what it finds is given, and what it is asked is kept."""

    def __init__(self, *problems: Problem, skipped: str = "") -> None:
        self.answer = Checked(problems, skipped)
        self.asked: list[Mapping[str, str]] = []

    async def check(self, files: Mapping[str, str], spec: Mapping[str, Any]) -> Checked:
        self.asked.append(files)
        return self.answer


def request(new: dict[str, Any], old: dict[str, Any] | None = None, kind: str = "TemplateRegistry") -> review.Request:
    operation = "CREATE" if old is None else "UPDATE"
    return review.Request("u", kind, operation, "", "x", "default", "ada", False, new, old or {})


def registry(**spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": names.API_VERSION,
        "kind": "TemplateRegistry",
        "metadata": {"name": "x", "namespace": "default"},
        "spec": {"inline": {"files": {"_templates/a/b/c.njk": "x"}}, **spec},
    }


BAD_SCHEMA = {"schema": {"type": "object", "properties": {"a": {"type": "strin"}}}}


async def test_all_problems_are_in_one_message() -> None:
    body = registry(variables=BAD_SCHEMA, path="/etc")
    parser = Parser(Problem(path="_templates/a/b/c.njk", line=3, column=7, message="no such filter"))
    answer = await validate(request(body), parser)
    assert (answer.allowed, answer.code) == (False, 422)
    assert "this TemplateRegistry has 3 problems" in answer.message
    for text in (
        "spec.path: ",
        "spec.variables.schema/properties/a",
        "spec.inline.files[_templates/a/b/c.njk]:3:7: no such filter",
    ):
        assert text in answer.message


async def test_an_update_answers_for_what_it_makes_wrong_only() -> None:
    old = registry(variables=BAD_SCHEMA)
    parser = Parser(Problem(path="c.njk", message="broken"))
    suspended = await validate(request({**old, "spec": {**old["spec"], "suspend": True}}, old), parser)
    assert suspended.allowed
    assert suspended.warnings[0].startswith("still wrong: spec.variables.schema")
    assert parser.asked == []
    touched = await validate(request(registry(variables=BAD_SCHEMA, path="sub"), old), parser)
    assert not touched.allowed
    assert "c.njk" in touched.message


async def test_a_check_that_was_not_made_is_a_warning() -> None:
    answer = await validate(request(registry()), Parser(skipped="templates are checked later"))
    assert answer == Answer(True, warnings=("templates are checked later",))


async def test_what_is_on_its_way_out_is_let_through() -> None:
    body = registry(variables=BAD_SCHEMA)
    body["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    assert (await validate(request(body, registry()), Parser())).allowed


async def test_other_kinds_are_none_of_ours() -> None:
    assert (await validate(request({"spec": 1}, kind="Pod"), Parser())).allowed


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b"null", b'{"apiVersion":"admission.k8s.io/v1beta1","kind":"AdmissionReview","request":{"uid":"u"}}',
     b'{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{}}'],
)  # fmt: skip
def test_what_is_no_review(body: bytes) -> None:
    with pytest.raises(NotAReviewError):
        review.parse(body)


def test_parts_of_wrong_types_become_empty() -> None:
    body = {"apiVersion": review.API_VERSION, "kind": "AdmissionReview"}
    parts = {"uid": "u", "object": 1, "oldObject": [], "userInfo": "x", "kind": None, "dryRun": "true"}
    found = review.parse(json.dumps({**body, "request": parts}).encode())
    assert (found.new, found.old, found.user, found.kind, found.dry_run) == ({}, {}, "", "", False)


def test_an_answer_is_bounded_and_has_its_patch() -> None:
    patch = [{"op": "remove", "path": "/a"}]
    sent = json.loads(review.dump("u", Answer(True, warnings=("x" * 1000, "two\nlines"), patch=patch)))["response"]
    assert json.loads(base64.b64decode(sent["patch"])) == patch
    assert len(sent["warnings"][0]) <= 250
    assert sent["warnings"][1] == "two lines"
    refused = json.loads(review.dump("u", Answer(False, "y" * 100_000, patch=patch)))["response"]
    assert "patch" not in refused
    assert len(refused["status"]["message"]) == review.MAX_MESSAGE


def test_the_code_goes_out_of_every_place() -> None:
    manifest = {"metadata": {"annotations": {names.ANNOTATION_APPROVAL: "123456", "a": "b"}}}
    found = _without_code({names.ANNOTATION_APPROVAL: "123456", LAST_APPLIED: json.dumps(manifest), "k": "v"})
    assert found is not None
    assert "123456" not in json.dumps(found)
    assert json.loads(found[LAST_APPLIED]) == {"metadata": {"annotations": {"a": "b"}}}
    escaped = json.dumps(manifest).replace("unjucks.io/approval", "unjucks.io\\/approval")
    found = _without_code({LAST_APPLIED: escaped})
    assert found is not None
    assert "123456" not in found[LAST_APPLIED]
    assert _without_code({LAST_APPLIED: '{"unjucks.io/approval": '}) is None
    assert _without_code({LAST_APPLIED: "no code in it"}) == {LAST_APPLIED: "no code in it"}
