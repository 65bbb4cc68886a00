"""The ``kubectl unjucks`` plugin: what a cluster can generate, jobs with progress, their differences, logs and files.

It talks to the API server as the user who calls it, with the user's own kubeconfig and rights, and to nothing else. Exit codes
are in ``unjucks_runtime.cli.output``. ``main`` is the entry point: kubectl finds the program ``kubectl-unjucks`` on the PATH.
"""


def main() -> None:
    """Runs the plugin and exits with its code."""
    from unjucks_runtime.kubectl.app import (
        run_app,
    )  # here: --help and completion stay quick when nothing else is needed

    run_app()
