"""How long something that carries its own end is still good. Pure. Called by ``tenant.plan`` and ``tenant.courier``."""

from datetime import datetime


def seconds_left(until: str, now: datetime) -> float:
    """Seconds until the time in RFC 3339; 0 for a text that is none."""
    try:
        return (datetime.fromisoformat(until) - now).total_seconds()
    except (ValueError, TypeError):
        return 0.0
