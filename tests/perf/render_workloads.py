"""The four workloads of ``bench_render``: templates that Nunjucks, Jinja2 and this engine read alike, with their data."""

# ruff: noqa: E501 - tables and template texts

from __future__ import annotations

from typing import Any

_MACROS = """{% macro prop(name, type, optional=false) %}
  {{ name }}{% if optional %}?{% endif %}: {{ type | default("unknown") }};
{% endmacro %}
{% macro imports(items) %}
{% for item in items %}
import { {{ item.names | join(", ") }} } from '{{ item.module }}';
{% endfor %}
{% endmacro %}
{% macro handler(name, event) %}
  const on{{ name | capitalize }} = ({{ event }}: {{ event | title }}Event) => {
    dispatch({ type: '{{ name | upper }}', payload: {{ event }}.target });
  };
{% endmacro %}
"""
_COMPONENT = """{% import "macros.njk" as m %}
{% from "macros.njk" import handler %}
{{ m.imports(imports) }}
// {{ name }} component, {{ description | default("no description") }}
export interface {{ name }}Props {
{% for p in props %}
{{ m.prop(p.name, p.type, p.optional) }}
{%- endfor %}
}
{% if withState %}
interface {{ name }}State {
{% for s in state %}
  {{ s.name }}: {{ s.type }}{% if not loop.last %};{% endif %}
{% endfor %}
}
{% endif %}
export const {{ name }}: React.FC<{{ name }}Props> = ({
{% for p in props %}
  {{ p.name }}{% if p.default %} = {{ p.default }}{% endif %},
{% endfor %}
}) => {
{% for e in events %}
{{ handler(e.name, e.event) }}
{% endfor %}
{% for s in state %}
  const [{{ s.name }}, set{{ s.name | capitalize }}] = useState<{{ s.type }}>({{ s.initial }});
{% endfor %}
  return (
    <section className="{{ name | lower }}">
{% for e in events %}
      <button on{{ e.event | title }}={on{{ e.name | capitalize }}}>{{ loop.index }}. {{ e.name | replace("_", " ") | title }}</button>
{% else %}
      <p>nothing</p>
{% endfor %}
      {% if children %}{children}{% else %}null{% endif %}
    </section>
  );
};
{% set total = props | length + events | length %}
// {{ total }} members
export default {{ name }};
"""
_TABLE = """<table>
{% for row in rows %}
<tr class="{% if loop.index % 2 == 0 %}even{% else %}odd{% endif %}"><td>{{ loop.index }}</td><td>{{ row.name }}</td><td>{{ row.email | lower }}\
</td><td>{{ row.amount }}</td><td>{% if row.active %}yes{% else %}no{% endif %}</td></tr>
{% endfor %}
</table>
"""
_BASE = """<!doctype html>
<html><head><title>{% block title %}Site{% endblock %}</title>{% block head %}<meta charset="utf-8">{% endblock %}</head>
<body class="{{ theme | default("light") }}">
<nav>{% for item in nav %}<a href="{{ item.url }}"{% if item.active %} class="on"{% endif %}>{{ item.label }}</a>{% endfor %}</nav>
<main>{% block content %}{% endblock %}</main>
<footer>{% block footer %}&copy; {{ year }}{% endblock %}</footer>
</body></html>
"""
_LAYOUT = """{% extends "base.njk" %}
{% block head %}{{ super() }}<link rel="stylesheet" href="/{{ theme | default("light") }}.css">{% endblock %}
{% block content %}<article>{% block article %}{% endblock %}</article><aside>{% block aside %}\
{% for tag in tags %}<b>{{ tag }}</b>{% endfor %}{% endblock %}</aside>{% endblock %}
"""
_PAGE = """{% extends "layout.njk" %}
{% block title %}{{ page.title }} - {{ super() }}{% endblock %}
{% block article %}<h1>{{ page.title }}</h1>{% for section in page.sections %}<h2>{{ loop.index }}. {{ section.title }}</h2>\
{% for text in section.texts %}<p>{{ text }}</p>{% endfor %}{% endfor %}{% endblock %}
"""
_UNIT = """{% set entity = names[N] %}
/* generated: {{ entity | lower }} of {{ project.name }} ({{ project.license }}) */
package {{ project.package }}.{{ entity | lower }};
{% if project.audit %}
import {{ project.package }}.audit.Audited;
{% endif %}
public class {{ entity | capitalize }}Service {
{% for field in fields %}
  private {{ field.type }} {{ field.name }}{% if field.default %} = {{ field.default }}{% endif %};
{% endfor %}
{% for field in fields %}
  public {{ field.type }} get{{ field.name | capitalize }}() { return this.{{ field.name }}; }
{% if not field.readonly %}
  public void set{{ field.name | capitalize }}({{ field.type }} value) { this.{{ field.name }} = value; }
{% endif %}
{% endfor %}
  // {{ fields | length }} fields: {{ fieldNames | join(", ") }}
}
"""


def workloads() -> dict[str, dict[str, Any]]:
    """Name -> templates, the files to render in order, and the data."""
    component = {
        "name": "UserCard",
        "imports": [{"names": ["useState", "FC"], "module": "react"}, {"names": ["dispatch"], "module": "../store"}],
        "props": [
            {"name": f"prop{i}", "type": "string", "optional": i % 2 == 0, "default": "'x'" if i % 3 else None}
            for i in range(6)
        ],
        "state": [{"name": f"state{i}", "type": "number", "initial": i} for i in range(3)],
        "events": [{"name": f"save_item{i}", "event": "click"} for i in range(4)],
        "withState": True,
        "children": True,
    }
    rows = [
        {
            "name": f"User {i}",
            "email": f"User{i}@Example.com",
            "amount": i * 3 + 0.5 if i % 4 == 0 else i,
            "active": i % 3 != 0,
        }
        for i in range(1000)
    ]
    page = {
        "nav": [{"url": f"/p{i}", "label": f"Page {i}", "active": i == 2} for i in range(6)],
        "year": 2025,
        "tags": ["a", "b", "c"],
        "page": {
            "title": "Hello",
            "sections": [{"title": f"Part {i}", "texts": [f"Text {i}.{j}" for j in range(3)]} for i in range(5)],
        },
    }
    fields = [{"name": f"field{i}", "type": "String", "default": None, "readonly": i == 0} for i in range(6)]
    scaffold = {
        "project": {"name": "shop", "license": "MIT", "package": "com.example.shop", "audit": True},
        "names": [f"entity{i}" for i in range(30)],
        "fields": fields,
        "fieldNames": [item["name"] for item in fields],
    }
    return {
        "component": {
            "templates": {"macros.njk": _MACROS, "main.njk": _COMPONENT},
            "files": ["main.njk"],
            "data": component,
        },
        "table": {"templates": {"main.njk": _TABLE}, "files": ["main.njk"], "data": {"rows": rows}},
        "inheritance": {
            "templates": {"base.njk": _BASE, "layout.njk": _LAYOUT, "main.njk": _PAGE},
            "files": ["main.njk"],
            "data": page,
        },
        "scaffold": {
            "templates": {f"unit{i}.njk": _UNIT.replace("[N]", f"[{i}]") for i in range(30)},
            "files": [f"unit{i}.njk" for i in range(30)],
            "data": scaffold,
        },
    }
