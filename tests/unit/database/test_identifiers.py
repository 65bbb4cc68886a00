"""Names that become part of SQL text."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unjucks_api.names import database_role
from unjucks_operator.database.identifiers import check_prefix, platform_role, quote_login, quote_tenant_role


@settings(deadline=None, max_examples=60)
@given(st.text())
def test_every_uid_gives_a_role_that_passes(uid: str) -> None:
    role = database_role(uid)
    assert quote_tenant_role(role) == f'"{role}"'


@settings(deadline=None, max_examples=60)
@given(st.text())
@pytest.mark.isolation("T-sql-fuzz-names")
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not the role of a tenant"):
        quote_tenant_role(text)


@pytest.mark.parametrize(
    "role",
    ["ut_0123456789ab\n", "ut_0123456789AB", "ut_0123456789abc", 'ut_0123456789a"', "postgres", "", "ut_٠١٢٣٤٥٦٧٨٩ab"],
)
@pytest.mark.isolation("T-sql-fuzz-names")
def test_near_misses_are_refused(role: str) -> None:
    with pytest.raises(ValueError, match="not the role of a tenant"):
        quote_tenant_role(role)


def test_platform_roles() -> None:
    assert platform_role("unjucks", "service") == '"unjucks_service"'
    with pytest.raises(ValueError, match="no platform role"):
        platform_role("unjucks", "superuser")
    with pytest.raises(ValueError, match="no role prefix"):
        platform_role('x"; DROP', "service")


@pytest.mark.parametrize("prefix", ["", "Unjucks", "1a", "pg_a", "ut_a", "a" * 32, "a-b", "a b", 'a"', "a\n"])
def test_bad_prefixes(prefix: str) -> None:
    with pytest.raises(ValueError, match="no role prefix"):
        check_prefix(prefix)


@pytest.mark.parametrize("login", ["", "a b", 'a"b', "pg_monitor", "ut_0123456789ab", "a" * 64, "Ä"])
def test_bad_logins(login: str) -> None:
    with pytest.raises(ValueError, match="no usable login"):
        quote_login(login)
