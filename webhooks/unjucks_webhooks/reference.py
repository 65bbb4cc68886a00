"""The page ``docs/reference/webhooks.md``: commands, options, exit codes, metrics. Called by ``make generate``."""

import argparse
from collections.abc import Iterator

from unjucks_webhooks.command import EXIT_CODES, _parser
from unjucks_webhooks.metrics import TABLE


def page() -> str:
    """The text of the page."""
    parser = _parser({})
    lines = [
        "# unjucks-webhooks",
        "",
        "The admission process and the command for approvers; what it is for: [approvals](../approvals.md). In the cluster:",
        "`kubectl -n unjucks-system exec -it deployment/unjucks-webhooks -- unjucks-webhooks COMMAND`. Credentials are those of",
        "the pod, else `$KUBECONFIG`, else `~/.kube/config`. This page is generated from the code.",
    ]
    for name, command in _commands(parser):
        lines += [
            "",
            f"## {name}",
            "",
            str(command.description),
            "",
            "| option | default | meaning |",
            "| --- | --- | --- |",
        ]
        lines += [_row(action) for action in command._actions if action.dest != "help"]
    lines += ["", "## Exit codes", "", "| code | meaning |", "| --- | --- |"]
    lines += [f"| {code.value} | {text} |" for code, text in EXIT_CODES]
    lines += ["", "## Metrics", "", "Prometheus text on `/metrics` of the health port (8080).", ""]
    lines += ["| name | type | labels | meaning |", "| --- | --- | --- | --- |"]
    for metric, kind, labels, text in TABLE:
        shown = ", ".join(f"`{label.strip()}`" for label in labels.split(",") if label) or "–"
        lines.append(f"| `{metric}` | {kind} | {shown} | {text} |")
    return "\n".join(lines) + "\n"


def _commands(parser: argparse.ArgumentParser) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            yield from action.choices.items()


def _row(action: argparse.Action) -> str:
    option = action.option_strings[0] + (f" {action.metavar}" if isinstance(action.metavar, str) else "")
    if action.choices:
        option += " " + "\\|".join(map(str, action.choices))
    default = (
        "required" if action.required else f"`{action.default}`" if action.default not in (None, "", False) else "none"
    )
    text = str(action.help).replace(" (%(default)s)", "").replace(", else %(default)s", "")
    return f"| `{option}` | {default} | {text} |"
