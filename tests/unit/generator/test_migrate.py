"""What ``migrate`` reports, with places."""

from support.trees import tree
from unjucks_runtime.generator.migrate import Finding, scan


def found(files: dict[str, str]) -> list[tuple[str, int, str]]:
    return [(item.path, item.line, item.rule) for item in scan(tree(files))]


def messages(files: dict[str, str]) -> str:
    return "\n".join(item.message for item in scan(tree(files)))


HYGEN = """\
---
to: src/<%= h.changeCase.pascal(name) %>.ts
sh: npm install
before: "^export"
at_line: 0
---
// <%# note %>
class <%= Name %> {
<% if (locals.db) { -%>
  db = <%= locals.db %>;
<% } else { %>
<% fields.forEach((field) => { %>
  <%= field.name %>: <%- h.inflection.pluralize(name) %>;
<% }) %>
<%= name.split('').reverse() %>
"""


def test_hygen() -> None:
    files = {"_templates/c/new/a.ejs.t": HYGEN, "_templates/c/new/prompt.js": "module.exports = []", ".hygen.js": "x"}
    text = messages(files)
    for words in (
        "EJS templates are not rendered; rewrite as a.njk",
        "{{ name | pascalCase }}",
        "commands are never run",
        "Hygen reads before as an expression",
        "counts at_line from 0",
        "{% if locals.db %}",
        "{{ db }}",
        "{% else %}",
        "{% for field in fields %}",
        "{{ field.name }}",
        "{{ name | pluralize }}",
        "{% endif %} or {% endfor %}",
        "{# … #}",
        "{{ expression | filter }}",
        "prompts are code; declare the variables in action.yaml",
        "helpers are code",
    ):
        assert words in text, words
    assert ("_templates/c/new/a.ejs.t", 8, "ejs") in found(files)


def test_first_unjucks() -> None:
    files = {
        "_templates/c/config.yml": "templates: []",
        "_templates/c/new/a.njk": "---\nto: {{ name }}.ts\n---\n{% elsif x %}\n{{ a || b }}\n",
        "_templates/c/new/b.njk": "---\nto: b\nskipIf: '!x'\n---\n",
        "_templates/c/new/c.njk": "---\nto: ../c\nskipIf: kind==web\n---\n{{ range.constructor('x')() }}",
        "_templates/c/new/plain.ts": "{{ name }}",
    }
    assert found(files) == [
        ("_templates/c/config.yml", 0, "side-file"),
        ("_templates/c/new/a.njk", 2, "frontmatter"),
        ("_templates/c/new/a.njk", 4, "elsif"),
        ("_templates/c/new/a.njk", 5, "or"),
        ("_templates/c/new/b.njk", 3, "skipIf"),
        ("_templates/c/new/c.njk", 2, "to"),
        ("_templates/c/new/c.njk", 3, "skipIf"),
        ("_templates/c/new/c.njk", 5, "host"),
        ("_templates/c/new/plain.ts", 0, "suffix"),
    ]


def test_plain_nunjucks() -> None:
    files = {"views/page.html": "<p>{{ x | myFilter }}</p>\n{% mytag %}\n", "style.css": "a {{ b }}"}
    assert found(files) == [("views/page.html", 2, "syntax")]
    files["views/page.html"] = "<p>\n{{ x | myFilter }}</p>\n"
    assert found(files) == [("views/page.html", 2, "filter")]


def test_a_good_set_has_nothing_to_change() -> None:
    assert (
        scan(
            tree(
                {
                    "_templates/c/new/action.yaml": "x",
                    "_templates/c/new/a.njk": '---\nto: "{{ name }}"\n---\n{{ name }}',
                }
            )
        )
        == []
    )


def test_many_findings_of_one_kind_are_bounded() -> None:
    assert len(scan(tree({"a.njk": "{{ a || b }}\n" * 1000}))) == 20


def test_findings_sort_by_place() -> None:
    assert Finding("a", 2, 1, "change", "x", "m") < Finding("a", 10, 1, "change", "x", "m")
