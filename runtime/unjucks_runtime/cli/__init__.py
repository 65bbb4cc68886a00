"""The ``unjucks`` command: list, describe, new, diff, render, lint, test, init, migrate. Local work only; it knows no cluster.

``main`` is the entry point of the package. Exit codes are in ``unjucks_runtime.cli.output``.
"""


def main() -> None:
    """Runs the command line and exits with its code."""
    from unjucks_runtime.cli.app import run  # here: completion and --help stay quick when nothing else is needed

    run()
