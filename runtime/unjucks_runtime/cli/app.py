"""The commands of ``unjucks``. Each reads its arguments, calls the generator library, and reports; no generation logic is here."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from unjucks_api.reasons import Reason
from unjucks_api.render_protocol import EngineOptions
from unjucks_runtime.cli import checks, local, sets, show, values
from unjucks_runtime.cli.output import Exit, Failure, Format, Out
from unjucks_runtime.generator import FolderTree, GenerationError, Options, diff, generate, recover
from unjucks_runtime.generator.options import CONFLICT, MARKERS, OVERWRITE, SKIP

app = typer.Typer(
    name="unjucks",
    help="Generate files from template sets, with the same engine as the unjucks operator.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    epilog="Exit codes: 0 done, 1 something found, 2 usage, 3 not found, 4 variables, 5 generation failed, 6 conflicts.",
)

Templates = Annotated[
    str | None,
    typer.Option(
        "--templates", "-t", help="Folder of the template set (default: upwards from here; UNJUCKS_TEMPLATES)"
    ),
]
Output = Annotated[Format | None, typer.Option("--output", "-o", help="text or json (default: text on a terminal)")]
Undefined = Annotated[
    str | None, typer.Option("--undefined", help="What an undefined value does: Error, Empty or ErrorOnUse")
]
Sets = Annotated[list[str] | None, typer.Option("--set", "-s", help="A variable as name=value; a.b=1 goes inside")]
Data = Annotated[list[str] | None, typer.Option("--data", "-d", help="Variables from a JSON or YAML file, - for stdin")]
Dest = Annotated[str, typer.Option("--dest", help="Folder that the files go into")]
VARIABLES = {"allow_extra_args": True, "ignore_unknown_options": True}


def _complete_generator(context: typer.Context, incomplete: str) -> list[str]:
    try:
        loaded = sets.load(context.params.get("templates"), Options(), check=False)
    except (GenerationError, OSError):
        return []
    names = [item.generator for item in loaded.templates.actions] + [
        item.full_name for item in loaded.templates.actions
    ]
    return sorted({name for name in names if name.startswith(incomplete)})


def _complete_action(context: typer.Context, incomplete: str) -> list[str]:
    try:
        loaded = sets.load(context.params.get("templates"), Options(), check=False)
    except (GenerationError, OSError):
        return []
    generator = context.params.get("generator")
    return sorted(
        item.action
        for item in loaded.templates.actions
        if item.generator == generator and item.action.startswith(incomplete)
    )


Generator = Annotated[
    str | None, typer.Argument(help="Generator, or generator/action", autocompletion=_complete_generator)
]
ActionName = Annotated[str | None, typer.Argument(help="Action of the generator", autocompletion=_complete_action)]


@contextmanager
def reporting(out: Out, files: Callable[[], Any] = dict) -> Iterator[None]:
    """Turns the library's errors into messages and exit codes."""
    try:
        yield
    except GenerationError as error:
        raise out.fail(error, files()) from None
    except OSError as error:
        message = f"{error.filename or ''}: {error.strerror or error}".lstrip(": ")
        raise out.fail(GenerationError(Reason.PUBLISH_FAILED, message)) from None


def options_for(undefined: str | None, **more: Any) -> Options:
    """Options of a run; raises a usage error for an unknown ``--undefined``."""
    if undefined is not None and undefined not in ("Error", "Empty", "ErrorOnUse"):
        raise typer.BadParameter("must be Error, Empty or ErrorOnUse", param_hint="--undefined")
    engine = EngineOptions(undefined=undefined) if undefined else None
    return Options(engine=engine, **more) if engine else Options(**more)


@app.command("list")
def list_command(templates: Templates = None, output: Output = None) -> None:
    """Lists generators and actions with their variables (* = required)."""
    out = Out(output)
    with reporting(out):
        loaded = sets.load(templates, Options(), check=False)
        show.catalogue(out, loaded)


