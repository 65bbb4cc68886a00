"""Texts of a Git output: variables stand in, nothing is rendered, and no value of a Secret gets in."""

from typing import Any

import pytest

from unjucks_api.reasons import Reason
from unjucks_operator.errors import Terminal
from unjucks_operator.job.outputs.text import fill

VALUES: dict[str, Any] = {
    "entity": "Order",
    "count": 3,
    "on": True,
    "fields": [1],
    "db": {"url": "hunter2", "name": "orders"},
    "odd": "a\nb\x1b[31m {{ entity }}",
}


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("Generate {{ entity }} API", "Generate Order API"),
        ("{{entity}} {{ count }} {{ on }} {{ db.name }}", "Order 3 true orders"),
        ("{% if x %} {{ 1 + 1 }} {{ entity | upper }}", "{% if x %} {{ 1 + 1 }} {{ entity | upper }}"),
        ("{{ odd }}", "a b[31m {{ entity }}"),
    ],
)
def test_variables_stand_in_and_nothing_is_rendered(text: str, wanted: str) -> None:
    assert fill(text, VALUES, ("db.url",), "spec.x") == wanted


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{{ db.url }}", Reason.SENSITIVE_DATA_BLOCKED),
        ("{{ db }}", Reason.SENSITIVE_DATA_BLOCKED),
        ("{{ nothing }}", Reason.VARIABLES_MISSING),
        ("{{ entity.x }}", Reason.VARIABLES_MISSING),
        ("{{ fields }}", Reason.VARIABLES_INVALID),
    ],
)
def test_what_cannot_stand_in_is_told_without_its_value(text: str, reason: Reason) -> None:
    with pytest.raises(Terminal, match=r"spec\.x names") as caught:
        fill(text, VALUES, ("db.url",), "spec.x")
    assert caught.value.reason is reason
    assert "hunter2" not in caught.value.message
