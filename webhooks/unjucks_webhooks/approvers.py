"""Approvers: who may approve, with which second factor, and what a code is worth now. Pure: time and randomness are parameters.

    enrol ──► Approver (seed, hashed recovery codes) ──► judge(code, now) ──► Decision (verdict, the approver's next state)

A verdict counts only once the next state is stored (``store``): the accepted step, the spent recovery code and the failed try are
in it, so nothing is ever accepted twice, and guessing is slowed down across replicas and restarts. Called by ``store``.
"""

import base64
import hashlib
import hmac
import json
import re
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final

import pyotp

STEP_SECONDS: Final = 30
DRIFT_STEPS: Final = 1
"""Clocks of phones: the code before and the code after count too."""
FREE_TRIES: Final = 5
FIRST_LOCK: Final = 60.0
LONGEST_LOCK: Final = 24 * 3600.0
RECOVERY_CODES: Final = 10
HISTORY: Final = 20
MAX_USER: Final = 253
ISSUER: Final = "Unjucks"

_ALPHABET: Final = "ABCDEFGHJKLMNPQRSTUVWXYZ23456789"
_RECOVERY_CHARS: Final = 16  # 5 bits each: nobody guesses 80 bits, so a plain keyed digest is enough
_TOTP: Final = re.compile(r"[0-9]{6}")
_RECOVERY: Final = re.compile(f"[{_ALPHABET}]{{{_RECOVERY_CHARS}}}")
_REFUSED_PREFIXES: Final = ("system:serviceaccount:", "system:node:", "system:anonymous", "system:unauthenticated")


class NotAnApproverError(ValueError):
    """A name that cannot be enrolled; the message says why."""


class Verdict(StrEnum):
    """What became of a code."""

    ACCEPTED = "accepted"
    RECOVERY = "recovery"
    WRONG = "wrong"
    USED = "used"
    LOCKED = "locked"
    MALFORMED = "malformed"
    UNKNOWN = "unknown"

    @property
    def good(self) -> bool:
        """Whether the change is approved."""
        return self in (Verdict.ACCEPTED, Verdict.RECOVERY)


@dataclass(frozen=True, slots=True)
class Approver:
    """One enrolled user. ``last_step``: the newest accepted time step; ``failures``: wrong codes since the last good one."""

    user: str
    seed: str
    salt: str
    recovery: tuple[str, ...]
    enrolled_at: str
    last_step: int = 0
    failures: int = 0
    last_failure: float = 0.0
    last_used_at: str = ""
    history: tuple[Mapping[str, Any], ...] = ()

    def __repr__(self) -> str:
        return f"Approver({self.user!r})"

    def dump(self) -> bytes:
        """As it is stored."""
        return json.dumps(asdict(self), separators=(",", ":")).encode()

    def locked_until(self) -> float:
        """Until when (seconds since 1970) no code is looked at; 0 when there were few failures."""
        excess = self.failures - FREE_TRIES
        if excess < 0:
            return 0.0
        return self.last_failure + min(FIRST_LOCK * 2.0 ** min(excess, 20), LONGEST_LOCK)

    def uri(self) -> str:
        """The ``otpauth:`` address for the phone."""
        return str(pyotp.TOTP(self.seed, interval=STEP_SECONDS).provisioning_uri(name=self.user, issuer_name=ISSUER))


@dataclass(frozen=True, slots=True)
class Decision:
    """A verdict, words for the user, and the state to store before the verdict is told; None when nothing changed."""

    verdict: Verdict
    message: str
    state: Approver | None = None


def load(data: bytes) -> Approver:
    """The opposite of ``dump``. Raises ValueError for anything else."""
    try:
        fields = json.loads(data)
        made = Approver(**{**fields, "recovery": tuple(fields["recovery"]), "history": tuple(fields["history"])})
    except (TypeError, KeyError) as error:
        raise ValueError(f"not the record of an approver: {type(error).__name__}") from None
    if not (isinstance(made.seed, str) and isinstance(made.last_step, int) and isinstance(made.failures, int)):
        raise ValueError("not the record of an approver")
    return made


def key_of(user: str) -> str:
    """The key under which a user's record is stored: names may hold what keys of a Secret may not."""
    return "approver." + hashlib.sha256(user.encode()).hexdigest()[:40]


