"""Shapes, promotion and extras, as pure functions."""

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unjucks_operator.kube import fieldsets
from unjucks_operator.kube.child import ownership

scalars = st.one_of(st.none(), st.booleans(), st.integers(-5, 5), st.text("ab", max_size=2))
keys = st.sampled_from(["a", "b", "c", "d"])
values = st.recursive(
    scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(keys, inner, max_size=3)),
    max_leaves=12,
)
contents = st.fixed_dictionaries({"spec": st.dictionaries(keys, values, max_size=4)})
# Field sets in their JSON form: {} is a field, other keys are fields below.
field_sets = st.recursive(
    st.just({}),
    lambda inner: st.dictionaries(st.sampled_from(["f:a", "f:b", "v:1", "."]), inner, min_size=1, max_size=3).map(
        lambda tree: {key: ({} if key == "." else below) for key, below in tree.items()}
    ),
    max_leaves=8,
)


def _paths(tree: dict[str, Any], path: tuple[str, ...] = ()) -> set[tuple[str, ...]]:
    """The fields that a field set names."""
    if not tree:
        return {path}
    found: set[tuple[str, ...]] = set()
    for key, below in tree.items():
        found |= {path} if key == "." else _paths(below, (*path, key))
    return found


@given(field_sets.filter(bool), field_sets.filter(bool))
def test_union_names_exactly_what_either_names(left: dict[str, Any], right: dict[str, Any]) -> None:
    before = copy.deepcopy((left, right))
    assert _paths(fieldsets.union(left, right)) == _paths(left) | _paths(right)
    assert (left, right) == before


def _entry(manager: str, operation: str, fields: dict[str, Any], **more: str) -> dict[str, Any]:
    return {"manager": manager, "operation": operation, "apiVersion": "v1", "fieldsType": "FieldsV1"} | {
        "fieldsV1": fields,
        **more,
    }


def test_promotion_merges_our_entries_and_leaves_the_others() -> None:
    mine, other = "unjucks-operator/tenant", "kubectl"
    foreign = _entry(other, "Update", {"f:data": {"f:z": {}}})
    status = _entry(mine, "Update", {"f:status": {}}, subresource="status")
    managed = [
        _entry(mine, "Apply", {"f:data": {"f:a": {}}}),
        foreign,
        _entry(mine, "Update", {"f:data": {".": {}, "f:b": {}}}),
        status,
    ]
    promoted = fieldsets.promote(managed, mine)
    assert [entry for entry in promoted if entry in (foreign, status)] == [foreign, status]
    ours = [entry for entry in promoted if entry["manager"] == mine and "subresource" not in entry]
    assert ours == [_entry(mine, "Apply", {"f:data": {".": {}, "f:a": {}, "f:b": {}}})]
    assert fieldsets.promote(promoted, mine) == promoted


def _trimmed(desired: dict[str, Any], live: dict[str, Any]) -> dict[str, Any]:
    """``live`` after the patch that takes the extras out, without what never is content."""
    versioned = live | {"metadata": {"name": "x", "resourceVersion": "7"}}
    left = {key: value for key, value in live.items() if key not in ("metadata", "status")}
    first, *steps = fieldsets.replacement(desired, versioned)
    assert first == {"op": "replace", "path": "/metadata/resourceVersion", "value": "7"}
    for step in steps:
        section = step["path"].removeprefix("/")
        del left[section]
        if step["op"] == "replace":
            left[section] = step["value"]
    return left


@given(contents)
def test_nothing_is_extra_in_the_same_thing(desired: dict[str, Any]) -> None:
    assert fieldsets.extras(desired, copy.deepcopy(desired)) == set()
    assert _trimmed(desired, copy.deepcopy(desired)) == desired


@given(contents, contents)
def test_trimming_leaves_no_extras_and_is_idempotent(desired: dict[str, Any], live: dict[str, Any]) -> None:
    trimmed = _trimmed(desired, live)
    assert fieldsets.extras(desired, trimmed) == set()
    assert _trimmed(desired, trimmed) == trimmed


def test_extras_are_named_by_place_and_value() -> None:
    desired = {"metadata": {"name": "x"}, "spec": {"ports": [{"port": 1}], "keep": {"a": "1"}}}
    live = {
        "metadata": {"name": "x", "uid": "1"},
        "status": {"any": 1},
        "spec": {"ports": [{"port": 1, "protocol": "TCP"}], "keep": {"a": "1000m", "b": "2"}, "more": [1], "none": []},
        "rules": [{}],
    }
    assert fieldsets.extras(desired, live) == {
        ("spec.ports[].protocol", b'"TCP"'),
        ("spec.keep.b", b'"2"'),
        ("spec.more", b"[1]"),
        ("rules", b"[{}]"),
    }
    assert _trimmed(desired, live) == {"spec": {"ports": [{"port": 1}], "keep": {"a": "1000m"}}}


