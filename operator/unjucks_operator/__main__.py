"""The operator's process: command line, configuration, logs, signals. What runs inside is put together by ``app``.

    unjucks-operator --config FILE                      run until SIGTERM
    unjucks-operator --config FILE --check-config       say what is wrong with the configuration, and exit
    unjucks-operator --print-config [--output json]     the configuration in effect, every setting spelled out, secrets hidden
    unjucks-operator db COMMAND                         set up, migrate or check the database (``database.command``)

Must not: know any part of the operator but its assembly. Called by the container's entry point.
"""

import argparse
import asyncio
import logging
import signal
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import version
from typing import Any, TextIO

import orjson
import yaml

from unjucks_operator import config as configuration
from unjucks_operator.config import Config, ConfigError
from unjucks_operator.engine import logs
from unjucks_operator.engine.process import Exit, Process
from unjucks_operator.errors import OperatorError

_log = logging.getLogger("unjucks_operator")

EXIT_CODES = (
    (Exit.OK, "stopped as asked, or the configuration is good"),
    (Exit.FAILED, "an unexpected error; the log has its traceback"),
    (Exit.USAGE, "the command line is wrong"),
    (Exit.CONFIG, "the configuration is wrong; every problem is listed"),
    (Exit.LOST_LEASE, "the lease was lost; start again to be a candidate again"),
    (Exit.UNREACHABLE, "something that is needed at start is not there: credentials, API server, database"),
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code (see ``EXIT_CODES``)."""
    given = sys.argv[1:] if arguments is None else arguments
    if list(given[:1]) == ["db"]:
        from unjucks_operator.database import command

        return command.main(given[1:])
    options = _parser().parse_args(given)
    try:
        config = configuration.load(options.config)
    except ConfigError as error:
        _report_problems(error, options.output)
        return Exit.CONFIG
    if options.print_config:
        _print(configuration.dump(config), options.output)
        return Exit.OK
    if options.check_config:
        _print(
            {"valid": True, "problems": []} if options.output == "json" else "the configuration is good", options.output
        )
        return Exit.OK
    return run(config)


def run(config: Config, *, stream: TextIO | None = None) -> int:
    """Run the operator with this configuration until it ends; returns the exit code."""
    secrets = logs.Secrets()
    _hide(config, secrets)
    control = logs.setup(level=config.logging.level, fmt=config.logging.format, secrets=secrets, stream=stream)
    from unjucks_operator import app  # here, so that --check-config does not pay for every part of the operator

    try:
        return asyncio.run(_serve(lambda: app.build(config, version=version("unjucks-operator")), control))
    except OperatorError as error:
        _log.error("cannot start: %s", error.message)
        return Exit.UNREACHABLE
    except Exception:
        _log.exception("ended by an unexpected error")
        return Exit.FAILED


async def _serve(build: Callable[[], Process], control: logs.LogControl) -> int:
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, control.toggle_debug)
    return await build().run()


def _hide(config: Config, secrets: logs.Secrets) -> None:
    """What the configuration knows and no log may show: addresses with their passwords, and the passwords alone."""
    addresses = [config.database.dsn.get_secret_value()] if config.database.dsn else []
    if config.cache.urls:
        addresses += config.cache.urls.get_secret_value().split()
    for address in addresses:
        secrets.add(address)
        _, _, rest = address.partition("://")
        user, at, _ = rest.rpartition("@")
        if at and user.partition(":")[2]:
            secrets.add(user.partition(":")[2])


def _parser() -> argparse.ArgumentParser:
    codes = "\n".join(f"  {code.value}  {text}" for code, text in EXIT_CODES)
    parser = argparse.ArgumentParser(
        prog="unjucks-operator",
        description="Runs the Unjucks operator until SIGTERM or SIGINT. SIGUSR1 switches debug logs on and off.",
        epilog=f"exit codes:\n{codes}\n\nEvery setting can also come from the environment, for example "
        "UNJUCKS_RENDERER__IDLE_AFTER=5m.\nThe database's address is a secret: UNJUCKS_DATABASE_DSN.\n"
        "The database's set-up: unjucks-operator db --help",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--config", metavar="FILE", help="YAML file with settings; without it the defaults hold")
    actions = parser.add_mutually_exclusive_group()
    actions.add_argument("--check-config", action="store_true", help="only check the configuration; exit code 0 or 3")
    actions.add_argument(
        "--print-config", action="store_true", help="only print the configuration in effect; secrets are hidden"
    )
    parser.add_argument(
        "--output", choices=("text", "json"), default="text", help="how --check-config and --print-config answer (text)"
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {version('unjucks-operator')}")
    return parser


def _report_problems(error: ConfigError, output: str) -> None:
    if output == "json":
        _print({"valid": False, "problems": error.problems}, output)
    else:
        print(error, file=sys.stderr)


def _print(value: Any, output: str) -> None:
    if output == "json":
        text = orjson.dumps(value, option=orjson.OPT_INDENT_2).decode()
    else:
        text = value if isinstance(value, str) else yaml.safe_dump(value, sort_keys=False).rstrip()
    print(text)


if __name__ == "__main__":
    sys.exit(main())