def check_user(user: str) -> str:
    """The user's name as the API server gives it. Raises NotAnApproverError for names that cannot be."""
    if not user or len(user) > MAX_USER or user != user.strip() or not user.isprintable():
        raise NotAnApproverError(
            f"the user's name has 1 to {MAX_USER} printable characters, as `kubectl auth whoami` shows it"
        )
    if unicodedata.normalize("NFC", user) != user:
        raise NotAnApproverError(
            "the user's name holds characters that look like others; write it in its usual form (NFC)"
        )
    if user.startswith(_REFUSED_PREFIXES):
        raise NotAnApproverError(f"{user} is no person: a second factor that a program holds is none")
    return user


def enrol(user: str, now: float, random: Callable[[int], bytes]) -> tuple[Approver, tuple[str, ...]]:
    """A new approver and the recovery codes, which are nowhere else. ``random`` gives that many secret bytes."""
    check_user(user)
    seed = base64.b32encode(random(20)).decode()
    made = Approver(user, seed, random(16).hex(), (), _time(now))
    return with_new_recovery_codes(made, random)


def with_new_recovery_codes(approver: Approver, random: Callable[[int], bytes]) -> tuple[Approver, tuple[str, ...]]:
    """The approver with ten new recovery codes; the old ones count no longer."""
    codes = tuple("".join(_ALPHABET[byte % 32] for byte in random(_RECOVERY_CHARS)) for _ in range(RECOVERY_CODES))
    hashed = tuple(_digest(approver.salt, code) for code in codes)
    return replace(approver, recovery=hashed), tuple("-".join(re.findall("....", code)) for code in codes)


def judge(approver: Approver | None, code: str, now: float, note: Mapping[str, Any]) -> Decision:
    """What the code is worth now; ``note`` goes into the approver's history when it is accepted."""
    plain = re.sub(r"[\s-]", "", code[:64]).upper()
    is_totp, is_recovery = _TOTP.fullmatch(plain), _RECOVERY.fullmatch(plain)
    if approver is None:
        return Decision(
            Verdict.UNKNOWN,
            "you are not enrolled as an approver; a platform administrator does that with `unjucks-webhooks enroll`",
        )
    if not is_totp and not is_recovery:
        return Decision(
            Verdict.MALFORMED,
            "an approval is the 6 digits that your authenticator shows, or a recovery code of 16 characters",
        )
    if now < approver.locked_until():
        return Decision(
            Verdict.LOCKED,
            f"after {approver.failures} wrong codes none is looked at before {_clock(approver.locked_until())}",
        )
    if is_totp:
        step = _matching_step(approver.seed, plain, now)
        if step is not None and step <= approver.last_step:
            return Decision(
                Verdict.USED,
                "this code was used already, or a newer one was; wait until your authenticator shows the next one",
            )
        if step is not None:
            return Decision(Verdict.ACCEPTED, "approved", _accepted(replace(approver, last_step=step), now, note))
    else:
        digest = _digest(approver.salt, plain)
        left = tuple(item for item in approver.recovery if not hmac.compare_digest(item, digest))
        if len(left) < len(approver.recovery):
            message = f"approved with a recovery code; {len(left)} are left"
            return Decision(Verdict.RECOVERY, message, _accepted(replace(approver, recovery=left), now, note))
    failures = 1 if now - approver.last_failure > LONGEST_LOCK else approver.failures + 1
    failed = replace(approver, failures=failures, last_failure=now)
    until = failed.locked_until()
    rest = f"no code is looked at before {_clock(until)}" if until else f"{FREE_TRIES - failures} more tries"
    what = "wrong code: is the clock of your device right?" if is_totp else "no such recovery code, or used already"
    return Decision(Verdict.WRONG, f"{what} ({rest})", failed)


def unlocked(approver: Approver) -> Approver:
    """Without the failures."""
    return replace(approver, failures=0, last_failure=0.0)


def _accepted(approver: Approver, now: float, note: Mapping[str, Any]) -> Approver:
    entry = {"at": _time(now), **note}
    history = (*approver.history, entry)[-HISTORY:]
    return replace(unlocked(approver), last_used_at=_time(now), history=history)


def _matching_step(seed: str, code: str, now: float) -> int | None:
    """The newest step around now whose code this is. Looks at all of them: the time it takes tells nothing."""
    totp, current, found = pyotp.TOTP(seed, interval=STEP_SECONDS), int(now) // STEP_SECONDS, None
    for step in range(current - DRIFT_STEPS, current + DRIFT_STEPS + 1):
        if hmac.compare_digest(totp.generate_otp(step), code):
            found = step
    return found


def _digest(salt: str, code: str) -> str:
    return hmac.new(bytes.fromhex(salt), code.encode(), hashlib.sha256).hexdigest()


def _time(now: float) -> str:
    return datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _clock(moment: float) -> str:
    return datetime.fromtimestamp(moment + 1, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
