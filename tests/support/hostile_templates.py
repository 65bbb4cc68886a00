"""Hostile templates by class, each with the only outcomes that are allowed. Data for the tests of engine and operator.

Outcomes: ``nothing`` (empty text), ``=text`` (exactly this), ``error`` (a ``TemplateError`` that is no limit), ``limit:a,b``
(``LimitExceeded`` of one of these), ``harmless`` (any text without insides of Python or JavaScript, or an error).
"""

# ruff: noqa: E501 - tables and template texts

from __future__ import annotations

from collections.abc import Iterator

Case = tuple[str, str, str]  # class, template, outcome

#: Values to start walking from: data of every kind, callables, what the engine hands out.
_STARTS = {
    "dict": "o", "list": "l", "text": "s", "number": "n", "float": "f", "boolean": "t", "null": "nul", "function": "range",
    "cycler": "cycler(1)", "joiner": "joiner()", "regex": "r/a/", "safe": "(s | safe)", "bound method": "s.trim", "match": "s.match(r/b/)",
    "group": "(o)", "literal": "{}", "range": "range(3)", "iterator": "l.keys()",
}  # fmt: skip
_PYTHON = [
    "__class__", "__dict__", "__globals__", "__init__", "__subclasses__", "__mro__", "__base__", "__builtins__", "__code__", "__closure__",
    "__self__", "__func__", "__module__", "__reduce__", "__getattribute__", "__doc__", "func_globals", "gi_frame", "cr_frame", "f_globals",
    "f_back", "tb_frame", "mro", "format", "format_map", "encode", "call", "fn", "vars", "parent", "props", "compiled", "env", "items_",
]  # fmt: skip
_JS = [
    "constructor",
    "__proto__",
    "prototype",
    "__defineGetter__",
    "__lookupGetter__",
    "__defineSetter__",
    "apply",
    "bind",
]


def walking() -> Iterator[Case]:
    """Steps from a value to an object of the host, in every syntax."""
    for kind, start in _STARTS.items():
        for name in ("__class__", "constructor", "__proto__", "__globals__", "__init__"):
            yield f"walk from {kind}", f"{{{{ {start}.{name} }}}}", "nothing"
    for index, name in enumerate([*_PYTHON, *_JS]):
        start = ["o", "l", "s", "range"][index % 4]
        yield "walk by subscript", f'{{{{ {start}["{name}"] }}}}', "nothing"
        yield "walk by a built name", f'{{% set k = "{name[:3]}" ~ "{name[3:]}" %}}{{{{ {start}[k] }}}}', "nothing"
        yield "walk by a filter's attribute", f'{{{{ [o] | join(",", "{name}") }}}}', "nothing"
        yield "call of what is not there", f'{{{{ {start}["{name}"]() }}}}', "error"
    for name in (
        "__class__.__init__",
        "constructor.constructor",
        "a.__class__",
        "__globals__.os",
        "toString.constructor",
    ):
        yield "dotted attribute", f'{{{{ [o] | groupby("{name}") | dump }}}}', "harmless"
        yield "dotted attribute", f'{{{{ [o, o] | sort(attribute="{name}") | dump }}}}', "harmless"
        yield "dotted attribute", f'{{{{ [o] | selectattr("{name}") | dump }}}}', "=[]"
        yield "dotted attribute", f'{{{{ [o] | sum("{name}") }}}}', "=NaN"


