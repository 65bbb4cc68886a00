"""Names that go into SQL text, checked: roles are the only identifiers that statements of this package are built with.

Everything else is a parameter. A name that does not match its pattern never reaches the server. Pure; called by the modules of
this package.
"""

import re
from typing import Final

DEFAULT_PREFIX: Final = "unjucks"
KINDS: Final = frozenset({"owner", "provisioner", "tenants", "service", "reaper", "databases", "readers", "guests"})
_TENANT_ROLE = re.compile(r"ut_[0-9a-f]{12}")
_PREFIX = re.compile(r"(?!pg_|ut_)[a-z][a-z0-9_]{0,30}")
_LOGIN = re.compile(r"(?!pg_|ut_)[a-z_][a-z0-9_-]{0,62}")


def quote_tenant_role(role: str) -> str:
    """``role`` quoted for SQL when it is a tenant's role (``ut_`` and 12 hex digits); raises ValueError otherwise."""
    if not _TENANT_ROLE.fullmatch(role):
        raise ValueError(f"{role[:80]!r} is not the role of a tenant")
    return f'"{role}"'


def check_prefix(prefix: str) -> str:
    """The prefix of the platform's own roles, checked: lower-case letters, digits and ``_``; raises ValueError."""
    if not _PREFIX.fullmatch(prefix):
        raise ValueError(
            f"{prefix[:80]!r} is no role prefix: use 1 to 31 lower-case letters, digits and _, starting with a letter, "
            "and neither pg_ nor ut_"
        )
    return prefix


def platform_role(prefix: str, kind: str) -> str:
    """The quoted name of one of the platform's own roles: kind is one of ``KINDS``."""
    if kind not in KINDS:
        raise ValueError(f"there is no platform role {kind!r}")
    return f'"{check_prefix(prefix)}_{kind}"'


def quote_login(login: str) -> str:
    """The quoted name of a login role; raises ValueError for names with characters that need care elsewhere."""
    if not _LOGIN.fullmatch(login):
        raise ValueError(
            f"{login[:80]!r} is no usable login: lower-case letters, digits, _ and -, at most 63, not pg_ or ut_"
        )
    return f'"{login}"'
