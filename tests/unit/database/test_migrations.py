"""Which migrations are left, and which histories do not fit; and the passwords' verifiers."""

import pytest

from unjucks_operator.database.bootstrap import scram_verifier
from unjucks_operator.database.migrate import Migration, MigrationError, check_order, load_migrations, pending

ONE, TWO = Migration(1, "one", "SELECT 1;"), Migration(2, "two", "SELECT 2;")


def test_the_files_are_in_order_and_named() -> None:
    found = load_migrations()
    assert [item.version for item in found] == list(range(1, len(found) + 1))
    assert all(item.sql.strip() for item in found)


def test_pending() -> None:
    assert pending((ONE, TWO), {}) == (ONE, TWO)
    assert pending((ONE, TWO), {1: ONE.checksum}) == (TWO,)
    assert pending((ONE, TWO), {1: ONE.checksum, 2: TWO.checksum}) == ()


@pytest.mark.parametrize(
    ("applied", "text"),
    [
        ({1: "sha256:other"}, "0001_one was changed"),
        ({1: ONE.checksum, 2: TWO.checksum, 3: "x"}, "schema version 3, this operator knows 2"),
        ({2: TWO.checksum}, "gaps"),
    ],
)
def test_histories_that_do_not_fit(applied: dict[int, str], text: str) -> None:
    with pytest.raises(MigrationError, match=text):
        pending((ONE, TWO), applied)


def test_order() -> None:
    assert check_order([TWO, ONE]) == (ONE, TWO)
    for wrong in ([TWO], [ONE, ONE], [ONE, Migration(3, "x", "")]):
        with pytest.raises(MigrationError, match="without gaps"):
            check_order(wrong)


def test_checksum_ignores_only_blanks_at_line_ends() -> None:
    assert (
        Migration(1, "x", "SELECT 1;\r\nSELECT 2;  \n\n").checksum == Migration(1, "y", "SELECT 1;\nSELECT 2;").checksum
    )
    assert Migration(1, "x", "SELECT 1;").checksum != Migration(1, "x", "SELECT  1;").checksum


def test_scram_verifier_is_the_one_of_the_rfc() -> None:
    """The example of RFC 7677: user "user", password "pencil"."""
    import base64

    verifier = scram_verifier("pencil", salt=base64.b64decode("W22ZaJ0SNY7soEsUEjb6gQ=="))
    assert verifier == (
        "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$"
        "WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="
    )
    assert scram_verifier("pencil") != scram_verifier("pencil")
    for bad in ("", "pässword", "with\nnewline"):
        with pytest.raises(ValueError, match="printable ASCII"):
            scram_verifier(bad)