_CODE = [
    '{{ o.constructor.constructor("return 1")() }}',
    '{{ range.constructor("return process.version")() }}',
    '{{ s.constructor.constructor("return 6 * 7")() }}',
    '{{ cycler.__init__.__globals__.os.popen("id").read() }}',
    '{{ joiner.__init__.__globals__ }}',
    '{{ "".__class__.__mro__[1].__subclasses__() }}',
    '{{ [].__class__.__base__.__subclasses__()[0] }}',
    '{{ ().__class__ }}',
    '{{ self.__init__.__globals__ }}',
    '{{ lipsum.__globals__ }}',
    '{{ namespace.__init__.__globals__ }}',
    '{{ request.application.__globals__ }}',
    '{{ config.items() }}',
    '{{ get_flashed_messages.__globals__ }}',
    '{{ url_for.__globals__ }}',
    '{{ "%s" | format(o) }}',
    '{{ "{0.__class__}".format(s) }}',
    '{{ "{0.__class__}".format_map(o) }}',
    '{{ s | attr("__class__") }}',
    '{{ o | map(attribute="__class__") }}',
    '{{ eval("1") }}', '{{ exec("1") }}', '{{ open("/etc/passwd") }}', '{{ __import__("os") }}', '{{ globals() }}', '{{ locals() }}',
    '{{ require("fs") }}', '{{ process.exit(1) }}', '{{ globalThis.process() }}', '{{ this.constructor() }}', '{{ Function("1")() }}',
    '{{ Object.keys(o) }}', '{{ JSON.parse("1") }}', '{{ Reflect.ownKeys(o) }}', '{{ rt.env() }}', '{{ X.vars() }}', '{{ C.get("a") }}',
    '{{ F.parent() }}', '{{ slow("root")() }}', '{{ U() }}', '{{ emit(1) }}', '{{ type(o) }}', '{{ Safe("x") }}', '{{ Macro() }}',
    '{{ context() }}', '{{ frame() }}', '{{ env() }}', '{{ runtime() }}', '{{ lookup("a") }}', '{{ member(o, "a") }}',
]  # fmt: skip


def code() -> Iterator[Case]:
    """Published escapes, and names of the host or of generated code."""
    for template in _CODE:
        yield "code", template, "nothing" if "(" not in template and "|" not in template else "error"


_NAMES = [
    "x = 1; import os",
    "a\nimport os",
    'a"+b',
    "a'b",
    "__import__('os')",
    "\\u0061",
    "a;b",
    "é",
    "𝒶",
    "class",
    "lambda",
    "None",
    "self",
    "rt",
]


def names() -> Iterator[Case]:
    """Names that would be code if they reached the generated program as they are."""
    for name in _NAMES:
        compact = name.replace("(", "").replace(")", "").replace(" ", "").replace("=", "").replace("\n", "")
        yield "name of a variable", f"{{% set {compact} = 1 %}}{{{{ {compact} }}}}", "harmless"
        yield "name of a macro", f"{{% macro {compact}() %}}x{{% endmacro %}}{{{{ {compact}() }}}}", "harmless"
        yield (
            "name of a parameter",
            f"{{% macro m({compact}) %}}{{{{ {compact} }}}}{{% endmacro %}}{{{{ m(1) }}}}",
            "harmless",
        )
        yield "name of a loop variable", f"{{% for {compact} in [1] %}}{{{{ {compact} }}}}{{% endfor %}}", "harmless"
        yield "name of a block", f"{{% block {compact} %}}x{{% endblock %}}", "harmless"
        yield "name of a filter", f"{{{{ 1 | {compact} }}}}", "harmless"
    for name in ("toString", "constructor", "__proto__", "hasOwnProperty", "__class__", "valueOf"):
        yield "name of a block", f"{{% block {name} %}}x{{% endblock %}}", "=x"
        yield "name of a variable", f"{{% set {name} = 1 %}}{{{{ {name} }}}}", "=1"
        yield "key of a literal", f'{{{{ {{"{name}": 5}}["{name}"] }}}}', "=5"
        yield (
            "group of that name",
            f'{{{{ [{{k: "{name}"}}] | groupby("k") | dump }}}}',
            f'={{"{name}":[{{"k":"{name}"}}]}}',
        )
        yield "filter of that name", f"{{{{ s | {name} }}}}", "error"
        yield "test of that name", f"{{{{ s is {name} }}}}", "error"


