"""``python -m unjucks_runtime.cli``: the same as the ``unjucks`` command."""

from unjucks_runtime.cli import main

if __name__ == "__main__":
    main()
