"""Starts a job and follows it: the object to create, one line for each stage, and how it ended. Called by the commands.

What a job is allowed to be is decided by the API server and the operator; here is only the translation from a command line.
"""

import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from unjucks_api import names
from unjucks_api.variables import coerce_text
from unjucks_runtime.cli import values
from unjucks_runtime.cli.output import Exit, Out
from unjucks_runtime.kubectl.cluster import GROUP, JOBS, VERSION, Cluster, ClusterError, Manifest

_NAME = re.compile(r"[^a-z0-9]+")
_KINDS = {"configmap": "configMap", "secret": "secret"}
_SOURCES = {"configmap": "ConfigMap", "secret": "Secret"}


@dataclass(frozen=True)
class Ended:
    """A job at its end: ``code`` is the exit code that it means."""

    body: Manifest
    code: Exit


def condition(body: Manifest, kind: str) -> dict[str, Any]:
    """One condition of an object; empty when it is not there or is about an older generation."""
    status, now = body.get("status") or {}, body["metadata"]["generation"]
    for item in status.get("conditions") or ():
        # Its own generation counts: a registry that could not be read yet says so, and is still at the one before.
        if item["type"] == kind and item.get("observedGeneration", status.get("observedGeneration")) == now:
            return dict(item)
    return {}


def template_of(text: str) -> tuple[str, str]:
    """``generator/action`` taken apart. Raises ClusterError."""
    generator, slash, action = text.partition("/")
    if not (slash and generator and action):
        raise ClusterError(f"{text!r} names no template: write generator/action, as list shows it", Exit.USAGE)
    return generator, action


def entry_of(registry: Manifest, generator: str, action: str) -> dict[str, Any] | None:
    """The entry of a registry's catalogue; None when the catalogue does not show it (it shows the first 50)."""
    for entry in (registry.get("status") or {}).get("catalog") or ():
        if (entry.get("generator"), entry.get("action")) == (generator, action):
            return dict(entry)
    return None


def build_job(
    *,
    registry: str,
    template: tuple[str, str],
    entry: Mapping[str, Any] | None,
    name: str | None,
    sets: Sequence[str],
    data: Sequence[str],
    sources: Sequence[str],
    to: str | None,
    more: Mapping[str, Any],
) -> Manifest:
    """The GenerationJob. ``more`` are further fields of its spec.

    Raises ClusterError and GenerationError for what cannot be read.
    """
    generator, action = template
    spec: dict[str, Any] = {
        "registryRef": {"name": registry},
        "template": {"generator": generator, "action": action},
        "variables": _variables(entry, sets, data),
    }
    if sources:
        spec["variablesFrom"] = [_source(item) for item in sources]
    if to is not None:
        spec["output"] = _output(to)
    short = _NAME.sub("-", f"{generator}-{action}".lower()).strip("-")[:50] or "job"
    return {
        "apiVersion": f"{GROUP}/{VERSION}",
        "kind": "GenerationJob",
        "metadata": {"name": name} if name else {"generateName": f"{short}-"},
        "spec": spec | dict(more),
    }


def _variables(entry: Mapping[str, Any] | None, sets: Sequence[str], data: Sequence[str]) -> dict[str, Any]:
    given = values.Given()
    for source in data:
        values.merge(given.values, values.read_data(source))
    kinds = {item["name"]: item.get("type", "any") for item in (entry or {}).get("variables") or ()}
    for item in sets:
        name, equals, text = item.partition("=")
        if not equals or not name:
            raise values.usage(f"--set {item!r}: write name=value")
        kind = kinds.get(name, "any")
        typed = coerce_text(text, () if kind in ("any", "path") else (kind,)) if "." not in name else values.typed(text)
        given.put(name, typed, is_text=isinstance(typed, str))
    return given.values


def _source(text: str) -> dict[str, Any]:
    kind, slash, name = text.partition("/")
    if kind.lower() not in _SOURCES or not (slash and name):
        raise ClusterError(f"--from {text!r}: write configmap/NAME or secret/NAME", Exit.USAGE)
    return {"kind": _SOURCES[kind.lower()], "name": name}


def _output(text: str) -> dict[str, Any]:
    kind, slash, name = text.partition("/")
    if kind.lower() not in _KINDS or not (slash and name):
        raise ClusterError(
            f"--to {text!r}: write configmap/NAME or secret/NAME; other outputs go into --spec", Exit.USAGE
        )
    return {_KINDS[kind.lower()]: {"name": name}}


def dry_copy(job: Manifest) -> Manifest:
    """The same job as a dry run under another name, which goes away by itself when this program is killed."""
    kept = ("suspend", "cancel", "schedule", "trigger", "driftDetection", "dependsOn")
    spec = {key: value for key, value in job["spec"].items() if key not in kept}
    name = job["metadata"]["name"]
    return {
        "apiVersion": job["apiVersion"],
        "kind": job["kind"],
        # The output belongs to the job: without its name the copy would find it taken, or look at another branch.
        "metadata": {"generateName": f"{name[:50]}-diff-", "annotations": {names.ANNOTATION_DIFF_OF: name}},
        "spec": spec | {"dryRun": True, "ttl": {"afterSuccess": "10m", "afterFailure": "10m"}},
    }


def follow(
    cluster: Cluster,
    out: Out,
    name: str,
    *,
    seconds: float,
    requested_at: str = "",
    clock: Callable[[], float] = time.monotonic,
) -> Ended:
    """Tells each stage on standard error until the job has ended, or ``seconds`` have passed.

    ``requested_at``: the end of an earlier run is none; the status has to know of this request.
    """
    began, told = clock(), ""
    body: Manifest = {}
    for body in cluster.follow(JOBS, name, deadline=began + seconds, clock=clock):
        status = body.get("status") or {}
        ready = condition(body, "Ready")
        current = bool(ready) and (not requested_at or status.get("lastHandledRequestedAt") == requested_at)
        phase = str(status.get("phase") or "Pending") if current else "Pending"
        message = str(ready.get("message") or "")
        line = f"{phase}: {message}" if message and phase not in ("Succeeded", "Failed") else phase
        if line != told:
            out.note(f"{clock() - began:6.1f} s  {line}", "" if phase != "Failed" else "red")
            told = line
        if not current:
            continue
        if condition(body, "Complete").get("status") == "True":
            return Ended(body, Exit.OK)
        if condition(body, "Failed").get("status") == "True":
            return Ended(body, Exit.FAILED)
        if phase == "Suspended":
            return Ended(body, Exit.FAILED)
    out.warn(f"the job has not ended after {seconds:.0f} s; it goes on: kubectl unjucks logs {name}")
    return Ended(body, Exit.TIMEOUT)
