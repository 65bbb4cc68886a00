"""Variables against schemas: every problem at once, defaults, lossless text, secrets never shown, hostile schemas bounded."""

import json
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unjucks_api.variable_schema import KEYWORDS, MAX_WORK, TooMuchWorkError, charge_validation, check_schema, measure
from unjucks_api.variables import ProblemKind, VariableProblem, coerce_text, dotted, is_sensitive, validate

SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["name", "port"],
    "additionalProperties": False,
    "properties": {
        "name": {"type": "string", "pattern": "^[a-z]+$", "description": "Name of the service."},
        "port": {"type": "integer", "minimum": 1, "maximum": 65535},
        "language": {"enum": ["python", "go"], "default": "python"},
        "ratio": {"type": "number"},
        "debug": {"type": "boolean"},
        "tags": {"type": "array", "items": {"type": "string"}, "uniqueItems": True},
        "database": {
            "type": "object",
            "additionalProperties": False,
            "properties": {
                "host": {"type": "string", "default": "localhost"},
                "pool": {"type": "object", "properties": {"size": {"type": "integer", "default": 5}}},
                "password": {"type": "string", "writeOnly": True, "minLength": 8},
            },
        },
        "fields": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["name"],
                "properties": {"name": {"type": "string"}, "required": {"type": "boolean", "default": False}},
            },
        },
    },
}
GOOD: dict[str, Any] = {"name": "shop", "port": 80}


def problems(variables: dict[str, Any], schema: dict[str, Any] = SCHEMA, **more: Any) -> dict[str, str]:
    return {item.path: item.message for item in validate(schema, variables, **more)[1]}


def kinds(variables: dict[str, Any], schema: dict[str, Any] = SCHEMA) -> dict[str, ProblemKind]:
    return {item.path: item.kind for item in validate(schema, variables)[1]}


class TestDefaults:
    def test_nested_defaults_are_filled_in(self) -> None:
        merged, found = validate(SCHEMA, GOOD)
        assert not found
        assert merged == {
            **GOOD,
            "language": "python",
            "database": {"host": "localhost", "pool": {"size": 5}},
        }

    def test_defaults_inside_list_items(self) -> None:
        merged, _ = validate(SCHEMA, {**GOOD, "fields": [{"name": "id"}, {"name": "x", "required": True}]})
        assert merged["fields"] == [{"name": "id", "required": False}, {"name": "x", "required": True}]

    def test_given_values_win_and_the_input_stays_as_it_was(self) -> None:
        given_values = {**GOOD, "database": {"host": "db"}}
        before = json.dumps(given_values)
        merged, _ = validate(SCHEMA, given_values)
        assert merged["database"] == {"host": "db", "pool": {"size": 5}}
        assert json.dumps(given_values) == before

    def test_a_default_is_copied_each_time(self) -> None:
        schema = {"properties": {"tags": {"type": "array", "default": []}}}
        first, _ = validate(schema, {})
        first["tags"].append("x")
        assert validate(schema, {})[0] == {"tags": []}

    def test_an_object_with_a_required_part_without_default_is_not_invented(self) -> None:
        schema = {
            "properties": {
                "db": {"type": "object", "required": ["url"], "properties": {"url": {}, "size": {"default": 1}}}
            }
        }
        assert validate(schema, {})[0] == {}
        assert validate(schema, {"db": {"url": "x"}})[0] == {"db": {"url": "x", "size": 1}}

    def test_through_references_and_allof(self) -> None:
        schema = {
            "properties": {"a": {"$ref": "#/$defs/part"}},
            "allOf": [{"properties": {"b": {"default": 2}}}],
            "$defs": {"part": {"type": "integer", "default": 1}},
        }
        assert validate(schema, {})[0] == {"a": 1, "b": 2}


