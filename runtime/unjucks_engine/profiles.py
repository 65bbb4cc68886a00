"""The additional filters of the unjucks generators, by profile. Called by ``environment``."""

from __future__ import annotations

from typing import Any


def profile_filters(profile: str) -> dict[str, Any]:
    """Filters added to (or replacing) Nunjucks' own."""
    if profile == "nunjucks":
        return {}
    return {}


def profile_globals(profile: str) -> dict[str, Any]:
    """Globals added to Nunjucks' own."""
    return {}
