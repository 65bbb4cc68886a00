"""Command line of the test cluster: ``python -m e2e.cluster COMMAND``; ``--help`` lists the commands.

Exit codes: 0 done · 1 failed · 2 wrong usage · 3 something is missing on this machine (the message says what to run) ·
4 a build failed · 5 a component did not start · 6 `status`: the cluster is not running or not ready.
"""

import argparse
import json
import os
import sys
from typing import Any, Final

from e2e.cluster import golang, images, packages, paths, provider
from e2e.cluster.errors import ClusterError
from e2e.cluster.settings import DEFAULT_NAME

_NOT_READY: Final = 6


def _show(arguments: argparse.Namespace, values: dict[str, Any]) -> None:
    if arguments.output == "json":
        print(json.dumps(values, indent=2))
        return
    width = max((len(key) for key in values), default=0)
    for key, value in values.items():
        text = ", ".join(f"{k} {v}" for k, v in value.items()) if isinstance(value, dict) else value
        print(f"{key:<{width}}  {text}")


def _up(arguments: argparse.Namespace) -> int:
    running = provider.up(arguments.name, arguments.provider)
    _show(arguments, running.status())
    if arguments.output == "text":
        print(f"\nexport KUBECONFIG={running.kubeconfig}")
    return 0


def _down(arguments: argparse.Namespace) -> int:
    existed = provider.down(arguments.name, arguments.provider)
    _show(arguments, {"name": arguments.name, "removed": existed})
    return 0


def _status(arguments: argparse.Namespace) -> int:
    try:
        values = provider.attach(arguments.name, arguments.provider).status()
    except (ClusterError, OSError) as error:
        _show(arguments, {"name": arguments.name, "running": False, "ready": False, "reason": str(error)})
        return _NOT_READY
    _show(arguments, values)
    return 0 if values["ready"] else _NOT_READY


def _kubeconfig(arguments: argparse.Namespace) -> int:
    print(provider.attach(arguments.name, arguments.provider).kubeconfig)
    return 0


def _build(arguments: argparse.Namespace) -> int:
    _show(arguments, {"components": str(golang.components()), "helm": str(golang.helm())})
    return 0


def _images(arguments: argparse.Namespace) -> int:
    built = images.build(arguments.images, docker=provider.choose(arguments.name, arguments.provider) == provider.KIND)
    _show(arguments, {name: image.reference for name, image in built.items()})
    return 0


def _load_images(arguments: argparse.Namespace) -> int:
    running = provider.attach(arguments.name, arguments.provider)
    docker = provider.choose(arguments.name, arguments.provider) == provider.KIND
    built = images.load(running, arguments.images, docker=docker)
    _show(arguments, {name: image.reference for name, image in built.items()})
    return 0


def _image_context(arguments: argparse.Namespace) -> int:
    print(images.context(paths.REPOSITORY / "dist" / "image-context", python=arguments.python))
    return 0


def _kubectl(arguments: argparse.Namespace) -> int:
    running = provider.attach(arguments.name, arguments.provider)
    os.environ["KUBECONFIG"] = str(running.kubeconfig)
    os.execv(running.kubectl_program, ["kubectl", *arguments.rest])


def _helm(arguments: argparse.Namespace) -> int:
    running = provider.attach(arguments.name, arguments.provider)
    os.environ["KUBECONFIG"] = str(running.kubeconfig)
    os.execv(golang.helm(), ["helm", *arguments.rest])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m e2e.cluster",
        description="A real one-node Kubernetes for tests and demos: kind where a Docker engine answers, otherwise built from "
        "Go modules and run in namespaces of its own.",
        epilog=(__doc__ or "").split("\n\n", 1)[-1],
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--name", default=DEFAULT_NAME, help="name of the cluster (default: %(default)s)")
    parser.add_argument("--provider", choices=provider.PROVIDERS, default=provider.AUTO, help="default: %(default)s")
    commands = parser.add_subparsers(required=True, metavar="command")
    texts = {
        "up": (_up, "start the cluster; fast and without effect when it runs"),
        "down": (_down, "remove the cluster and everything it made on this machine"),
        "status": (_status, "say whether it runs and is ready"),
        "kubeconfig": (_kubeconfig, "print the path of the administrator's kubeconfig"),
        "build": (_build, "build the programs only: Kubernetes components and Helm"),
        "images": (_images, "build container images"),
        "load-images": (_load_images, "build container images and load them into the cluster"),
    }
    for name, (function, text) in texts.items():
        command = commands.add_parser(name, help=text, description=text)
        command.add_argument("--output", choices=("text", "json"), default="text", help="default: %(default)s")
        if function in (_images, _load_images):
            command.add_argument("images", nargs="*", choices=[*images.NAMES, []], help="default: all", metavar="image")
        command.set_defaults(function=function)
    command = commands.add_parser("image-context", help="fill dist/image-context, the folder to give `docker build`")
    command.add_argument("--python", default="3.11", help="the base image's Python version (default: %(default)s)")
    command.set_defaults(function=_image_context)
    tools = {"kubectl": (_kubectl, "run kubectl on the cluster"), "helm": (_helm, "run Helm on the cluster")}
    for name, (function, text) in tools.items():
        command = commands.add_parser(name, help=text, description=text, add_help=False)
        command.add_argument("rest", nargs=argparse.REMAINDER, help="its arguments")
        command.set_defaults(function=function)
    return parser


def main() -> int:
    """Run one command; errors become one message and an exit code."""
    arguments = _parser().parse_args()
    packages.extend_path()
    try:
        return int(arguments.function(arguments))
    except ClusterError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
