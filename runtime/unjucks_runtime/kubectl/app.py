"""The commands of ``kubectl unjucks``. Each reads its arguments, asks the cluster, and reports; no generation logic is here."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from unjucks_api import names
from unjucks_api.durations import duration_seconds
from unjucks_runtime.cli.output import Exit, Failure, Format, Out
from unjucks_runtime.cli.values import read_data
from unjucks_runtime.generator.disk import FolderTree
from unjucks_runtime.generator.errors import GenerationError
from unjucks_runtime.generator.write import write_files
from unjucks_runtime.kubectl import show
from unjucks_runtime.kubectl.cluster import JOBS, REGISTRIES, Cluster, ClusterError, Manifest
from unjucks_runtime.kubectl.download import files_of
from unjucks_runtime.kubectl.running import Ended, build_job, dry_copy, entry_of, follow, template_of

app = typer.Typer(
    name="kubectl unjucks",
    help="What this cluster can generate; jobs with progress, their differences, logs and files.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=False,
    epilog="Exit codes: 0 done, 1 differences found, 2 usage, 3 not found, 4 variables, 5 the job failed, 6 files in conflict, "
    "7 refused or unreachable, 8 not ended in time.",
)

Namespace = Annotated[
    str | None, typer.Option("--namespace", "-n", metavar="NAME", help="Namespace (default: the context's)")
]
Context = Annotated[str | None, typer.Option("--context", metavar="NAME", help="Context of the kubeconfig")]
Kubeconfig = Annotated[
    str | None, typer.Option("--kubeconfig", metavar="FILE", help="Kubeconfig file (default: as kubectl)")
]
Output = Annotated[Format | None, typer.Option("--output", "-o", help="text or json (default: text on a terminal)")]
Timeout = Annotated[str, typer.Option("--timeout", metavar="TIME", help="How long to wait for the end: 90s, 5m")]
Job = Annotated[str, typer.Argument(metavar="JOB", help="Name of a GenerationJob")]
Registry = Annotated[str, typer.Argument(metavar="REGISTRY", help="Name of a TemplateRegistry")]
Template = Annotated[str, typer.Argument(metavar="GENERATOR/ACTION", help="As list shows it")]


@contextmanager
def reporting(out: Out) -> Iterator[None]:
    """Turns errors into messages and exit codes."""
    try:
        yield
    except ClusterError as error:
        if out.machine:
            out.json({"ok": False, "error": {"message": error.message}})
        if not out.machine or out.errors.is_terminal:
            out.note(f"error: {error.message}", "bold red")
        raise Failure(error.code) from None
    except GenerationError as error:
        raise out.fail(error) from None
    except OSError as error:
        out.note(f"error: {error.filename or ''}: {error.strerror or error}", "bold red")
        raise Failure(Exit.FAILED) from None


def _seconds(text: str) -> float:
    try:
        return float(duration_seconds(text))
    except ValueError:
        raise typer.BadParameter("write a time as 90s, 5m or 1h", param_hint="--timeout") from None


@app.command("list")
def list_command(
    registry: Annotated[str | None, typer.Argument(metavar="REGISTRY", help="Only this TemplateRegistry")] = None,
    all_namespaces: Annotated[bool, typer.Option("--all-namespaces", "-A", help="In every namespace")] = False,
    namespace: Namespace = None,
    context: Context = None,
    kubeconfig: Kubeconfig = None,
    output: Output = None,
) -> None:
    """Lists what can be generated: the templates of all registries, with their variables."""
    out = Out(output)
    with reporting(out):
        cluster = Cluster(kubeconfig, context, namespace)
        found = (
            [cluster.get(REGISTRIES, registry)] if registry else cluster.list_all(REGISTRIES, everywhere=all_namespaces)
        )
        if not found and not out.machine:
            where = "any namespace" if all_namespaces else f"namespace {cluster.namespace}"
            out.note(f"There is no TemplateRegistry in {where}.")
        show.catalogue(out, found, everywhere=all_namespaces)


@app.command()
def describe(
    registry: Registry,
    template: Template,
    namespace: Namespace = None,
    context: Context = None,
    kubeconfig: Kubeconfig = None,
    output: Output = None,
) -> None:
    """Describes one template: what it makes, its variables, and how to run it."""
    out = Out(output)
    with reporting(out):
        found = Cluster(kubeconfig, context, namespace).get(REGISTRIES, registry)
        entry = entry_of(found, *template_of(template))
        if entry is None:
            known = ", ".join(
                f"{it['generator']}/{it['action']}" for it in (found.get("status") or {}).get("catalog") or ()
            )
            raise ClusterError(
                f"registry {registry} shows no template {template}; it has: {known or 'none'}", Exit.NOT_FOUND
            )
        show.template(out, found, entry)


@app.command()
def run(
    registry: Registry,
    template: Template,
    sets: Annotated[
        list[str] | None,
        typer.Option("--set", "-s", metavar="NAME=VALUE", help="A variable as name=value; a.b=1 goes inside"),
    ] = None,
    data: Annotated[
        list[str] | None,
        typer.Option("--data", "-d", metavar="FILE", help="Variables from a JSON or YAML file, - for stdin"),
    ] = None,
    source: Annotated[
        list[str] | None,
        typer.Option("--from", metavar="KIND/NAME", help="Variables in the cluster: configmap/NAME or secret/NAME"),
    ] = None,
    to: Annotated[
        str | None, typer.Option("--to", metavar="KIND/NAME", help="Where the files go: configmap/NAME or secret/NAME")
    ] = None,
    spec: Annotated[
        str | None,
        typer.Option(
            "--spec", metavar="FILE", help="More fields of the job's spec, from a JSON or YAML file: output, timeout, …"
        ),
    ] = None,
    name: Annotated[
        str | None, typer.Option("--name", metavar="NAME", help="Name of the job (default: made from the template's)")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Render and report; nothing is published")] = False,
    print_only: Annotated[bool, typer.Option("--print", help="Print the GenerationJob instead of creating it")] = False,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Follow the job to its end")] = True,
    timeout: Timeout = "10m",
    namespace: Namespace = None,
    context: Context = None,
    kubeconfig: Kubeconfig = None,
    output: Output = None,
) -> None:
    """Runs a template as a GenerationJob, and follows it to its end."""
    out = Out(output)
    seconds = _seconds(timeout)
    with reporting(out):
        cluster = Cluster(kubeconfig, context, namespace)
        wanted = template_of(template)
        more: dict[str, Any] = read_data(spec) if spec else {}
        if dry_run:
            more["dryRun"] = True
        body = build_job(
            registry=registry,
            template=wanted,
            entry=entry_of(cluster.get(REGISTRIES, registry), *wanted) if sets else None,
            name=name,
            sets=sets or [],
            data=data or [],
            sources=source or [],
            to=to,
            more=more,
        )
        if print_only:
            return out.json(body)
        created = cluster.create(JOBS, body)
        made = created["metadata"]["name"]
        if not wait:
            return out.json(created) if out.machine else out.line(f"generationjob/{made} created")
        out.note(f"generationjob/{made} created")
        return _end(out, follow(cluster, out, made, seconds=seconds))


def _end(out: Out, ended: Ended) -> None:
    show.job(out, ended.body)
    if ended.code is not Exit.OK:
        raise Failure(ended.code)


@app.command()
def rerun(
    job: Job,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Follow the job to its end")] = True,
    timeout: Timeout = "10m",
    namespace: Namespace = None,
    context: Context = None,
    kubeconfig: Kubeconfig = None,
    output: Output = None,
) -> None:
    """Runs a job again, also when nothing changed."""
    out = Out(output)
    seconds = _seconds(timeout)
    with reporting(out):
        cluster = Cluster(kubeconfig, context, namespace)
        mark = datetime.now(UTC).isoformat(timespec="microseconds")
        body = cluster.merge(JOBS, job, {"metadata": {"annotations": {names.ANNOTATION_REQUESTED_AT: mark}}})
        if not wait:
            return out.json(body) if out.machine else out.line(f"generationjob/{job} runs again")
        return _end(out, follow(cluster, out, job, seconds=seconds, requested_at=mark))


@app.command()
def cancel(
    job: Job, namespace: Namespace = None, context: Context = None, kubeconfig: Kubeconfig = None, output: Output = None
) -> None:
    """Ends a job: a waiting one does not start, a running one publishes nothing."""
    out = Out(output)
    with reporting(out):
        body = Cluster(kubeconfig, context, namespace).merge(JOBS, job, {"spec": {"cancel": True}})
        if out.machine:
            out.json(body)
        out.line(f"generationjob/{job} is cancelled")


@app.command()
def diff(
    job: Job,
    timeout: Timeout = "5m",
    namespace: Namespace = None,
    context: Context = None,
    kubeconfig: Kubeconfig = None,
    output: Output = None,
) -> None:
    """Shows what a job would change if it ran now, as a unified diff; exit code 1 when there is a difference."""
    out = Out(output, text_in_pipes=True)
    seconds = _seconds(timeout)
    with reporting(out):
        cluster = Cluster(kubeconfig, context, namespace)
        body = cluster.get(JOBS, job)
        if body["spec"].get("dryRun"):
            return _differences(cluster, out, _followed(cluster, out, job, seconds))
        made = cluster.create(JOBS, dry_copy(body))["metadata"]["name"]
        try:
            return _differences(cluster, out, _followed(cluster, out, made, seconds))
        finally:
            cluster.delete(JOBS, made)


def _followed(cluster: Cluster, out: Out, name: str, seconds: float) -> Manifest:
    ended = follow(cluster, out, name, seconds=seconds)
    if ended.code is not Exit.OK:
        show.job(out, ended.body)
        raise Failure(ended.code)
    return ended.body


def _differences(cluster: Cluster, out: Out, body: Manifest) -> None:
    found = (body.get("status") or {}).get("diff") or {}
    text = ""
    if found.get("ref"):
        text = str((cluster.read_output("ConfigMap", found["ref"]["name"]).get("data") or {}).get("diff") or "")
    if out.machine:
        out.json({"job": body["metadata"]["name"], **found, "diff": text})
    else:
        out.diff(text)
    if found.get("truncated"):
        out.warn("the difference is longer than what was kept; run the job with an output to see everything")
    for file in (body.get("status") or {}).get("files") or ():
        if file.get("action") == "conflicted":
            out.warn(f"{file['path']} is in conflict: {file.get('why') or 'it exists with other content'}")
    # Also modes, binary files and files with secrets differ, without a line that is counted.
    if found.get("added") or found.get("removed") or found.get("bytes"):
        raise Failure(Exit.FOUND)


@app.command()
def logs(
    job: Job,
    lines: Annotated[
        int, typer.Option("--tail", min=1, max=100_000, help="Lines of a renderer's log to look through")
    ] = 5000,
    namespace: Namespace = None,
    context: Context = None,
    kubeconfig: Kubeconfig = None,
    output: Output = None,
) -> None:
    """Tells what happened to a job: its events, its conditions, and what the tenant's renderers logged about its last run."""
    out = Out(output)
    with reporting(out):
        cluster = Cluster(kubeconfig, context, namespace)
        body = cluster.get(JOBS, job)
        show.story(out, body, cluster.events_of(body), _log_lines(cluster, out, body, lines))