def second_order() -> Iterator[Case]:
    """Data that looks like code, keywords or template text stays data."""
    yield "template text in data", "{{ code }}", "={{ 7 * 7 }}"
    yield "template text in data", "{{ code | upper }}", "={{ 7 * 7 }}"
    yield "template text in a set", "{% set a = code %}{{ a }}", "={{ 7 * 7 }}"
    yield "keywords in data", "{% macro m(a, b=1) %}[{{ a }}{{ b }}]{% endmacro %}{{ m(kw) }}", "=[[object Object]1]"
    yield "keywords in data", "{{ [2, 1] | sort(kw) }}", "=2,1"
    yield "keywords in data", '{{ "z" | int(kw) }}', "=[object Object]"
    yield "length in data", "{% for x in big %}.{% endfor %}", "limit:items,work"
    yield "length in data", "{{ big | list | length }}", "=1"
    yield "length in data", "{{ big | reverse | length }}", "limit:items"
    yield "length in data", "{{ big | batch(2) }}", "limit:items"
    yield "toString in data", "{{ evil }}", "error"
    yield "toString in data", '{{ "a" ~ evil }}', "error"
    yield "valueOf in data", "{{ evil2 + 1 }}", "=[object Object]1"
    yield "path in data", "{% include path %}", "error"
    yield "prototype in data", "{{ proto.z }}", "nothing"
    yield "prototype in data", "{{ proto | dump }}", '={"__proto__":{"z":1}}'


_PATHS = ["/etc/passwd", "../../etc/passwd", "./../../../etc/passwd", "file:///etc/passwd", "C:\\\\x", "main.njk\\u0000", "", ".", "..", "//x",
          "http://example.com/a", "__class__", "constructor", "a/../../b"]  # fmt: skip


def paths() -> Iterator[Case]:
    """Names of files that are not templates."""
    for path in _PATHS:
        yield "include path", f'{{% include "{path}" %}}', "error"
        yield "import path", f'{{% import "{path}" as x %}}', "error"
        yield "extends path", f'{{% extends "{path}" %}}', "error"


