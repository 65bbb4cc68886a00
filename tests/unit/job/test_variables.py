"""Merging variables: order, places, secrets, and hostile texts."""

import pytest

from support.builders import job
from unjucks_api.reasons import Reason
from unjucks_operator.errors import InvalidSpec, Waiting
from unjucks_operator.job.variables import merge_variables

DEFAULTS = {("ConfigMap", "defaults"): {"values.yaml": "owner: a\ndb: {host: h, port: 5432}\n", "plain": "8080"}}
SECRET = {("Secret", "db"): {"url": "postgres://u:hunter2@h", "values.yaml": "db: {password: hunter2}"}}


def merged(inline: dict[str, object], references: list[dict[str, object]], sources: dict[tuple[str, str], object]):  # type: ignore[no-untyped-def]
    spec = job(spec={"variables": inline, "variablesFrom": references}).spec
    return merge_variables(spec.variables, spec.variables_from, sources)  # type: ignore[arg-type]


def test_later_sources_win_and_the_spec_wins_over_all() -> None:
    sources = DEFAULTS | {("ConfigMap", "team"): {"values.yaml": "owner: b\ndb: {host: x}"}}
    result = merged(
        {"db": {"port": 1}},
        [{"kind": "ConfigMap", "name": "defaults"}, {"kind": "ConfigMap", "name": "team"}],
        sources,
    )
    assert result.values == {"owner": "b", "db": {"host": "x", "port": 1}}
    assert result.sensitive == ()


def test_a_single_key_goes_to_its_place_as_text() -> None:
    reference = {"kind": "ConfigMap", "name": "defaults", "valuesKey": "plain", "targetPath": "server.port"}
    result = merged({}, [reference], DEFAULTS)
    assert result.values == {"server": {"port": "8080"}}
    assert result.texts == {"server.port"}


def test_everything_from_a_secret_is_sensitive_until_it_is_replaced() -> None:
    references = [
        {"kind": "Secret", "name": "db"},
        {"kind": "Secret", "name": "db", "valuesKey": "url", "targetPath": "db.url"},
    ]
    result = merged({}, references, SECRET)
    assert result.sensitive == ("db.password", "db.url")
    replaced = merged({"db": {"url": "public"}}, references, SECRET)
    assert replaced.sensitive == ("db.password",)


@pytest.mark.parametrize(
    ("reference", "words"),
    [
        ({"kind": "ConfigMap", "name": "nope"}, "ConfigMap nope of variablesFrom does not exist"),
        (
            {"kind": "ConfigMap", "name": "defaults", "valuesKey": "no.yaml"},
            "has no key no.yaml; it has: plain, values.yaml",
        ),
    ],
)
def test_a_missing_source_is_waited_for_unless_optional(reference: dict[str, object], words: str) -> None:
    with pytest.raises(Waiting, match=words) as caught:
        merged({}, [reference], DEFAULTS)
    assert caught.value.reason is Reason.VARIABLES_REF_NOT_FOUND
    assert merged({"a": 1}, [reference | {"optional": True}], DEFAULTS).values == {"a": 1}


@pytest.mark.parametrize(
    "text",
    [
        "a: &x [1]\nb: *x",
        "a: !!python/object/apply:os.system ['true']",
        "[" * 100 + "]" * 100,
        "hunter2: [",
        "just a text hunter2",
        "a: 1\n--- \nb: 2",
        "1: a\n'1': b",
    ],
    ids=["alias", "tag", "deep", "broken", "no map", "two documents", "one key twice"],
)
def test_hostile_or_broken_yaml_is_refused_without_quoting_it(text: str) -> None:
    with pytest.raises(InvalidSpec) as caught:
        merged({}, [{"kind": "Secret", "name": "s"}], {("Secret", "s"): {"values.yaml": text}})
    assert caught.value.reason is Reason.VARIABLES_INVALID
    assert "hunter2" not in caught.value.message
    assert "key values.yaml of Secret s" in caught.value.message


def test_a_path_through_a_text_is_an_error() -> None:
    references = [
        {"kind": "ConfigMap", "name": "defaults"},
        {"kind": "ConfigMap", "name": "defaults", "valuesKey": "plain", "targetPath": "owner.x"},
    ]
    with pytest.raises(InvalidSpec, match="goes through owner, which is no map"):
        merged({}, references, DEFAULTS)


@pytest.mark.parametrize("number", ["1" + ":0" * 500_000, "!!int '1" + ":0" * 500_000 + "'"])
def test_a_number_in_base_60_cannot_occupy_the_operator(number: str) -> None:
    sources = {("ConfigMap", "hostile"): {"values.yaml": f"delay: {number}"}}
    with pytest.raises(InvalidSpec, match="line 1 has a number of more than 100 characters"):
        merged({}, [{"kind": "ConfigMap", "name": "hostile"}], sources)


def test_long_texts_and_short_times_stay_what_they_are() -> None:
    digest = "0123456789abcdef" * 8
    text = f"digest: {digest}\ntime: 1:30\nlong: '{'1:' * 100}1'\n"
    result = merged({}, [{"kind": "ConfigMap", "name": "fine"}], {("ConfigMap", "fine"): {"values.yaml": text}})
    assert result.values == {"digest": digest, "time": 90, "long": "1:" * 100 + "1"}


def test_one_text_named_many_times_counts_each_time() -> None:
    sources = {("ConfigMap", "big"): {"values.yaml": "a: " + "x" * 400_000}}
    reference = {"kind": "ConfigMap", "name": "big"}
    assert len(merged({}, [reference] * 2, sources).values["a"]) == 400_000
    with pytest.raises(InvalidSpec, match="longer than 1048576 characters together"):
        merged({}, [reference] * 3, sources)
