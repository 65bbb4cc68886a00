"""Shows a catalogue, an action and an outcome: tables for people, JSON for programs."""

from typing import Any

from rich.text import Text

from unjucks_api.variable_schema import canonical
from unjucks_runtime.cli.output import STATUS_STYLES, Out
from unjucks_runtime.cli.sets import LocalSet
from unjucks_runtime.generator import Action, Result, Tree, diff
from unjucks_runtime.generator.result import Status


def catalogue(out: Out, loaded: LocalSet) -> None:
    """``unjucks list``."""
    actions = loaded.templates.actions
    if out.machine:
        out.json(
            {
                "folder": str(loaded.folder),
                "description": loaded.templates.description,
                "digest": loaded.templates.digest,
                "actions": [action_json(item) for item in actions],
            }
        )
        return
    rows: list[list[str | Text]] = []
    for item in actions:
        variables = ", ".join(variable.name + ("*" if variable.required else "") for variable in item.variables)
        note = Text(item.description)
        if item.deprecated:
            note.append(f" ({item.deprecation})", style="yellow")
        if not item.valid:
            note.append(" (has errors: unjucks lint)", style="red")
        rows.append([item.full_name, variables, note])
    out.table(["ACTION", "VARIABLES", "DESCRIPTION"], rows)


def action_json(item: Action) -> dict[str, Any]:
    """An action as the catalogue of a registry has it."""
    return item.catalogue().model_dump(by_alias=True)


def action(out: Out, item: Action) -> None:
    """``unjucks describe``."""
    if out.machine:
        made = action_json(item)
        made["templates"] = [
            {"path": file.path, "to": file.front.to or "", "inject": file.front.anchor} for file in item.files
        ]
        made["tests"] = [case.name for case in item.tests]
        return out.json(made)
    out.line(item.full_name, "bold")
    if item.description:
        out.line(item.description)
    if item.deprecation:
        out.line(item.deprecation, "yellow")
    out.line()
    if item.variables:
        out.table(
            ["VARIABLE", "TYPE", "REQUIRED", "DEFAULT", "ALLOWED", "DESCRIPTION"],
            [
                [
                    variable.name,
                    variable.type,
                    "yes" if variable.required else "",
                    "" if variable.default is None else canonical(variable.default),
                    ", ".join(canonical(choice) for choice in variable.enum) or variable.pattern,
                    variable.description,
                ]
                for variable in item.variables
            ],
        )
    else:
        out.line(
            "It declares no variables." if item.declared else "It has no action.yaml, so nothing is checked.", "dim"
        )
    undeclared = [variable.name for variable in item.variables if not variable.declared]
    if undeclared and item.declared:
        out.line(f"\nNot declared, but read by its templates: {', '.join(undeclared)}", "yellow")
    out.line("\nFILES", "bold")
    for file in item.files:
        change = f"  ({file.front.anchor} into an existing file)" if file.front.anchor else ""
        condition = f"  if {file.front.condition}" if file.front.condition else ""
        out.line(f"  {file.front.to or file.name}{change}{condition}")
    required = [variable for variable in item.variables if variable.required]
    example = " ".join(f"--{variable.name} …" for variable in required)
    out.line(f"\n  unjucks new {item.generator} {item.action} {example}".rstrip(), "cyan")
    for found in item.problems:
        out.line(
            f"\n{found.severity}: {found.path}:{found.line}:{found.column}: {found.message}",
            "red" if found.severity == "error" else "yellow",
        )
    return None


def result_json(result: Result) -> dict[str, Any]:
    """An outcome for programs; contents are not in it."""
    return {
        "ok": result.ok,
        "generator": result.generator,
        "action": result.action,
        "digest": result.digest,
        "summary": result.summary(),
        "files": [
            {
                "path": file.path,
                "action": file.status.value,
                "mode": f"{file.mode:04o}",
                "size": len(file.content),
                "sha256": "" if file.status is Status.SKIPPED else file.sha256,
                "template": file.template,
                "sensitive": file.sensitive,
                **({"why": file.why} if file.why else {}),
            }
            for file in result.files
        ],
        "skippedTemplates": [{"template": item.template, "why": item.why} for item in result.skipped],
        "messages": list(result.messages),
        "warnings": list(result.warnings),
    }


def result(out: Out, made: Result, dest: str, base: Tree, *, dry_run: bool) -> None:
    """``unjucks new``: what happens to each file, and the next steps."""
    if out.machine:
        return out.json(result_json(made) | {"dest": dest, "dryRun": dry_run})
    for file in made.files:
        line = Text(f"{file.status.value:>10}  ", style=STATUS_STYLES[file.status.value])
        line.append(file.path, style="default")
        if file.why:
            line.append(f"  ({file.why})", style="dim")
        out.console.print(line)
    if dry_run and (made.changes or made.removals):
        out.line()
        out.diff(diff(made, base))
    for warning in made.warnings:
        out.warn(warning)
    counts = ", ".join(f"{number} {name}" for name, number in made.summary().items() if number)
    if made.conflicts:
        out.note(f"\n{counts}: nothing is written. See what differs with unjucks diff; --force overwrites.", "bold red")
    else:
        quiet = not made.changes and not made.removals
        what = "Nothing to do" if quiet else "Would write" if dry_run else "Done"
        out.line(f"\n{what}: {counts or 'no files'}")
    for message in made.messages if not made.conflicts else ():
        out.line(message, "cyan")
    return None