class TestMessages:
    def test_everything_at_once_each_with_its_path(self) -> None:
        found = problems(
            {
                "name": "Shop",
                "port": 0,
                "language": "c",
                "tags": ["a", "a"],
                "database": {"hots": 1},
                "fields": [{}, {"name": 3}],
            }
        )
        assert found == {
            "database.hots": "is not a known variable; did you mean host?",
            "fields[0].name": "is required (text)",
            "fields[1].name": "must be text, got a whole number (3)",
            "language": 'must be one of "python", "go", got "c"',
            "name": 'must match the pattern ^[a-z]+$, got "Shop"',
            "port": "must be at least 1, got 0",
            "tags": "must not hold the same item twice",
        }

    def test_missing_is_its_own_kind_and_says_what_is_wanted(self) -> None:
        assert problems({}) == {
            "name": "is required (text; Name of the service)",
            "port": "is required (a whole number)",
        }
        assert set(kinds({}).values()) == {ProblemKind.MISSING}
        assert kinds({"name": 3}) == {"name": ProblemKind.INVALID, "port": ProblemKind.MISSING}

    def test_a_missing_variable_with_choices_names_them(self) -> None:
        schema = {"required": ["size"], "properties": {"size": {"enum": ["S", "M"]}}}
        assert problems({}, schema) == {"size": 'is required (one of "S", "M")'}

    def test_unknown_variables_get_a_hint(self) -> None:
        found = problems({**GOOD, "prot": 1, "zzz": 2})
        assert found["prot"] == "is not a known variable; did you mean port?"
        assert found["zzz"].startswith("is not a known variable; known are database, debug, ")
        assert kinds({**GOOD, "prot": 1}) == {"prot": ProblemKind.UNKNOWN}

    @pytest.mark.parametrize(
        ("schema", "value", "message"),
        [
            ({"type": ["integer", "null"]}, "x", 'must be null or a whole number, got text ("x")'),
            ({"const": 3}, 4, "must be 3, got 4"),
            ({"maxLength": 2}, "abc", 'must have at most 2 characters, got "abc"'),
            ({"minItems": 1}, [], "must have at least 1 items"),
            ({"multipleOf": 5}, 7, "must be a multiple of 5, got 7"),
            ({"exclusiveMaximum": 5}, 5, "must be less than 5, got 5"),
            ({"format": "k8s-name"}, "A", "must be lower-case letters, digits and -, at most 63 characters, "),
            ({"format": "path"}, "../x", "must be a relative path with / between its parts, without . or .. parts"),
            ({"format": "email"}, "x", 'must be of the format email, got "x"'),
            ({"anyOf": [{"type": "string"}, {"minimum": 5}]}, 3, "fits none of the alternatives: "),
            ({"oneOf": [{"type": "integer"}, {"minimum": 0}]}, 3, "matches more than one of the alternatives"),
            ({"not": {"type": "integer"}}, 3, "does not hold the schema's rule 'not'"),
            (False, 3, "must not be given"),
            ({"type": "object"}, [1], "must be an object, got a list"),
        ],
    )
    def test_each_rule_has_words(self, schema: Any, value: Any, message: str) -> None:
        found = problems({"v": value}, {"properties": {"v": schema}})
        assert found["v"].startswith(message), found

    def test_long_values_are_cut(self) -> None:
        message = problems({**GOOD, "name": "A" * 5000})["name"]
        assert len(message) < 200

    def test_many_problems_are_counted(self) -> None:
        schema = {"properties": {"v": {"items": {"type": "integer"}}}}
        found = validate(schema, {"v": ["x"] * 500})[1]
        assert len(found) == 51
        assert found[-1].message.startswith("and ")

    def test_order_follows_numbers(self) -> None:
        schema = {"properties": {"v": {"items": {"type": "integer"}}}}
        assert [p.path for p in validate(schema, {"v": ["x"] * 11})[1]] == [f"v[{i}]" for i in range(11)]