_BOMBS = [
    ("range(10000000)", "items"), ("range(1000000000000000)", "items"), ('range("1", "4")', "items,work,string,scratch"), ("range(0, 1, 0.000000001)", "items,work"),
    ('"x".repeat(1000000000)', "string"), ('"x".repeat(99999999)', "string"), ('"a".padStart(1000000000)', "string"), ('"a".padEnd(1000000000000000, "ab")', "string"),
    ('"a" | center(1000000000)', "string"), ('"a\\nb" | indent(1000000000)', "string"), ("[1] | batch(1000000000, 0 | string)", "items"),
    ("[1, 2] | slice(1000000000)", "items"), ("[1, 2] | slice(1000000000000, 1)", "items"),
    ("range(900000) | join(\"xxxxxxxxxxxxxxxxxxxx\")", "string,items"), ('"aaaa".repeat(100000) | replace("a", "b".repeat(1000))', "string"),
    ('"a".repeat(1000000).split("").join("x".repeat(100))', "string"), ('"a".repeat(3000000) | urlencode', "string"),
    ('"a".repeat(5000000).normalize("NFKD")', "string"), ('"ab".repeat(1000000).replace(r/a/g, "x".repeat(1000))', "string,scratch"),
    ('"a".repeat(2000000).replaceAll("a", "bbbbbbbbbb")', "string,scratch,work"), ('[o] | dump(10) ~ "x".repeat(100000000)', "string"),
    ('"<".repeat(7000000) | escape', "string"), ('"\\n".repeat(6000000) | nl2br', "string"), ("(range(400000) | dump).repeat(9)", "string"),
    ("range(999999).concat(range(999999)).concat(range(999999))", "items,scratch"), ("range(999999) | sort", "work"),
    ('[big, big] | sort(attribute="length") | first | list | dump(1000000000) | center(100000000)', "string"), ("range(900000).fill('x'.repeat(99)) | join", "string"),
    ('"a".concat("b".repeat(8000000), "c".repeat(8000000))', "string"), ("range(200000).map(range)", "items,scratch,work"),
]  # fmt: skip
_REGEX = [
    'r/^(a+)+$/.test("a".repeat(40) ~ "b")', 'r/(a|a)*b/.test("a".repeat(60))', 'r/(.*)*x/.exec("y".repeat(60))', 'r/(x+x+)+y/.test("x".repeat(60))',
    '"a".repeat(50) | replace(r/(a*)*c/g, "")', '"a".repeat(50).match(r/^(([a-z])+.)+[A-Z]([a-z])+$/)', '("a".repeat(60) ~ "!").search(r/^(\\w+\\s?)*$/)',
    '("a".repeat(60) ~ "!").split(r/^(\\w+\\s?)*$/)',
]  # fmt: skip
_LOOPS = [
    ("{% for a in range(3000) %}{% for b in range(3000) %}{{ a }}{% endfor %}{% endfor %}", "work"),
    ("{% for a in range(999) %}{% for b in range(999) %}{% for c in range(999) %}{% endfor %}{% endfor %}{% endfor %}", "work,scratch"),
    ("{% set l2 = [1] %}{% for x in l2 %}{% set z = l2.push(x) %}{% endfor %}", "items,work,scratch"),
    ('{% set a = "xxxxxxxx" %}{% for i in range(60) %}{% set a = a + a %}{% endfor %}{{ a }}', "string,scratch"),
    ('{% set a = "xxxxxxxx" %}{% for i in range(60) %}{% set a = a ~ a %}{% endfor %}{{ a }}', "string,scratch"),
    ("{% set a = [1] %}{% for i in range(60) %}{% set a = a.concat(a) %}{% endfor %}{{ a }}", "items,scratch"),
    ("{% set a = [1] %}{% for i in range(60) %}{% set a = [a, a] %}{% endfor %}{{ a }}", "work,string,scratch"),
    ("{% set a = [1] %}{% for i in range(60) %}{% set a = [a, a] %}{% endfor %}{{ a | dump }}", "work,string,scratch"),
    ("{% set a = [1] %}{% for i in range(60) %}{% set a = [a, a] %}{% endfor %}{{ a.flat(99) }}", "items,work,scratch"),
    ("{% set a = [] %}{% for i in range(200000) %}{% set a = [a] %}{% endfor %}{{ a }}", "macro_depth,data_depth"),
    ("{% set a = [] %}{% for i in range(200000) %}{% set a = [a] %}{% endfor %}{{ a | dump }}", "macro_depth,data_depth"),
    ("{% set a = {} %}{% for i in range(200000) %}{% set a = {k: a} %}{% endfor %}{{ a | dump }}", "macro_depth,data_depth"),
    ('{% set b = "x".repeat(1000000) %}{% for i in range(100000) %}{{ b }}{% endfor %}', "output"),
    ('{% set b = "x".repeat(1000000) %}{% set c %}{% for i in range(100000) %}{{ b }}{% endfor %}{% endset %}', "string,scratch"),
    ('{% set a = "x".repeat(100000) %}{% for i in range(100000) %}{% set c = a ~ i %}{% endfor %}', "scratch"),
    ('{% set q = [] %}{% for i in range(100000) %}{% set z = q.push("x".repeat(9999)) %}{% endfor %}', "scratch"),
    ("{% set q = [] %}{% for i in range(100000) %}{% set z = q.push(range(9999)) %}{% endfor %}", "scratch,work"),
    ("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "macro_depth"),
    ("{% macro m(n) %}{{ m(n) }}{{ m(n) }}{% endmacro %}{{ m(1) }}", "macro_depth"),
    ("{% macro a() %}{{ b() }}{% endmacro %}{% macro b() %}{{ a() }}{% endmacro %}{{ a() }}", "macro_depth"),
    ("{% macro w() %}{{ caller() }}{% endmacro %}{% macro x() %}{% call w() %}{{ x() }}{% endcall %}{% endmacro %}{{ x() }}", "macro_depth"),
    ("{% macro f(n) %}{% if n > 0 %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(60) }}", "work"),
    ("{% macro f(n) %}{% for i in range(99) %}{% if n > 0 %}{{ f(n - 1) }}{% endif %}{% endfor %}{% endmacro %}{{ f(60) }}", "work,items"),
    ('{% include "self.njk" %}', "include_depth"), ('{% include "ping.njk" %}', "include_depth"), ('{% import "selfimport.njk" as x %}', "include_depth"),
    ('{% extends "loop.njk" %}', "include_depth"), ('{% include "double.njk" %}', "include_depth"),
    ("{% for i in range(999999) %}{% include \"part.njk\" %}{% endfor %}", "work"),
    ("{% for i in range(999999) %}{% import \"part.njk\" as p %}{% endfor %}", "work"),
    ("{% for i in range(999999) %}{{ i | dump | upper | lower | title | trim | center(200) }}{% endfor %}", "work,scratch"),
    ("{% set c = cycler(1, 2) %}{% for i in range(999999) %}{{ c.next() }}{{ c.next() }}{{ c.next() }}{{ c.next() }}{% endfor %}", "work"),
    ("{% macro f(a, b) %}{{ b }}{% endmacro %}{{ range(999999).sort(f) }}", "work"),
    ("{% macro f(a) %}{% for i in range(9999) %}{{ i }}{% endfor %}{% endmacro %}{{ range(99999).map(f) }}", "work,scratch,items"),
    ("{% set o2 = {a: 1} %}{% for i in range(999999) %}{% set o2 = {a: o2.a, b: o2} %}{{ o2.b.a }}{% endfor %}", "work"),
    ("{% for a, b in range(999999) %}{{ a }}{{ b }}{{ loop.index }}{% endfor %}", "work"),
    ("{% asyncEach a in range(999999) %}{{ a }}{{ loop.index }}{% endeach %}", "work"),
    ("{% for i in range(300000) %}{% set l3 = [i, [i, [i, [i]]]] %}{{ l3 }}{% endfor %}", "work"),
]  # fmt: skip
_NESTING = [
    "{{ " + "(" * 500 + "1" + ")" * 500 + " }}", "{{ " + "[" * 500 + "]" * 500 + " }}", "{{ " + "{a: " * 300 + "1" + " }" * 300 + " }}",
    "{% if 1 %}" * 300 + "{% endif %}" * 300, "{% for a in l %}" * 100 + "{% endfor %}" * 100, "{{ " + "not " * 3000 + "1 }}",
    "{{ " + "- " * 3000 + "1 }}", "{{ a" + ".b" * 3000 + " }}", "{{ a" + "[0]" * 3000 + " }}", "{{ a" + "()" * 3000 + " }}",
    "{{ a" + " | upper" * 3000 + " }}", "{{ " + "a if b else (" * 300 + "1" + ")" * 300 + " }}", "{% macro m() %}" * 200 + "{% endmacro %}" * 200,
    "{% set x %}" * 200 + "{% endset %}" * 200, "{% filter upper %}" * 200 + "{% endfilter %}" * 200, "{% raw %}" * 100 + "{% endraw %}" * 99,
    "{% block a %}" + "".join(f"{{% block b{i} %}}" for i in range(200)) + "{% endblock %}" * 201, "{% switch 1 %}{% case 1 %}" * 100,
    "{{ " + "1 ** " * 2000 + "1 }}", "{{ " + "a.b(" * 500 + ")" * 500 + " }}", "{% call m() %}" * 200 + "{% endcall %}" * 200,
    "{{ 1 " + "in [" * 300 + "]" * 300 + " }}",
]  # fmt: skip
_SIZE = [("{{ a }}" * 200_000, "nodes"), ("x" * 5_000_000, "source_bytes"), ("é" * 2_500_000, "source_bytes"), ("{{ " + "1 + " * 300_000 + "1 }}", "nodes"),
         ("{% set x = 1 %}" * 100_000, "nodes")]  # fmt: skip


def bombs() -> Iterator[Case]:
    """Work, memory, depth and size without bounds."""
    for expression, limits in _BOMBS:
        yield "size bomb", f"{{{{ {expression} }}}}", f"limit:{limits}"
    for expression in _REGEX:
        yield "regular expression bomb", f"{{{{ {expression} }}}}", "harmless"
    for template, limits in _LOOPS:
        yield "loop bomb", template, f"limit:{limits}"
    for template in _NESTING:
        yield "nesting bomb", template, "harmless"
    for template, limits in _SIZE:
        yield "source bomb", template, f"limit:{limits}"


#: What code holds on to between two lookups: names of loops, parameters and imports, with calls and outputs around them.
_HOLDERS = [
    "{%% for p in [%s] %%}{{ p.NAME }}{{ p.NAME }}{%% endfor %%}", "{%% for k, p in {a: %s } %%}{{ p.NAME }}{%% endfor %%}",
    "{%% macro f(p) %%}{{ p.NAME }}{{ p.other }}{%% endmacro %%}{{ f(%s) }}", "{%% macro f(p=1) %%}{{ p.NAME }}{%% endmacro %%}{{ f(p=%s) }}",
    "{%% set p = %s %%}{{ p.NAME }}{{ p.NAME | title }}", "{%% macro f(p) %%}{%% for q in [p, p] %%}{{ q.NAME }}{%% endfor %%}{%% endmacro %%}{{ f(%s) }}",
]  # fmt: skip
_HELD_NAMES = ["__class__", "constructor", "__globals__", "fn", "most", "twin", "positional", "val.__class__"]
_IMPORTED = [
    "m.__class__", "m.f.__globals__", "m.f.fn", "m.f.constructor", "m.f.most", "m.f.twin", "m.f.named", "m.constructor", "m.__proto__",
    "m.f(1).__class__", "m.f(1).constructor", 'm["f"]["fn"]', "m.f.positional", "m.f.keywords", "f2.fn", "f2.__code__", "f2(1).__init__",
]  # fmt: skip
_REFUSED_CALLS = [
    "m.f.fn(1)", "m.f.twin()", 'm["__class__"]()', "m.f.constructor()", "f2.call.call(1)", 'm.f["__call__"](1)', "m.toString.constructor()",
    "m.f(1).constructor()", "m.get('f')", "m.items()", "m.update(o)", "m.clear()", "m.pop('f')", "o.setdefault('a', 1)", "o.items()",
    "l.append(1)", "l.__add__(l)", "s.format(o)", "s.encode()", "n.bit_length()",
]  # fmt: skip
_CALL_LOOPS = [
    ("{% macro f(x) %}" + "{{ x }}" * 500 + "{% endmacro %}{% for i in range(999999) %}{{ f(i) }}{% endfor %}", "work"),
    ("{% macro f() %}{% endmacro %}{% for i in range(999999) %}{{ f() }}{% endfor %}", "work"),
    ("{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(60) }}", "work"),
    ("{% macro f(x) %}{{ x }}{{ x }}{% endmacro %}{% set s = 'ab' %}{% for i in range(40) %}{% set s = f(s) %}{% endfor %}", "string"),
    ("{% macro f() %}{{ g() }}{% endmacro %}{% macro g() %}{{ f() }}{% endmacro %}{{ f() }}", "macro_depth"),
    ("{% macro f() %}{{ o2 }}{% endmacro %}{% set o2 = {toString: f} %}{{ o2 }}", "macro_depth"),
    ("{% macro f() %}{{ caller() }}{{ caller() }}{% endmacro %}" + "{% call f() %}" * 40 + "x" + "{% endcall %}" * 40, "work"),
    ("{% macro f() %}{% call f() %}{{ caller() }}{% endcall %}{% endmacro %}{{ f() }}", "macro_depth"),
    ('{% for i in range(999999) %}{% import "macros.njk" as m %}{{ m.f(1) }}{% endfor %}', "work"),
    ("{% for i in range(999999) %}" + "".join(f"{{{{ i.k{n} }}}}" for n in range(50)) + "{% endfor %}", "work"),
    ('{% for i in range(999999) %}{% for j in ["abc"] %}{{ j.a }}{{ j.b }}{% endfor %}{% endfor %}', "work"),
    ("{% set s = range(99999) | join(' a ') %}{% for i in range(99999) %}{{ s | title | replace('a', 'b') | length }}{% endfor %}", "work"),
    ("{% set s = range(99999) | join %}{% macro f(s) %}{{ s }}{{ s }}{{ s }}{% endmacro %}{% for i in range(9999) %}{% set q = f(s) %}{% endfor %}", "scratch"),
    ("{% set s = range(99999) | join %}{% macro f() %}" + "{{ s }}" * 900 + "{% endmacro %}{{ f() }}", "scratch"),
    ("{% set s = range(99999) | join %}{% for i in range(9999) %}{% if i %}{{ s }}{{ s }}{% else %}{{ s }}{% endif %}{% endfor %}", "output"),
    ("{% set x = [] %}{% for i in range(100) %}{% set x = [x, x, x] %}{% endfor %}{{ x }}", "work"),
    ("{% set x = [1] %}{% for i in range(60) %}{% set x = [x, x] %}{% endfor %}{{ x | dump }}", "work"),
    ("{% for i in range(999999) %}{% switch i %}{% case -1 %}a{% case -2 %}b{% default %}c{% endswitch %}{% endfor %}", "work"),
]  # fmt: skip
#: Texts on which a careless regular expression would look for ever, and files with very many of one thing.
_TEDIOUS = [
    "{ " * 900_000, "# " * 900_000, "{{" * 400_000, "{%" * 400_000, "{#" * 400_000, "{{-" * 300_000, "{% if n %}" * 40_000, "{{ n" + ".b" * 40_000 + " }}",
    "{{ n" + "[0]" * 40_000 + " }}", "{{ n" + "|upper" * 40_000 + " }}", '{{ n|replace("a"' + ',"a"' * 40_000 + ") }}", "{{" + " " * 900_000 + "n }}",
    "{%" + " " * 900_000 + "if n %}", '{{ n|default("' + "x" * 900_000, "{{ n|default(" + '"x" ' * 90_000, "{{ n" + " | b " * 90_000, "{{ n[" + "9" * 900_000 + "] }}",
    "{{ n|default(" + "9" * 90_000 + ") }}", "{{ " + "n" * 900_000 + " }}", ("{{ n" + " " * 999) * 900, ("{% if n" + " " * 999) * 900, '{{ n | b("x"' * 40_000,
    "{{ n | b('x'" * 40_000, "".join(f"{{% set n{i} = 1 %}}" for i in range(9000)), "".join(f"{{% macro n{i}(x) %}}{{{{ x }}}}{{% endmacro %}}" for i in range(7000)),
    "{% macro f(" + ",".join(f"x{i}=1" for i in range(5000)) + ") %}{{ x1 }}{% endmacro %}{{ f(1) }}", "{% macro f(x) %}{{ x }}{% endmacro %}{{ f(" + "1," * 15_000 + "1) }}",
    "{% if n %}" + "{% elif s %}" * 5000 + "{% endif %}", "{% switch n %}" + "{% case 1 %}x" * 5000 + "{% endswitch %}", "{{ " + "~".join("n" * 9000) + " }}",
]  # fmt: skip


def held() -> Iterator[Case]:
    """What code keeps of a value, macros by position, imports, and sources that are tedious to read."""
    for holder in _HOLDERS:
        for index, start in enumerate(_STARTS.values()):
            for name in (_HELD_NAMES[index % 8], _HELD_NAMES[(index + 3) % 8]):
                yield "walk from what is held", (holder % start).replace("NAME", name), "nothing"
    start = '{% import "macros.njk" as m %}{% from "macros.njk" import f as f2 %}'
    for expression in _IMPORTED:
        yield "walk from an import", f"{start}{{{{ {expression} }}}}", "nothing"
    for expression in _REFUSED_CALLS:
        yield "call of what is not there", f"{start}{{{{ {expression} }}}}", "error"
    for template, limits in _CALL_LOOPS:
        yield "call bomb", template, f"limit:{limits}"
    for template in _TEDIOUS:
        yield "source bomb", template, "harmless"


TEMPLATES = {
    "macros.njk": "{% macro f(x, y=1) %}{{ x }}{% endmacro %}",
    "self.njk": '{% include "self.njk" %}',
    "ping.njk": '{% include "pong.njk" %}',
    "pong.njk": '{% include "ping.njk" %}',
    "selfimport.njk": '{% import "selfimport.njk" as x %}',
    "loop.njk": '{% extends "loop.njk" %}',
    "double.njk": '{% include "double.njk" %}{% include "double.njk" %}',
    "part.njk": "{{ 1 }}",
}
CONTEXT = {
    "o": {"a": 1, "b": {"c": 2}}, "l": [1, "b", [3]], "s": "abc", "n": 5, "f": 1.5, "t": True, "nul": None, "code": "{{ 7 * 7 }}",
    "kw": {"__keywords": True, "a": 9, "b": 8, "reverse": True, "default": 7}, "big": {"length": 1e12}, "evil": {"toString": 1},
    "evil2": {"valueOf": 5}, "path": "/etc/passwd", "proto": {"__proto__": {"z": 1}},
}  # fmt: skip


def all_cases() -> list[Case]:
    """Every hostile template."""
    return [*walking(), *code(), *names(), *second_order(), *paths(), *bombs(), *held()]