@app.command()
def describe(
    generator: Generator = None, action: ActionName = None, templates: Templates = None, output: Output = None
) -> None:
    """Describes an action: what it makes, its variables and files, and an example."""
    out = Out(output)
    with reporting(out):
        loaded = sets.load(templates, Options(), check=True)
        found, rest = sets.choose(loaded, generator, action)
        if rest:
            raise GenerationError(Reason.TEMPLATE_NOT_FOUND, f"there is no action {rest[0]!r} of {generator}")
        show.action(out, found)


@app.command("new", context_settings=VARIABLES)
def new_command(
    context: typer.Context,
    generator: Generator = None,
    action: ActionName = None,
    templates: Templates = None,
    dest: Dest = ".",
    set_: Sets = None,
    data: Data = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite existing files of other content")] = False,
    skip_existing: Annotated[bool, typer.Option("--skip-existing", help="Leave existing files as they are")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", "--dry", help="Show what would be done; write nothing")] = False,
    manifest: Annotated[
        str | None,
        typer.Option(
            "--manifest", help="Write the manifest here; files of the last run that nobody edited may be updated"
        ),
    ] = None,
    update: Annotated[
        bool, typer.Option("--update", help="Keep edits made since the last run: a three-way merge (needs --manifest)")
    ] = False,
    markers: Annotated[
        bool, typer.Option("--markers", help="Write both sides between marks where they are in conflict")
    ] = False,
    prune: Annotated[
        bool, typer.Option("--prune", help="Remove files of the last run that are not made any more (needs --manifest)")
    ] = False,
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing; exit code 1 when the files are not what would be generated")
    ] = False,
    no_input: Annotated[bool, typer.Option("--no-input", "-y", help="Never ask for missing variables")] = False,
    undefined: Undefined = None,
    output: Output = None,
) -> None:
    """Generates: unjucks new GENERATOR ACTION [NAME] [--variable value | variable=value ...]."""
    out = Out(output)
    if force + skip_existing + markers > 1:
        raise typer.BadParameter("--force, --skip-existing and --markers exclude each other")
    if check and (force or skip_existing or markers or update or dry_run):
        raise typer.BadParameter("--check only compares; it takes none of the options that say how to write")
    if (update or prune) and manifest is None:
        raise typer.BadParameter("--update and --prune need --manifest: it remembers what the last run made")
    policy = OVERWRITE if force or check else SKIP if skip_existing else MARKERS if markers else CONFLICT
    options = options_for(
        undefined,
        on_conflict=policy,
        previous=local.previous(manifest),
        last=local.last(manifest) if update else {},
        update=update,
        prune=prune,
    )
    ask = not no_input and sys.stdin.isatty() and out.errors.is_terminal
    known: dict[str, Any] = {}
    with reporting(out, lambda: known), FolderTree(dest) as base:
        if not (dry_run or check) and recover(dest):
            out.warn("an interrupted write into this folder was finished first")
        run = local.prepare(out, templates, generator, action, context.args, set_, data, options, known, ask=ask)
        result = generate(
            run.templates, run.action.generator, run.action.action, run.values, base=base, options=run.options
        )
        show.result(out, result, dest, base, dry_run=dry_run or check)
        if result.conflicts:
            raise Failure(Exit.CONFLICT)
        if check:
            if result.changes or result.removals:
                raise Failure(Exit.FOUND)
        elif not dry_run:
            local.write(result, dest, manifest, run.options.last)


app.command("generate", context_settings=VARIABLES, hidden=True, help="The same as new.")(new_command)


