"""Where the tooling keeps things. Pure functions of the environment; creates nothing, called by every module of the package."""

import os
from pathlib import Path
from typing import Final

SOURCES: Final = Path(__file__).resolve().parent
REPOSITORY: Final = SOURCES.parents[2]


def cache() -> Path:
    """Built programs and images: may be deleted at any time, costs only the time to build again."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "unjucks-operator"
