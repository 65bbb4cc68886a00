"""From pydantic's JSON Schema to structural schemas: each form that Kubernetes does not know, and what becomes of it."""

from enum import StrEnum
from typing import Annotated, Any, Literal

import pytest
from pydantic import Field

from unjucks_api import markers
from unjucks_api.crdgen.schema import SchemaError, structural_schema, without_own_keys
from unjucks_api.markers import Cel, Defaulted, Free, IntOrString, ListMap
from unjucks_api.v1alpha1.common import Model


class Colour(StrEnum):
    """What a thing looks like."""

    RED = "Red"


class Inner(Model):
    """A thing inside."""

    name: str
    colour: Colour = Field(default=Colour.RED, description="How it looks.")


def field_of(annotation: Any, default: Any = ...) -> dict[str, Any]:
    """The structural schema of one field with that annotation."""
    namespace = {"__annotations__": {"field": annotation}, "__doc__": "A model.", "__module__": __name__}
    if default is not ...:
        namespace["field"] = default
    model = type("Probe", (Model,), namespace)
    schema: dict[str, Any] = structural_schema(model)["properties"]["field"]
    return schema


def test_references_are_inlined_and_what_stands_beside_them_wins() -> None:
    schema = field_of(Annotated[Inner, Field(description="The chosen one.")])
    assert schema == {
        "description": "The chosen one.",
        "type": "object",
        "required": ["name"],
        "properties": {
            "name": {"type": "string"},
            "colour": {"description": "How it looks.", "type": "string", "enum": ["Red"]},
        },
    }


def test_rules_of_the_type_and_of_the_field_are_both_kept() -> None:
    text = Annotated[str, Cel("self != 'a'", "it must not be the letter a")]
    schema = field_of(Annotated[text, Cel("self != 'b'", "it must not be the letter b")])
    assert [rule["rule"] for rule in schema[markers.X_RULES]] == ["self != 'a'", "self != 'b'"]


def test_none_means_absent() -> None:
    assert field_of(Annotated[int, Field(ge=1, le=9)] | None, None) == {
        "type": "integer",
        "format": "int32",
        "minimum": 1,
        "maximum": 9,
    }


@pytest.mark.parametrize(
    ("bounds", "expected"),
    [
        (Field(gt=0, lt=10), (1, 9, "int32")),
        (Field(ge=0, le=2**31 - 1), (0, 2**31 - 1, "int32")),
        (Field(ge=0, le=2**31), (0, 2**31, "int64")),
    ],
)
def test_integer_bounds_are_inclusive_and_have_a_format(bounds: Any, expected: tuple[int, int, str]) -> None:
    schema = field_of(Annotated[int, bounds])
    assert (schema["minimum"], schema["maximum"], schema["format"]) == expected


def test_a_constant_is_an_enum_of_one() -> None:
    schema = field_of(Literal["Apply"])
    assert schema["enum"] == ["Apply"]
    assert "const" not in schema


def test_only_marked_defaults_reach_the_crd() -> None:
    assert "default" not in field_of(Annotated[str, Field(max_length=3)], "abc")
    assert field_of(Annotated[str, Field(max_length=3), Defaulted()], "abc")["default"] == "abc"


def test_quantities_have_no_type() -> None:
    schema = field_of(Annotated[str, IntOrString("^[0-9]+$", 8, 99)])
    assert "type" not in schema
    assert schema[markers.X_INT_OR_STRING] is True
    assert (schema["pattern"], schema["minimum"], schema["maximum"]) == ("^[0-9]+$", 0, 99)


def test_lists_of_named_objects_say_how_they_merge() -> None:
    schema = field_of(Annotated[tuple[Inner, ...], Field(max_length=3), ListMap()], ())
    assert schema[markers.X_LIST_TYPE] == "map"
    assert schema[markers.X_LIST_KEYS] == ["name"]
    assert schema["maxItems"] == 3
    assert schema["items"]["required"] == ["name"]


def test_maps_and_free_objects() -> None:
    plain = field_of(Annotated[dict[str, Annotated[str, Field(max_length=5)]], Field(max_length=2)])
    assert plain == {"type": "object", "maxProperties": 2, "additionalProperties": {"type": "string", "maxLength": 5}}
    free = field_of(Annotated[dict[str, Any], Field(max_length=7), Free("the user's own")])
    assert without_own_keys(free) == {"type": "object", "maxProperties": 7, markers.X_PRESERVE: True}


class Recursive(Model):
    """A tree."""

    children: tuple["Recursive", ...] = ()


class Cat(Model):
    """An animal."""

    kind: Literal["Cat"]


class Dog(Model):
    """Another animal."""

    kind: Literal["Dog"]


@pytest.mark.parametrize(
    ("annotation", "message"),
    [
        (tuple[int, str], "prefixItems"),
        (set[str], "uniqueItems"),
        (int | str, "several types"),
        (Annotated[Cat | Dog, Field(discriminator="kind")], "oneOf|discriminator"),
        (Recursive, "contains itself"),
        (dict[str, Any], "Free"),
        (Any, "no type"),
        (list, "what its items are|no type"),
    ],
    ids=["tuple", "set", "union", "tagged", "recursive", "free", "any", "list"],
)
def test_what_kubernetes_has_no_form_for_is_an_error_that_names_the_field(annotation: Any, message: str) -> None:
    with pytest.raises(SchemaError, match=f"^[.]field.*({message})"):
        field_of(annotation)


def test_keys_come_in_a_fixed_order() -> None:
    schema = field_of(Annotated[str, Field(pattern="^a$", max_length=4, min_length=1, description="A letter.")])
    assert list(schema) == ["description", "type", "minLength", "maxLength", "pattern"]
