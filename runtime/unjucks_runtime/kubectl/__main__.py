"""``python -m unjucks_runtime.kubectl``: the same as ``kubectl unjucks``."""

from unjucks_runtime.kubectl import main

if __name__ == "__main__":
    main()
