"""Which of many tags is the newest version in a range. Pure. Called by the Git and OCI sources.

Ranges are npm's and Flux' (``>=1.4.0 <2.0.0``, ``^1.2``, ``~1.2.3``, ``1.x``, ``a || b``; a comma counts as a blank). Pre-releases
count only where the range names one. A leading ``v`` is no part of the version; ``1.2`` is ``1.2.0``.
"""

import re
from collections.abc import Iterable

from semantic_version import NpmSpec, SimpleSpec, Version

from unjucks_api.reasons import Reason
from unjucks_runtime.courier.errors import CourierError

_TAG = re.compile(r"v?(\d{1,9})(?:\.(\d{1,9}))?(?:\.(\d{1,9}))?(-[0-9A-Za-z.-]{1,64})?(\+[0-9A-Za-z.-]{1,64})?")
_PRE = re.compile(r"\d-[0-9A-Za-z]")
_GAP = re.compile(r"([<>=~^]+)\s+")


def newest(tags: Iterable[str], wanted: str, what: str) -> str:
    """The tag with the highest version in the range. Raises CourierError (RevisionNotFound, UrlInvalid for a bad range)."""
    try:
        specs = _read_range(wanted)
    except ValueError:
        raise CourierError(
            Reason.URL_INVALID, f"ref.semver: {wanted[:80]!r} is no range of versions; write for example >=1.4.0 <2.0.0"
        ) from None
    best: tuple[Version, str] | None = None
    for tag in tags:
        version = read_version(tag)
        if version is not None and any(version in spec for spec in specs) and (best is None or (version, tag) > best):
            best = version, tag
    if best is None:
        raise CourierError(Reason.REVISION_NOT_FOUND, f"no tag of {what} is a version in {wanted[:80]}")
    return best[1]


def _read_range(wanted: str) -> list[NpmSpec | SimpleSpec]:
    """One of these has to hold. npm takes a pre-release only of the very version that the range names; Flux takes those of all."""
    text = _GAP.sub(r"\1", " ".join(wanted.replace(",", " ").split()))
    if not _PRE.search(text):
        return [NpmSpec(text)]
    return [SimpleSpec(",".join(part.split())) for part in text.split("||")]


def read_version(tag: str) -> Version | None:
    """The version that the tag names; None when it names none."""
    found = _TAG.fullmatch(tag)
    if found is None:
        return None
    core = ".".join(part or "0" for part in found.groups()[:3])
    try:
        return Version(core + (found[4] or "") + (found[5] or ""))
    except ValueError:
        return None
