"""Durations as Kubernetes' users write them: ``90s``, ``2m``, ``1h30m``. Pure and quick to import; called by models, configuration
and commands.
"""

import re

DURATION = r"^([0-9]{1,5}h)?([0-9]{1,5}m)?([0-9]{1,6}s)?$"
_DURATION = re.compile(r"(?:([0-9]{1,5})h)?(?:([0-9]{1,5})m)?(?:([0-9]{1,6})s)?")


def duration_seconds(text: str) -> int:
    """Seconds of a duration such as ``90s`` or ``1h30m``. Raises ValueError for anything else."""
    found = _DURATION.fullmatch(text)
    if found is None or not text:
        raise ValueError(f"{text[:40]!r} is not a duration; write for example 90s, 2m or 1h30m")
    hours, minutes, seconds = (int(part or 0) for part in found.groups())
    return hours * 3600 + minutes * 60 + seconds
