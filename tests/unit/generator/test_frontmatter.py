"""Frontmatter: every key, every refusal with its line; strict YAML."""

from typing import Any

import pytest

from unjucks_runtime.generator.errors import ParseError
from unjucks_runtime.generator.frontmatter import Frontmatter, looks_like_frontmatter, parse, split
from unjucks_runtime.generator.yamlfile import parse_yaml


def front(text: str) -> Frontmatter:
    return parse(text)


class TestSplit:
    def test_head_body_and_line_of_the_body(self) -> None:
        assert split("---\nto: a\n---\nbody\n") == ("to: a\n", "body\n", 4)
        assert split("---\n---\n---\n") == ("", "---\n", 3)

    def test_byte_order_mark_and_windows_line_ends(self) -> None:
        assert split("\ufeff---\r\nto: a\r\n---\r\nbody") == ("to: a\r\n", "body", 4)

    def test_none(self) -> None:
        assert split("body\n---\n") is None
        assert split("---\nto: a\nno end") is None
        assert split("----\nto: a\n---\n") is None

    def test_kubernetes_yaml_is_no_frontmatter(self) -> None:
        assert not looks_like_frontmatter("apiVersion: v1\nkind: Pod\n")
        assert looks_like_frontmatter("to: a\n")
        assert looks_like_frontmatter("to: {{ name }}.ts\n")


class TestKeys:
    def test_all_of_them(self) -> None:
        made = front(
            'to: "a/{{ x }}"\ninject: true\nafter: "// here"\noccurrence: last\nmarker: m\ncomment: "#"\nskipIf: not x\n'
            'skip_if: "text"\nunless_exists: true\nforce: true\nif: x and y\nchmod: "755"\nmessage: hi\n'
            "forEach: {item: m, in: models, index: i}\n"
        )
        assert (made.to, made.anchor, made.anchor_value, made.occurrence) == ("a/{{ x }}", "after", "// here", -1)
        assert (made.marker, made.comment, made.skip_if_expression, made.skip_if_text) == ("m", "#", "not x", "text")
        assert (made.unless_exists, made.force, made.condition, made.chmod, made.message) == (
            True,
            True,
            "x and y",
            0o755,
            "hi",
        )
        assert made.for_each is not None
        assert (made.for_each.item, made.for_each.within, made.for_each.index) == ("m", "models", "i")
        assert made.marks["after"] == (4, 1)

    @pytest.mark.parametrize("text", ["to: null", "to:", 'to: ""', "to: false", 'to: "  "'])
    def test_an_empty_target_skips_the_file(self, text: str) -> None:
        assert front(text).skip

    @pytest.mark.parametrize("key", ["append", "prepend"])
    def test_off_is_off(self, key: str) -> None:
        assert front(f"to: a\n{key}: false").anchor == ""

    def test_line_at_and_its_alias(self) -> None:
        assert front("to: a\nlineAt: 3").anchor_value == 3
        assert front("to: a\nat_line: 3").anchor_value == 3
        assert front('to: a\nlineAt: "{{ n }}"').anchor_value == "{{ n }}"

    @pytest.mark.parametrize(
        ("text", "line", "words"),
        [
            ("to: a\nunles_exists: x", 3, "did you mean unless_exists?"),
            ("to: a\nbogus: x", 3, "unknown frontmatter key 'bogus'"),
            ("to: a\nsh: rm -rf /", 3, "commands are never run"),
            ("to: a\nsetup: x", 3, "commands are never run"),
            ("to: a\nunless: x", 3, 'write if: "not …"'),
            ("to: a\nwhen: x", 3, "write if"),
            ("to: {{ name }}.ts", 2, "put it in quotes"),
            ("to: {{ name }}", 2, "put it in quotes"),
            ("to: a\nbefore: x\nafter: y", 4, "exclude each other"),
            ("to: a\nappend: true\nlineAt: 1", 4, "exclude each other"),
            ("to: a\ninject: true", 3, "needs a place"),
            ("to: a\ninject: false\nbefore: x", 4, "contradicts inject: false"),
            ("to: a\ninject: 1", 3, "must be true or false"),
            ("to: a\nlineAt: 0", 3, "counts lines from 1"),
            ("to: a\nappend: yes", 3, "must be true or false"),
            ("to: a\nafter: ''", 3, "must hold the text of a line"),
            ("to: a\nmerge: yaml", 3, "merge must be json"),
            ("to: a\nmerge: json\nmarker: x", 4, "JSON, which has no comment lines"),
            ("to: a\nmarker: x", 3, "marker needs one of"),
            ("to: a\nafter: x\ncreate: true", 4, "no place for after"),
            ("to: a\nappend: true\noccurrence: 2", 4, "goes with before or after"),
            ("to: a\nafter: x\noccurrence: 0", 4, "occurrence must be"),
            ("to: a\nchmod: 755", 3, "quoted text"),
            ('to: a\nchmod: "777"', 3, "not allowed"),
            ('to: a\nchmod: "+x"', 3, "not allowed"),
            ("to: a\nforce: 1", 3, "true or false"),
            ("to: a\nif: '{{ x }}'", 3, "write it without {{ }}"),
            ("to: a\nskipIf: 'x %} y'", 3, "write it without {{ }}"),
            ("to: a\nforEach: models", 3, "forEach must be {item"),
            ("to: a\nforEach: {item: a-b, in: x}", 3, "no variable name"),
            ("to: a\nforEach: {item: a, in: 1}", 3, "must be a list, or an expression"),
            ("to: a\nto: b", 3, "stands twice"),
            ("to: a\nlineAt: 1\nat_line: 1", 4, "the same key"),
            ("- a", 2, "frontmatter is a map"),
            ("to: &x a", 2, "anchors and aliases"),
            ("to: !!python/name:os.system x", 2, "tags are not allowed"),
            ("<<: {to: a}", 2, "merge keys"),
            ("to: [a", 3, "not valid YAML"),
            ("? [a]\n: b", 2, "must be plain text"),
        ],
    )
    def test_refused_with_line_and_words(self, text: str, line: int, words: str) -> None:
        with pytest.raises(ParseError) as caught:
            parse(text)
        assert words in caught.value.message
        assert caught.value.line == line