@app.command("diff", context_settings=VARIABLES)
def diff_command(
    context: typer.Context,
    generator: Generator = None,
    action: ActionName = None,
    templates: Templates = None,
    dest: Dest = ".",
    set_: Sets = None,
    data: Data = None,
    no_input: Annotated[
        bool, typer.Option("--no-input", "-y", help="Taken so that the words of new fit; diff never asks")
    ] = False,
    undefined: Undefined = None,
    output: Output = None,
) -> None:
    """Shows what a generation would change, as a unified diff; exit code 1 when there is a difference."""
    out = Out(output, text_in_pipes=True)
    options = options_for(undefined)
    known: dict[str, Any] = {}
    with reporting(out, lambda: known), FolderTree(dest) as base:
        run = local.prepare(out, templates, generator, action, context.args, set_, data, options, known, ask=False)
        result = generate(
            run.templates, run.action.generator, run.action.action, run.values, base=base, options=run.options
        )
        text = diff(result, base)
        if out.machine:
            out.json(show.result_json(result) | {"diff": text})
        else:
            out.diff(text)
        if any(file.status.value in ("created", "updated", "conflicted") for file in result.files):
            raise Failure(Exit.FOUND)


@app.command("render")
def render_command(
    template: Annotated[str, typer.Argument(help="The template file, - for standard input")],
    set_: Sets = None,
    data: Data = None,
    root: Annotated[str | None, typer.Option("--root", help="Folder that includes are read from")] = None,
    undefined: Undefined = None,
    to: Annotated[str | None, typer.Option("--to", help="Write the text to this file")] = None,
    output: Output = None,
) -> None:
    """Renders one template with data from JSON, YAML, standard input or --set."""
    out = Out(output, text_in_pipes=True)
    known: dict[str, Any] = {}
    with reporting(out, lambda: known):
        text = local.render(template, set_ or [], data or [], root, options_for(undefined), known)
        if to:
            Path(to).write_text(text, "utf-8")
        elif out.machine:
            out.json({"ok": True, "template": template, "text": text})
        else:
            out.raw(text)


@app.command()
def lint(
    templates: Templates = None,
    strict: Annotated[bool, typer.Option("--strict", help="Warnings count as errors")] = False,
    output: Output = None,
) -> None:
    """Checks a template set without running it: syntax, frontmatter, schemas, unknown filters, unused variables, credentials."""
    out = Out(output)
    with reporting(out):
        checks.lint(out, sets.load(templates, Options(), check=True), strict=strict)


@app.command("test")
def golden_tests(
    only: Annotated[
        list[str] | None, typer.Argument(help="generator, generator/action or part of a case's name")
    ] = None,
    templates: Templates = None,
    update: Annotated[bool, typer.Option("--update", help="Take what comes out as the expectation")] = False,
    output: Output = None,
) -> None:
    """Runs the golden tests beside the templates (_tests/<case>/)."""
    out = Out(output)
    with reporting(out):
        checks.test(out, sets.load(templates, Options(), check=False), only or [], update=update)


@app.command()
def init(
    folder: Annotated[str, typer.Argument(help="Folder that the set is made in")] = ".", output: Output = None
) -> None:
    """Makes a small template set to start from, with a golden test."""
    out = Out(output)
    with reporting(out):
        local.init(out, folder)


@app.command()
def migrate(
    folder: Annotated[str, typer.Argument(help="Folder of an existing Hygen, unjucks or Nunjucks tree")] = ".",
    output: Output = None,
) -> None:
    """Reports what in an existing tree needs a change, with places; changes nothing."""
    out = Out(output)
    with reporting(out):
        checks.migrate(out, folder)


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"unjucks {version('unjucks-operator')}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit")
    ] = False,
) -> None:
    pass


def run() -> None:
    """The entry point: runs a command, ends with its exit code."""
    try:
        app(prog_name="unjucks", standalone_mode=True)
    except Failure as failure:
        sys.exit(int(failure.code))
    except KeyboardInterrupt:
        sys.exit(int(Exit.INTERRUPTED))
    except BrokenPipeError:
        # The reader (head, less) has gone; nothing is left to say, also not when Python closes standard output.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        sys.exit(int(Exit.OK))


__all__ = ["app", "run", "values"]