class TestSecrets:
    SECRET = "correct-horse"

    def texts(self, variables: dict[str, Any], schema: dict[str, Any] = SCHEMA, **more: Any) -> str:
        found = validate(schema, variables, **more)[1]
        assert found
        return " ".join(f"{item.path} {item.message}" for item in found)

    def test_values_that_the_schema_marks_are_never_shown(self) -> None:
        text = self.texts({**GOOD, "database": {"password": "short"}})
        assert "short" not in text.replace("shorter", "")
        assert "not shown" in text

    @pytest.mark.parametrize(
        "schema",
        [
            {"type": "integer"},
            {"enum": ["a"]},
            {"const": "a"},
            {"pattern": "^x$"},
            {"format": "uuid"},
            {"maxLength": 2},
            {"anyOf": [{"const": "a"}, {"pattern": "b"}]},
            {"oneOf": [{"type": "string"}, {"minLength": 1}]},
            {"not": {"type": "string"}},
        ],
    )
    def test_values_from_secrets_are_never_shown_by_any_rule(self, schema: dict[str, Any]) -> None:
        whole = {"properties": {"token": schema}}
        assert self.SECRET not in self.texts({"token": self.SECRET}, whole, sensitive=["token"])

    def test_inside_and_around_a_secret(self) -> None:
        schema = {"properties": {"db": {"properties": {"url": {"type": "integer"}}, "maxProperties": 0}}}
        assert self.SECRET not in self.texts({"db": {"url": self.SECRET}}, schema, sensitive=["db.url"])
        closed = {"properties": {"db": {"properties": {}, "additionalProperties": False}}}
        assert self.SECRET not in self.texts({"db": {self.SECRET: 1}}, closed, sensitive=["db"])

    def test_marks_are_found_through_lists_and_references(self) -> None:
        schema = {
            "properties": {"users": {"items": {"$ref": "#/$defs/user"}}},
            "$defs": {"user": {"properties": {"key": {"x-sensitive": True}, "name": {}}}},
        }
        assert is_sensitive(schema, ("users", 0, "key"))
        assert not is_sensitive(schema, ("users", 0, "name"))

    def test_marks_are_found_through_patterns_and_conditions(self) -> None:
        schema = {
            "patternProperties": {"_key$": {"writeOnly": True}},
            "if": {},
            "then": {"properties": {"then": {"writeOnly": True}}},
            "dependentSchemas": {"a": {"properties": {"dependent": {"writeOnly": True}}}},
        }
        assert all(is_sensitive(schema, (name,)) for name in ("api_key", "then", "dependent"))


class TestText:
    @pytest.mark.parametrize(
        ("text", "kinds_", "value"),
        [
            ("8080", ["integer"], 8080),
            ("-3", ["integer"], -3),
            ("true", ["boolean"], True),
            ("false", ["boolean"], False),
            ("1.5", ["number"], 1.5),
            ("7", ["number"], 7),
            ("null", ["null"], None),
            ('["a"]', ["array"], ["a"]),
            ('{"a": 1}', ["object"], {"a": 1}),
            # not lossless, or another type may be meant: stays text
            ("0080", ["integer"], "0080"),
            ("8080 ", ["integer"], "8080 "),
            ("+1", ["integer"], "+1"),
            ("1e400", ["number"], "1e400"),
            ("0.1000000000000000055511151231257827", ["number"], "0.1000000000000000055511151231257827"),
            ("yes", ["boolean"], "yes"),
            ("8080", ["integer", "string"], "8080"),
            ("8080", [], "8080"),
            ('{"a":1,"a":2}', ["object"], '{"a":1,"a":2}'),
            ("[NaN]", ["array"], "[NaN]"),
            ("[" * 5000, ["array"], "[" * 5000),
        ],
    )
    def test_only_what_loses_nothing(self, text: str, kinds_: list[str], value: Any) -> None:
        made = coerce_text(text, kinds_)
        assert made == value
        assert type(made) is type(value)

    def test_only_named_variables_are_turned(self) -> None:
        assert problems({"name": "a", "port": "80"}) == {"port": 'must be a whole number, got text ("80")'}
        assert validate(SCHEMA, {"name": "a", "port": "80"}, text=["port"])[0]["port"] == 80

    def test_nested_names(self) -> None:
        merged, found = validate(
            SCHEMA,
            {**GOOD, "fields": [{"name": "a", "required": "true"}], "database": {"pool": {"size": "9"}}},
            text=["fields[0].required", "database.pool.size", "not.there", "fields[7].name"],
        )
        assert not found
        assert merged["fields"][0]["required"] is True
        assert merged["database"]["pool"]["size"] == 9

    @given(st.integers(-(10**17), 10**17))
    def test_integers_come_back_as_they_were(self, number: int) -> None:
        assert coerce_text(str(number), ["integer"]) == number