def test_a_longer_list_is_extra_as_a_whole_and_replaced_by_ours() -> None:
    desired = {"spec": {"ingress": [{"from": "a"}]}}
    live = {"spec": {"ingress": [{"from": "a"}, {}]}}
    assert {place for place, _ in fieldsets.extras(desired, live)} == {"spec.ingress"}
    assert _trimmed(desired, live) == desired


def test_lists_in_another_order_are_not_mixed_up() -> None:
    desired = {
        "spec": {
            "volumes": [{"name": "a", "secret": {"secretName": "a"}}, {"name": "b", "emptyDir": {"sizeLimit": "1Mi"}}]
        }
    }
    live = {"spec": {"volumes": list(reversed(desired["spec"]["volumes"]))}}
    assert {place for place, _ in fieldsets.extras(desired, live)} == {"spec.volumes"}
    assert _trimmed(desired, live) == desired


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ({"kind": "RoleBinding", "roleRef": {"name": "a"}}, {"kind": "RoleBinding", "roleRef": {"name": "b"}}),
        (
            {"kind": "ClusterRole", "rules": []},
            {"kind": "ClusterRole", "aggregationRule": {"clusterRoleSelectors": [{}]}},
        ),
        (
            {"kind": "Deployment", "spec": {"selector": {"a": 1}}},
            {"kind": "Deployment", "spec": {"selector": {"a": 2}}},
        ),
        ({"kind": "Secret"}, {"kind": "Secret", "type": "Opaque", "immutable": True}),
        ({"kind": "Secret"}, {"kind": "Secret", "type": "kubernetes.io/tls"}),
    ],
)
def test_what_nobody_can_change_is_made_again(ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    assert fieldsets.is_out_of_reach(ours, theirs)
    assert not fieldsets.is_out_of_reach(ours, {"type": "Opaque"} | ours)


def test_what_can_be_changed_is_never_deleted_for_it() -> None:
    assert not fieldsets.is_out_of_reach(
        {"kind": "NetworkPolicy", "spec": {}}, {"kind": "NetworkPolicy", "spec": {"a": 1}}
    )
    assert not fieldsets.is_out_of_reach(
        {"kind": "Deployment", "spec": {}}, {"kind": "Deployment", "spec": {"replicas": 3}}
    )


def test_the_shape_changes_with_fields_and_lists_but_not_with_values() -> None:
    base = {"kind": "Secret", "data": {"k": "secret"}, "spec": {"list": [{"name": "a", "value": 1}], "n": 1}}
    other_values = {"kind": "X", "data": {"k": "other"}, "spec": {"list": [{"name": "a", "value": 1}], "n": 2}}
    assert fieldsets.shape(base) == fieldsets.shape(other_values)
    changed_list = copy.deepcopy(base)
    changed_list["spec"]["list"][0]["value"] = 2  # type: ignore[index]
    more = copy.deepcopy(base)
    more["data"]["l"] = "x"  # type: ignore[index]
    assert len({fieldsets.shape(one) for one in (base, changed_list, more)}) == 3
    assert len({fieldsets.digest(one) for one in (base, other_values, changed_list, more)}) == 4


def test_digests_do_not_depend_on_the_order_of_keys() -> None:
    assert fieldsets.digest({"a": 1, "b": {"c": 2, "d": 3}}) == fieldsets.digest({"b": {"d": 3, "c": 2}, "a": 1})


def test_empty_lists_go_wherever_they_are_but_empty_objects_stay() -> None:
    manifest = {
        "metadata": {"finalizers": []},
        "spec": {"podSelector": {}, "ingress": [], "egress": [{"to": [], "ports": [{}]}]},
    }
    assert fieldsets.without_empty_lists(manifest) == {
        "metadata": {"finalizers": []},
        "spec": {"podSelector": {}, "egress": [{"ports": [{}]}]},
    }


OURS = _entry("unjucks-operator/tenant", "Apply", {"f:data": {"f:a": {}}}, time="2030-01-01T00:00:00Z")


def test_the_signature_ignores_order_status_and_foreign_metadata() -> None:
    plain, posted = ownership([OURS])
    assert posted == ()
    noise = [
        _entry("kube-controller-manager", "Update", {"f:status": {"f:used": {}}}, subresource="status"),
        _entry("kubectl-label", "Update", {"f:metadata": {"f:labels": {"f:team": {}}}}),
    ]
    assert ownership([*noise, OURS])[0] == plain
    assert ownership([OURS, *noise])[0] == plain


def test_the_signature_shows_our_fields_and_foreign_content() -> None:
    variants = [
        [OURS],
        [OURS | {"fieldsV1": {}}],
        [OURS | {"time": "2030-01-01T00:00:01Z"}],
        [OURS | {"operation": "Update"}],
        [OURS, _entry("kubectl-edit", "Update", {"f:data": {"f:z": {}}})],
        [OURS, _entry("kubectl-edit", "Update", {"f:data": {"f:y": {}}})],
        [],
    ]
    assert len({ownership(variant)[0] for variant in variants}) == len(variants)
    assert ownership([OURS | {"operation": "Update"}])[1] == ("unjucks-operator/tenant",)
