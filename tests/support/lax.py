"""A zygote whose children are not confined: what the renderer has to notice before it serves anybody. For tests only."""

import functools
import sys

PROGRAM = (
    sys.executable,
    "-I",
    "-c",
    "import sys, json; sys.path[:] = json.loads(sys.argv[1]); "
    "from unjucks_runtime.renderer import confinement, zygote; "
    "confinement.confine = lambda **_: None; zygote.main(int(sys.argv[2]))",
)


def main() -> None:
    """A renderer with such a zygote."""
    from unjucks_runtime.renderer import __main__ as renderer
    from unjucks_runtime.renderer.workers import WorkerPool

    setattr(renderer, "WorkerPool", functools.partial(WorkerPool, program=PROGRAM))  # noqa: B010  not exported
    renderer.main()


if __name__ == "__main__":
    main()
