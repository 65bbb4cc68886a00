"""What a code is worth: the second factor against its RFC, used codes, wrong ones, locks, recovery codes."""

import itertools
import json
import random
from collections.abc import Callable
from dataclasses import replace

import pyotp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unjucks_webhooks import approvers
from unjucks_webhooks.approvers import Approver, NotAnApproverError, Verdict, judge

NOW = 1_800_000_015.0
ADA = "ada@acme.example"


def source(seed: int = 1) -> Callable[[int], bytes]:
    return random.Random(seed).randbytes


def enrolled() -> Approver:
    return approvers.enrol(ADA, NOW, source())[0]


def code_at(approver: Approver, moment: float) -> str:
    return pyotp.TOTP(approver.seed).at(int(moment))


def test_codes_are_those_of_the_rfc() -> None:
    # RFC 6238, appendix B: the secret "12345678901234567890", SHA-1; 8 digits there, the last 6 here.
    approver = replace(enrolled(), seed="GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ")
    for moment, digits in ((59, "287082"), (1111111109, "081804"), (1234567890, "005924"), (20000000000, "353130")):
        assert judge(approver, digits, moment, {}).verdict is Verdict.ACCEPTED, moment


@pytest.mark.parametrize(
    ("offset", "verdict"),
    [(-60, Verdict.WRONG), (-30, Verdict.ACCEPTED), (0, Verdict.ACCEPTED), (30, Verdict.ACCEPTED), (60, Verdict.WRONG)],
)
def test_one_step_to_each_side(offset: int, verdict: Verdict) -> None:
    approver = enrolled()
    assert judge(approver, code_at(approver, NOW + offset), NOW, {}).verdict is verdict


def test_an_accepted_code_and_all_before_it_are_spent() -> None:
    approver = enrolled()
    decision = judge(approver, code_at(approver, NOW), NOW, {"tenant": "acme"})
    after = decision.state
    assert after is not None
    assert after.last_step == int(NOW) // 30
    for offset in (-30, 0):
        again = judge(after, code_at(after, NOW + offset), NOW, {})
        assert again.verdict is Verdict.USED
        assert again.state is None  # no guess, so nothing to count
    assert judge(after, code_at(after, NOW + 30), NOW, {}).verdict is Verdict.ACCEPTED
    assert dict(after.history[0]) == {"at": "2027-01-15T08:00:15Z", "tenant": "acme"}


@given(st.lists(st.tuples(st.integers(0, 200), st.integers(-2, 2)), max_size=30))
def test_no_code_is_ever_accepted_twice(tries: list[tuple[int, int]]) -> None:
    approver, now, accepted = enrolled(), NOW, []
    for wait, offset in tries:
        now += wait
        decision = judge(approver, code_at(approver, now + 30 * offset), now, {})
        if decision.verdict.good:
            accepted.append(int(now + 30 * offset) // 30)
        approver = decision.state or approver
    assert accepted == sorted(set(accepted))


def test_wrong_codes_lock_longer_and_longer_and_a_good_one_forgets_them() -> None:
    approver, now = enrolled(), NOW
    wrong = next(
        f"{it:06d}"
        for it in itertools.count()
        if f"{it:06d}" not in {code_at(approver, NOW + d) for d in range(-3000, 90_000, 30)}
    )
    locks = []
    for number in range(9):
        decision = judge(approver, wrong, now, {})
        assert decision.verdict is Verdict.WRONG
        assert decision.state is not None
        approver = decision.state
        lock = max(approver.locked_until() - now, 0)
        locks.append(lock)
        if lock:
            shut = judge(approver, code_at(approver, now + lock - 1), now + lock - 1, {})
            assert (shut.verdict, shut.state) == (Verdict.LOCKED, None)
        now += lock
        assert approver.failures == number + 1
    assert locks == [0, 0, 0, 0, 60, 120, 240, 480, 960]
    good = judge(approver, code_at(approver, now), now, {})
    assert good.verdict is Verdict.ACCEPTED
    assert good.state is not None
    assert good.state.failures == 0


def test_locks_are_not_for_ever() -> None:
    approver = replace(enrolled(), failures=1000, last_failure=NOW)
    assert approver.locked_until() == NOW + 24 * 3600
    assert judge(approver, "000000", NOW + 25 * 3600, {}).state == replace(
        approver, failures=1, last_failure=NOW + 25 * 3600
    )


def test_each_recovery_code_counts_once_in_any_spelling() -> None:
    approver, codes = approvers.enrol(ADA, NOW, source())
    assert len(set(codes)) == 10
    for number, code in enumerate(codes):
        spelled = code.lower().replace("-", " ") if number % 2 else code
        decision = judge(approver, spelled, NOW, {})
        assert decision.verdict is Verdict.RECOVERY
        assert decision.state is not None
        assert len(decision.state.recovery) == 9 - number
        again = judge(decision.state, code, NOW, {})
        assert again.verdict is Verdict.WRONG
        approver = decision.state


def test_a_stored_record_holds_no_recovery_code() -> None:
    approver, codes = approvers.enrol(ADA, NOW, source())
    stored = approver.dump().decode()
    assert not any(code in stored or code.replace("-", "") in stored for code in codes)
    assert approvers.load(approver.dump()) == approver
    assert approver.seed not in repr(approver)


@pytest.mark.parametrize(
    "code", ["", "12345", "1234567", "abcdef", "١٢٣٤٥٦", "123456; drop", "0" * 100_000, "IIII-IIII-IIII-IIII"]
)
def test_what_is_no_code_is_said_and_not_counted(code: str) -> None:
    decision = judge(enrolled(), code, NOW, {})
    assert (decision.verdict, decision.state) == (Verdict.MALFORMED, None)


def test_nobody_else() -> None:
    assert judge(None, "123456", NOW, {}).verdict is Verdict.UNKNOWN


@pytest.mark.parametrize(
    "user", ["", " ada", "a\nb", "x" * 254, "system:serviceaccount:a:b", "system:anonymous", "e\u0301va"]
)
def test_names_that_cannot_be_enrolled(user: str) -> None:
    with pytest.raises(NotAnApproverError):
        approvers.check_user(user)


@pytest.mark.parametrize("data", [b"", b"{}", b"[]", b"null", json.dumps({"user": 1}).encode()])
def test_a_broken_record_is_an_error(data: bytes) -> None:
    with pytest.raises(ValueError, match=r".*"):
        approvers.load(data)


def test_the_address_for_the_phone() -> None:
    approver = enrolled()
    totp = pyotp.parse_uri(approver.uri())
    assert isinstance(totp, pyotp.TOTP)
    assert (totp.name, totp.issuer, totp.secret) == (ADA, "Unjucks", approver.seed)