class TestStrictYaml:
    @pytest.mark.parametrize(
        ("text", "value"),
        [
            ("a: yes\nb: NO\nc: on", {"a": "yes", "b": "NO", "c": "on"}),
            ("a: true\nb: 'true'", {"a": True, "b": "true"}),
            ("a: 012\nb: 0o14\nc: 0x1f\nd: 1.5\ne: 1e3\nf: 1:30", {"a": 12, "b": 12, "c": 31, "d": 1.5, "e": 1000.0, "f": "1:30"}),
            ("a: 2026-01-31", {"a": "2026-01-31"}),
            ("a: ~\nb:\nc: null", {"a": None, "b": None, "c": None}),
            ("a: |\n  x\n  y\n", {"a": "x\ny\n"}),
            ("[1, {b: 2}]", [1, {"b": 2}]),
            ("", None),
        ],
    )  # fmt: skip
    def test_core_schema(self, text: str, value: Any) -> None:
        assert parse_yaml(text)[0] == value

    def test_places(self) -> None:
        _, marks = parse_yaml("a:\n  b: 1\n  c: [x, y]\n", first_line=10)
        assert marks[("a", "b")] == (11, 3)
        assert marks[("a", "c", 1)] == (12, 10)

    @pytest.mark.parametrize(
        ("text", "words"),
        [
            ("a: &a [x]\nb: *a", "anchors and aliases"),
            ("a: 1\n---\nb: 2", "second YAML document"),
            ("[" * 50 + "]" * 50, "nested deeper"),
            ("a: .inf", "no JSON number"),
            ("a: !!binary aGk=", "tags are not allowed"),
            ("a: 'x", "not valid YAML"),
            ("\x00", "not valid YAML"),
            ("x" * 600_000, "longer than"),
            ("[" + "1," * 60_000 + "]", "more than 50000 values"),
        ],
    )
    def test_bombs_and_others(self, text: str, words: str) -> None:
        with pytest.raises(ParseError, match=words):
            parse_yaml(text)

    def test_the_classic_bomb(self) -> None:
        bomb = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
            f"{chr(98 + i)}: &{chr(98 + i)} [{','.join(['*' + chr(97 + i)] * 9)}]\n" for i in range(8)
        )
        with pytest.raises(ParseError, match="anchors and aliases"):
            parse_yaml(bomb)
