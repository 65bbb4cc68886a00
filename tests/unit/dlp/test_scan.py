"""What is found, what is not, where, and that looking ends: each detector with a hit and near misses."""

import itertools
import time

import pytest

from unjucks_runtime.dlp.detectors import DETECTORS
from unjucks_runtime.dlp.scan import MAX_FINDINGS, Scan, redact, scan

# Put together at run time, so that no scanner of repositories takes this file for a leak.
GITHUB = "ghp" + "_" + "a1B2" * 9
AWS = "AKIA" + "QRSTUVWX23456723"
KEY = "-----BEGIN " + "RSA PRIVATE KEY-----\n" + "MIIEpAIB" * 8 + "\n-----END " + "RSA PRIVATE KEY-----"
JWT = "eyJhbGciOiJIUzI1NiJ9" + ".eyJzdWIiOiIxMjM0In0." + "c2lnbmF0dXJlLTE"

HITS = [
    ("payment-card", "4111 1111 1111 1111"),
    ("payment-card", "5555-5555-5555-4444"),
    ("payment-card", "378282246310005"),
    ("payment-card", "3782 822463 10005"),
    ("payment-card", "6011111111111117"),
    ("us-social-security-number", "123-45-6789"),
    ("iban", "DE89 3704 0044 0532 0130 00"),
    ("iban", "GB82WEST12345698765432"),
    ("aws-access-key-id", AWS),
    ("github-token", GITHUB),
    ("github-token", "github" + "_pat_" + "a1" * 11 + "_" + "b2C" * 19 + "dd"),
    ("gitlab-token", "glpat" + "-" + "Ab3_" * 5),
    ("slack-token", "xoxb" + "-123456789012-abcdefABCDEF"),
    ("stripe-key", "sk" + "_live_" + "a1B2c3D4" * 3),
    ("google-api-key", "AIza" + "Sy1" * 11 + "ab"),
    ("npm-token", "npm" + "_" + "a1B2" * 9),
    ("pypi-token", "pypi-" + "AgEIcHlwaS5vcmc" + "a1B2-" * 11),
    ("json-web-token", JWT),
    ("private-key", KEY),
    ("password-in-address", "postgres://app:" + "s3cr3t-pw@db.internal/app"),
    ("secret-value", 'password: "' + 'hunter2-Ab9xK2mQ7p"'),
    ("secret-value", "API_KEY=" + "aB3dE5fG7hJ9kL1mN3pQ\n"),
]

MISSES = [
    "4111 1111 1111 1112",  # check digit
    "1234567812345670",  # check digit right, no such issuer
    "x4111111111111111",  # a part of a word
    "41111111111111110",  # longer
    "000-12-3456", "666-12-3456", "900-12-3456", "123-00-4567", "123-45-0000", "078-05-1120", "1123-45-6789",
    "DE88 3704 0044 0532 0130 00",  # remainder
    "ZZ82WEST12345698765432",  # no such country
    "AKIA" + "IOSFODNN7EXAMPLE",  # the sample of the documentation
    "ghp_short",
    "eyJub3RqcyI6MX0.eyJzdWIiOiIxMjM0In0.c2lnbmF0dXJlLTE",  # no algorithm
    "-----BEGIN PUBLIC KEY-----\n" + "MIIEpAIB" * 8,
    "postgres://app:{{ password }}@db/app", "postgres://app:$PASSWORD@db/app", "https://host/path@version",
    'password: "{{ password }}"', 'password: "changeme-please-1"', "password: ${DB_PASSWORD}", "secret: aaaaaaaaaaaaaaaaaaaaaaaa",
    "token = request.headers.get('Authorization')",
    "tokens: 12345678901234567890",
]  # fmt: skip


def look(text: str, **kwargs: float) -> Scan:
    return scan([("f", text.encode())], clock=time.monotonic, seconds=30, **kwargs)  # type: ignore[arg-type]


@pytest.mark.parametrize(("detector", "text"), HITS)
def test_found_alone_and_in_the_middle_of_a_line(detector: str, text: str) -> None:
    for before, after in (("", ""), ("see: ", " and\n"), ("\n\n(", ")")):
        if text.endswith("\n") and after == ")":
            continue
        (finding, *more) = look(before + text + after).findings
        assert (finding.detector, more) == (detector, [])
        assert finding.line == 1 + before.count("\n")


def test_each_detector_has_a_hit() -> None:
    assert {name for name, _ in HITS} == {detector.name for detector in DETECTORS}


@pytest.mark.parametrize("text", MISSES)
def test_not_found(text: str) -> None:
    assert look(text).findings == ()


@pytest.mark.parametrize(("detector", "text"), HITS)
def test_redaction_leaves_nothing_and_changes_nothing_else(detector: str, text: str) -> None:
    files = {"f": f"before {text} after\n".encode(), "clean": b"nothing\n"}
    changed, found = redact(files.items(), clock=time.monotonic, seconds=30)
    assert list(changed) == ["f"]
    assert f"[REDACTED:{detector}]".encode() in changed["f"]
    assert changed["f"].startswith(b"before ")
    assert changed["f"].endswith(b"after\n")
    assert scan(changed.items(), clock=time.monotonic, seconds=30).total == 0
    assert found.total == 1


def test_a_finding_never_holds_the_data() -> None:
    for _, text in HITS:
        for finding in look(text).findings:
            assert text.strip() not in str(finding)
            assert not any(part in str(finding) for part in (GITHUB, AWS, JWT, "hunter2"))


def test_several_on_a_line_and_what_follows_a_near_miss() -> None:
    text = f"1234 4111 1111 1111 1111 {AWS} {AWS}\n"
    assert [(it.detector, it.column) for it in look(text).findings] == [
        ("payment-card", 6),
        ("aws-access-key-id", 26),
        ("aws-access-key-id", 47),
    ]


def test_findings_are_bounded_and_counted() -> None:
    found = look(f"{AWS}\n" * (MAX_FINDINGS + 50))
    assert (len(found.findings), found.total) == (MAX_FINDINGS, MAX_FINDINGS + 50)


def test_what_is_too_large_or_too_late_is_said() -> None:
    assert look("x" * 11, max_bytes=10).skipped == ("f",)
    assert not look("x" * 11, max_bytes=10).complete
    ticks = itertools.count()
    late = scan([("a", b"x"), ("b", b"x")], clock=lambda: float(next(ticks)), seconds=3)
    assert late.skipped == ("a", "b")


FLOODS = [
    b"4111111111111112 ", b"1", b"a://b:", b'password: "aaaaaaaaaaaa" ', b"AKIA", b"DE89 ", b"eyJ",
    b"-----BEGIN PRIVATE KEY-----\n",
]  # fmt: skip


@pytest.mark.parametrize("unit", FLOODS)
def test_work_grows_no_faster_than_the_text(unit: bytes) -> None:
    """Counted in looks at the clock, one for each few hundred candidates, so no machine is too slow for the test."""

    def looks(size: int) -> int:
        ticks = itertools.count()
        scan([("f", unit * (size // len(unit)))], clock=lambda: float(next(ticks)), seconds=1e9)
        return next(ticks)

    assert looks(200_000) <= 2.5 * looks(100_000)