def _log_lines(cluster: Cluster, out: Out, body: Manifest, lines: int) -> list[str]:
    key = str((body.get("status") or {}).get("runKey") or "")
    found: list[str] = []
    if not key:
        return found
    try:
        for pod in cluster.pods(f"{names.LABEL_COMPONENT}={names.COMPONENT_RENDERER}"):
            found += [line for line in cluster.log_of(pod, lines=lines).splitlines() if key in line]
    except ClusterError as error:
        # Renderers come and go, and not everybody may read their logs: events and conditions tell the story all the same.
        out.warn(f"no logs of renderers: {error.message}")
    return found


@app.command()
def download(
    job: Job,
    dest: Annotated[
        str, typer.Option("--dest", metavar="FOLDER", help="Folder that the files go into (default: the job's name)")
    ] = "",
    force: Annotated[bool, typer.Option("--force", help="Overwrite existing files of other content")] = False,
    namespace: Namespace = None,
    context: Context = None,
    kubeconfig: Kubeconfig = None,
    output: Output = None,
) -> None:
    """Writes the files of a job into a folder, all or nothing, each checked against its digest."""
    out = Out(output)
    folder = dest or job
    with reporting(out):
        cluster = Cluster(kubeconfig, context, namespace)
        where = (cluster.get(JOBS, job).get("status") or {}).get("output") or {}
        if where.get("kind") not in ("ConfigMap", "Secret"):
            kind = where.get("kind")
            raise ClusterError(
                f"the files of job {job} are in {kind} {where.get('name', '')}; fetch them there"
                if kind
                else f"job {job} has published nothing yet",
                Exit.NOT_FOUND,
            )
        files = files_of({"kind": where["kind"]} | cluster.read_output(where["kind"], where["name"]))
        with FolderTree(folder) as base:
            other = [file.path for file in files if file.path in base and base[file.path][0] != file.content]
        if other and not force:
            raise ClusterError(
                f"{len(other)} files in {folder} have other content, nothing is written: {', '.join(other[:5])}; "
                "--force overwrites",
                Exit.CONFLICT,
            )
        paths = write_files(files, folder)
        if out.machine:
            return out.json({"ok": True, "folder": os.path.abspath(folder), "files": paths})
        for path in paths:
            out.line(str(Path(folder) / path))
        return out.note(f"{len(paths)} files from {where['kind'].lower()}/{where['name']}")


def run_app() -> None:
    """The entry point: runs a command, ends with its exit code."""
    try:
        app(prog_name="kubectl unjucks", standalone_mode=True)
    except Failure as failure:
        sys.exit(int(failure.code))
    except KeyboardInterrupt:
        sys.exit(int(Exit.INTERRUPTED))
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        sys.exit(int(Exit.OK))
