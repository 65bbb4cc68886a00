"""How the plugin shows a catalogue, a template, a job: tables for people, the objects themselves for programs."""

import json
from collections.abc import Sequence
from typing import Any

from rich.text import Text

from unjucks_runtime.cli.output import STATUS_STYLES, Out
from unjucks_runtime.kubectl.cluster import Manifest
from unjucks_runtime.kubectl.running import condition


def catalogue(out: Out, registries: Sequence[Manifest], *, everywhere: bool) -> None:
    """``list``: what can be generated, from every registry."""
    entries = [(registry, entry) for registry in registries for entry in _catalog(registry)]
    if out.machine:
        out.json(
            [
                {
                    "namespace": registry["metadata"]["namespace"],
                    "registry": registry["metadata"]["name"],
                    "digest": ((registry.get("status") or {}).get("artifact") or {}).get("digest"),
                    **entry,
                }
                for registry, entry in entries
            ]
        )
        return
    rows = []
    for registry, entry in entries:
        variables = ", ".join(
            item["name"] + ("*" if item.get("required") else "") for item in entry.get("variables") or ()
        )
        about = Text(entry.get("description", ""))
        if entry.get("deprecated"):
            about.append(" (deprecated)", style="yellow")
        if any(problem.get("severity") == "error" for problem in entry.get("problems") or ()):
            about.append(" (has errors)", style="red")
        row = [f"{entry['generator']}/{entry['action']}", registry["metadata"]["name"], variables, about]
        rows.append([registry["metadata"]["namespace"], *row] if everywhere else row)
    if rows:
        heads = ["TEMPLATE", "REGISTRY", "VARIABLES (* required)", "DESCRIPTION"]
        out.table(["NAMESPACE", *heads] if everywhere else heads, rows)
    for registry in registries:
        _not_shown(out, registry)


def _catalog(registry: Manifest) -> list[dict[str, Any]]:
    return list((registry.get("status") or {}).get("catalog") or ())


def _not_shown(out: Out, registry: Manifest) -> None:
    name = registry["metadata"]["name"]
    ready = condition(registry, "Ready")
    if ready.get("status") != "True":
        out.warn(f"registry {name} is not ready: {ready.get('message') or 'it was not read yet'}")
    more = int((registry.get("status") or {}).get("actions") or 0) - len(_catalog(registry))
    if more > 0:
        out.note(f"registry {name} has {more} more")


def template(out: Out, registry: Manifest, entry: dict[str, Any]) -> None:
    """``describe``: one template with its variables, and how to run it."""
    if out.machine:
        return out.json({"registry": registry["metadata"]["name"], **entry})
    full = f"{entry['generator']}/{entry['action']}"
    out.line(full, "bold")
    if entry.get("description"):
        out.line(entry["description"])
    if entry.get("deprecated"):
        out.line("It is deprecated.", "yellow")
    out.line(f"{entry.get('files', 0)} template file(s), {entry.get('digest', '')}", "dim")
    out.line()
    rows = [
        [
            item["name"],
            item.get("type", ""),
            "yes" if item.get("required") else "",
            item.get("default", ""),
            ", ".join(item.get("enum") or ()) or item.get("pattern", ""),
            item.get("description", ""),
        ]
        for item in entry.get("variables") or ()
    ]
    if rows:
        out.table(["VARIABLE", "TYPE", "REQUIRED", "DEFAULT", "ALLOWED", "DESCRIPTION"], rows)
    else:
        out.line("It has no variables.", "dim")
    if entry.get("inferred"):
        out.line(f"\nNot declared, but read by its templates: {', '.join(entry['inferred'])}", "yellow")
    for problem in entry.get("problems") or ():
        place = f"{problem['path']}:{problem.get('line', 0)}:{problem.get('column', 0)}"
        out.line(
            f"\n{problem['severity']}: {place}: {problem['message']}",
            "red" if problem["severity"] == "error" else "yellow",
        )
    required = " ".join(f"--set {item['name']}=…" for item in entry.get("variables") or () if item.get("required"))
    name = registry["metadata"]["name"]
    out.line(f"\n  kubectl unjucks run {name} {full} {required}".rstrip() + " --to configmap/NAME", "cyan")
    return None


def job(out: Out, body: Manifest) -> None:
    """How a job ended: its files, where they are, or what is wrong."""
    if out.machine:
        return out.json(body)
    status = body.get("status") or {}
    for file in status.get("files") or ():
        line = Text(f"{file.get('action', ''):>10}  ", style=STATUS_STYLES.get(file.get("action", ""), ""))
        out.console.print(line.append(file["path"], style="default"))
    if status.get("filesTruncated"):
        out.line("           … and more; the whole list is manifest.json in the output", "dim")
    for found in status.get("findings") or ():
        out.warn(f"{found['path']}:{found.get('line', 0)}:{found.get('column', 0)}: looks like {found['detector']}")
    ready = condition(body, "Ready")
    error = status.get("lastError") or {}
    if condition(body, "Failed").get("status") == "True":
        place = f"{error['file']}:{error.get('line', 0)}:{error.get('column', 0)}: " if error.get("file") else ""
        message = error.get("message") or ready.get("message", "")
        out.errors.print(Text.assemble((f"{ready.get('reason', 'Failed')}: ", "bold red"), place, message))
        return None
    output = (status.get("summary") or {}).get("output")
    name = body["metadata"]["name"]
    out.line(f"\n{ready.get('message') or status.get('phase', '')}", "bold")
    if output and not body["spec"].get("dryRun"):
        out.line(f"  {output}    kubectl unjucks download {name}", "cyan")
    return None


def story(out: Out, body: Manifest, events: Sequence[Manifest], lines: Sequence[str]) -> None:
    """``logs``: what happened to a job, in order; then what its renderer wrote about it."""
    if out.machine:
        out.json(
            {
                "conditions": (body.get("status") or {}).get("conditions") or [],
                "events": list(events),
                "log": list(lines),
            }
        )
        return
    for event in events:
        time = str(event.get("eventTime") or event["metadata"].get("creationTimestamp") or "")[:19]
        count = int((event.get("series") or {}).get("count") or 1)
        again = f" (x{count})" if count > 1 else ""
        style = "yellow" if event.get("type") == "Warning" else ""
        out.line(f"{time}  {event.get('reason', '')}: {event.get('note', '')}{again}", style)
    for found in (body.get("status") or {}).get("conditions") or ():
        text = f"{found['type']}={found['status']} {found.get('reason', '')}: {found.get('message', '')}"
        out.line(f"{str(found.get('lastTransitionTime', ''))[:19]}  {text}", "dim")
    for line in lines:
        out.line(_log_line(line), "dim")


def _log_line(line: str) -> str:
    """A JSON line of the renderer's as text; another line as it is."""
    try:
        entry = json.loads(line)
    except ValueError:
        return line
    if not isinstance(entry, dict):
        return line
    fields = " ".join(
        f"{key}={value}" for key, value in entry.items() if key not in ("time", "level", "logger", "message")
    )
    return f"{str(entry.get('time', ''))[:19]}  {entry.get('message', '')} {fields}"
