"""From the driver's errors to the operator's."""

import asyncpg
import pytest

from unjucks_api.reasons import Reason
from unjucks_operator import errors
from unjucks_operator.database.failures import is_connection_loss, translate


def error_of(state: str, message: str = "secret detail") -> asyncpg.PostgresError:
    return asyncpg.PostgresError.new({"C": state, "M": message, "S": "ERROR"})


@pytest.mark.parametrize(
    "state",
    [
        "53300",
        "57P01",
        "57P02",
        "57P03",
        "57014",
        "55P03",
        "40P01",
        "40001",
        "25006",
        "08006",
        "08P01",
        "28P01",
        "3D000",
        "53100",
    ],
)
def test_what_heals_is_unavailable(state: str) -> None:
    for as_tenant in (False, True):
        found = translate(error_of(state), as_tenant=as_tenant)
        assert isinstance(found, errors.Unavailable)
        assert found.reason is Reason.DATABASE_UNAVAILABLE
        assert found.message.startswith("the database is not available: ")
        assert "secret detail" not in found.message


def test_a_tenant_without_role_waits_and_a_platform_without_role_needs_an_administrator() -> None:
    for state in ("42501", "22023", "42704"):
        waiting = translate(error_of(state), as_tenant=True)
        assert isinstance(waiting, errors.Waiting)
        assert waiting.reason is Reason.TENANT_NOT_READY
        missing = translate(error_of(state))
        assert isinstance(missing, errors.NotPermitted)
        assert "db bootstrap" in missing.message


@pytest.mark.parametrize(
    ("state", "kind"),
    [
        ("UJ001", errors.InvalidSpec),
        ("UJ002", errors.OwnershipConflict),
        ("UJ003", errors.Bug),
        ("2BP01", errors.NotPermitted),
        ("22012", errors.Bug),
        ("XX000", errors.Bug),
    ],
)
def test_the_rest(state: str, kind: type[errors.OperatorError]) -> None:
    found = translate(error_of(state))
    assert type(found) is kind
    assert "secret detail" not in found.message


def test_role_changes_that_meet_are_tried_again() -> None:
    assert isinstance(translate(error_of("XX000", "tuple concurrently updated")), errors.Unavailable)


def test_of_the_network_and_of_ours() -> None:
    for error in (OSError("host db.internal"), TimeoutError(), ConnectionResetError(), asyncpg.InterfaceError("x")):
        assert is_connection_loss(error)
        found = translate(error)
        assert isinstance(found, errors.Unavailable)
        assert "db.internal" not in found.message
    own = errors.InvalidSpec("x")
    assert translate(own) is own
    assert isinstance(translate(KeyError("x")), errors.Bug)
    assert not is_connection_loss(error_of("22012"))
    assert not is_connection_loss(error_of("57014"))