def bomb(levels: int, keyword: str) -> dict[str, Any]:
    parts: dict[str, Any] = {f"a{i}": {keyword: [{"$ref": f"#/$defs/a{i + 1}"}] * 2} for i in range(levels)}
    parts[f"a{levels}"] = {"type": "string"}
    return {"properties": {"q": {"$ref": "#/$defs/a0"}}, "$defs": parts}


def nested(levels: int) -> Any:
    value: Any = "x"
    for _ in range(levels):
        value = [value]
    return value


class TestHostileSchemas:
    @pytest.mark.parametrize(
        ("schema", "words"),
        [
            ({"properties": {"q": {"$ref": "http://127.0.0.1:1/x"}}}, "nothing is fetched"),
            ({"properties": {"q": {"$ref": "file:///etc/passwd"}}}, "nothing is fetched"),
            ({"properties": {"q": {"$ref": "#/properties/q"}}}, "nothing is fetched"),
            ({"$id": "http://127.0.0.1/x"}, "unknown or unsupported schema keyword '$id'"),
            ({"$dynamicRef": "#x"}, "unknown or unsupported"),
            ({"requried": ["a"]}, "did you mean required?"),
            ({"$ref": "#"}, "leads back to itself"),
            (
                {
                    "properties": {"q": {"$ref": "#/$defs/a"}},
                    "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}},
                },
                "back to itself",
            ),
            (bomb(30, "allOf"), "grows beyond"),
            (bomb(30, "anyOf"), "grows beyond"),
            (bomb(60, "oneOf"), "references are nested deeper"),
            ({"properties": {"q": {"pattern": "a" * 2000}}}, "longer than 1000 characters"),
            ({"properties": {"q": {"pattern": "(?=a)b"}}}, "does not hold"),
            ({"properties": {"q": {"pattern": "(a{1000}){1000}"}}}, "does not hold"),
            ({"properties": {f"p{i}": {"pattern": "a" * 999} for i in range(20)}}, "together are longer"),
            ({"properties": {"q": {"type": "text"}}}, "unknown type 'text'"),
            ({"properties": {"q": {"format": "emial"}}}, "unknown format 'emial'"),
            ({"type": "array"}, "must be object"),
            ({"properties": {"q": 3}}, "a subschema is an object, true or false"),
            ({"properties": {"q": {"minimum": "x"}}}, "minimum must be a number"),
            ({"oneOf": 3}, "oneOf must be a list of subschemas"),
            ({"required": "name"}, "required must be a list of names"),
            ({"properties": {f"p{i}": {} for i in range(6000)}}, "more than 5000 subschemas"),
        ],
    )  # fmt: skip
    @pytest.mark.isolation("T-regex-invalid", "T-regex-redos")
    def test_is_refused_with_words(self, schema: dict[str, Any], words: str) -> None:
        merged, found = validate(schema, {"q": "x"})
        assert merged == {}
        assert {item.kind for item in found} == {ProblemKind.SCHEMA}
        assert words in " ".join(str(item) for item in found)

    def test_deep_schema(self) -> None:
        schema: dict[str, Any] = {}
        inner = schema
        for _ in range(3000):
            inner["properties"] = {"a": {}}
            inner = inner["properties"]["a"]
        assert "nested deeper" in str(validate(schema, {})[1][0])

    def test_recursive_schema_that_doubles_with_the_values_depth(self) -> None:
        schema = {
            "properties": {"q": {"$ref": "#/$defs/t"}},
            "$defs": {
                "t": {"anyOf": [{"type": "string"}, {"items": {"$ref": "#/$defs/t"}}, {"items": {"$ref": "#/$defs/t"}}]}
            },
        }
        assert validate(schema, {"q": nested(5)})[1] == []
        _, found = validate(schema, {"q": nested(60)})
        assert found[0].kind is ProblemKind.SCHEMA

    def test_a_tree_shaped_schema_is_fine(self) -> None:
        schema = {
            "properties": {"root": {"$ref": "#/$defs/node"}},
            "$defs": {
                "node": {
                    "type": "object",
                    "required": ["name"],
                    "properties": {
                        "name": {"type": "string"},
                        "children": {"type": "array", "items": {"$ref": "#/$defs/node"}},
                    },
                }
            },
        }
        tree = {"name": "a", "children": [{"name": "b", "children": []}, {"children": []}]}
        assert problems({"root": tree}, schema) == {"root.children[1].name": "is required (text)"}

    def test_defaults_that_multiply(self) -> None:
        parts: dict[str, Any] = {
            f"a{i}": {"properties": {"x": {"$ref": f"#/$defs/a{i + 1}"}, "y": {"$ref": f"#/$defs/a{i + 1}"}}}
            for i in range(12)
        }
        parts["a12"] = {"default": 1}
        _, found = validate({"properties": {"q": {"$ref": "#/$defs/a0"}}, "$defs": parts}, {})
        assert "defaults fill in more than" in found[0].message

    def test_the_work_of_a_validation_is_charged_first(self) -> None:
        schema = {"properties": {"q": {"items": {"allOf": [{"type": "integer"}] * 20}}}}
        assert charge_validation(schema, {"q": [1]}) < 100
        with pytest.raises(TooMuchWorkError):
            charge_validation(schema, {"q": [1] * MAX_WORK})

    def test_expressions_are_linear(self) -> None:
        schema = {"properties": {"q": {"pattern": "^(a|aa|a*)*$"}}}
        started = time.process_time()
        assert problems({"q": "a" * 200_000 + "!"}, schema)
        # A backtracking engine would not end within the age of the universe; the bound only has to tell the two apart.
        assert time.process_time() - started < 20

    @pytest.mark.parametrize(
        ("variables", "words"),
        [
            ({"q": nested(100)}, "deeper than"),
            ({"q": float("nan")}, "NaN"),
            ({"q": {1: 2}}, "is not text"),
            ({"q": object()}, "JSON has not"),
            ({"q": 10**400}, "digits"),
            ({"q": ["x"] * 60_000}, "more than 50000 values"),
            ({"q": "x" * (5 * 1024 * 1024)}, "longer than"),
        ],
    )
    def test_hostile_values(self, variables: dict[str, Any], words: str) -> None:
        _, found = validate({"properties": {}}, variables)
        assert words in found[0].message

    def test_measure_is_iterative(self) -> None:
        assert measure(nested(100_000), max_depth=200_000, max_nodes=10**6, max_text=10) is None


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**6), 10**6)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8),
    lambda children: st.lists(children, max_size=4) | st.dictionaries(st.text(max_size=8), children, max_size=4),
    max_leaves=12,
)  # fmt: skip


class TestProperties:
    @settings(max_examples=80, deadline=None)
    @given(
        st.dictionaries(st.sampled_from(sorted(KEYWORDS)), json_values, max_size=5),
        st.dictionaries(st.text(max_size=6), json_values, max_size=4),
    )
    def test_any_schema_and_any_variables_end_in_an_answer(
        self, schema: dict[str, Any], variables: dict[str, Any]
    ) -> None:
        merged, found = validate(schema, variables)
        assert isinstance(merged, dict)
        assert all(isinstance(item, VariableProblem) and item.message for item in found)
        if not check_schema(schema) and not found:
            assert validate(schema, merged) == (merged, [])

    @settings(max_examples=80, deadline=None)
    @given(st.dictionaries(st.sampled_from(sorted(SCHEMA["properties"])), json_values, max_size=6))
    def test_filling_in_defaults_twice_changes_nothing(self, variables: dict[str, Any]) -> None:
        merged, found = validate(SCHEMA, variables)
        again, found_again = validate(SCHEMA, merged)
        assert (again, found_again) == (merged, found)


def test_dotted() -> None:
    assert dotted(("fields", 0, "name")) == "fields[0].name"
    assert dotted(()) == ""
