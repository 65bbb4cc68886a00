"""What is looked for: one ``Detector`` for each kind of sensitive data, a pattern of linear time and a check of each match.

The check is what keeps findings believable: a payment card has an issuer and a check digit, an IBAN its remainder, a secret its
entropy. Patterns run on bytes, so a file of any encoding that keeps ASCII is covered. Pure; called by ``dlp.scan``.
"""

import base64
import binascii
import json
import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import re2

_WORD: Final = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_")
_WORD_END: Final = re2.compile(rb"[^a-zA-Z0-9_]")
_Check = Callable[[bytes], bool]


@dataclass(frozen=True, slots=True)
class Detector:
    """One kind of sensitive data. ``group``: the part of a match that is sensitive, -1 the one that took part.

    ``hint``: every match holds this text, so a file without it need not be searched. ``whole``: no letter or digit may touch it.
    """

    name: str
    pattern: Any
    check: _Check
    hint: bytes = b""
    group: int = 0
    whole: bool = True
    until: bytes = b""
    """When not empty: the sensitive part goes on to the end of this text, when that follows."""

    def accepts(self, content: bytes, start: int, end: int) -> bool:
        """Whether the match is one: what stands around it, and what the check says."""
        if self.whole and (
            (start > 0 and content[start - 1] in _WORD) or (end < len(content) and content[end] in _WORD)
        ):
            return False
        return self.check(content[start:end])


def after_word(content: bytes, position: int) -> int:
    """Where the word that stands at ``position`` is over; at least one byte further on."""
    match = _WORD_END.search(content, position + 1)
    return len(content) if match is None else int(match.start())


def _any(_: bytes) -> bool:
    return True


# --- numbers ----------------------------------------------------------------------------------------------------------------


def is_payment_card(text: bytes) -> bool:
    """Issuer's range and length (ISO/IEC 7812), and the check digit (Luhn)."""
    digits = [byte - 48 for byte in text if 48 <= byte <= 57]
    return _has_issuer(digits) and _luhn(digits)


def _has_issuer(digits: list[int]) -> bool:
    length = len(digits)
    two, three, four = (int("".join(map(str, digits[:count]))) for count in (2, 3, 4))
    return (
        (digits[0] == 4 and length in (13, 16, 19))  # Visa
        or (length == 16 and (51 <= two <= 55 or 2221 <= four <= 2720))  # Mastercard
        or (length == 15 and two in (34, 37))  # American Express
        or (16 <= length <= 19 and (four == 6011 or 644 <= three <= 649 or two == 65))  # Discover
        or (16 <= length <= 19 and 3528 <= four <= 3589)  # JCB
        or (14 <= length <= 19 and (300 <= three <= 305 or two in (36, 38, 39)))  # Diners Club
        or (16 <= length <= 19 and two == 62)  # UnionPay
    )


def _luhn(digits: list[int]) -> bool:
    total = 0
    for position, digit in enumerate(reversed(digits)):
        doubled = digit * 2 if position % 2 else digit
        total += doubled - 9 if doubled > 9 else doubled
    return total % 10 == 0


def is_social_security_number(text: bytes) -> bool:
    """Areas, groups and serials that the Social Security Administration may have given out, without the two famous samples."""
    area, group, serial = (int(part) for part in text.split(b"-"))
    return area not in (0, 666) and area < 900 and group != 0 and serial != 0 and text not in _SSN_SAMPLES


_SSN_SAMPLES: Final = (b"078-05-1120", b"219-09-9999")

# Length of an IBAN by country: the registry of ISO 13616.
_IBAN_LENGTHS: Final = {
    "AD": 24, "AE": 23, "AL": 28, "AT": 20, "AZ": 28, "BA": 20, "BE": 16, "BG": 22, "BH": 22, "BR": 29, "BY": 28, "CH": 21,
    "CR": 22, "CY": 28, "CZ": 24, "DE": 22, "DK": 18, "DO": 28, "EE": 20, "EG": 29, "ES": 24, "FI": 18, "FO": 18, "FR": 27,
    "GB": 22, "GE": 22, "GI": 23, "GL": 18, "GR": 27, "GT": 28, "HR": 21, "HU": 28, "IE": 22, "IL": 23, "IQ": 23, "IS": 26,
    "IT": 27, "JO": 30, "KW": 30, "KZ": 20, "LB": 28, "LC": 32, "LI": 21, "LT": 20, "LU": 20, "LV": 21, "MC": 27, "MD": 24,
    "ME": 22, "MK": 19, "MR": 27, "MT": 31, "MU": 30, "NL": 18, "NO": 15, "PK": 24, "PL": 28, "PS": 29, "PT": 25, "QA": 29,
    "RO": 24, "RS": 22, "SA": 24, "SC": 31, "SE": 24, "SI": 19, "SK": 24, "SM": 27, "TN": 24, "TR": 26, "UA": 29, "VA": 22,
    "VG": 24, "XK": 20,
}  # fmt: skip


def is_iban(text: bytes) -> bool:
    """Length of its country, and the remainder 1 (ISO 7064, MOD 97-10)."""
    plain = text.replace(b" ", b"").decode("ascii")
    if _IBAN_LENGTHS.get(plain[:2]) != len(plain):
        return False
    return int("".join(str(int(char, 36)) for char in plain[4:] + plain[:4])) % 97 == 1


# --- credentials ------------------------------------------------------------------------------------------------------------


def entropy(text: bytes) -> float:
    """Bits for each byte, after Shannon: 0 for one byte again and again, about 4 and more for random text of 20 characters."""
    return -sum(count / len(text) * math.log2(count / len(text)) for count in Counter(text).values())


def is_json_web_token(text: bytes) -> bool:
    """The first part decodes to a JSON object that names an algorithm (RFC 7515)."""
    head = text.split(b".", 1)[0]
    try:
        header = json.loads(base64.urlsafe_b64decode(head + b"=" * (-len(head) % 4)))
    except (binascii.Error, ValueError, RecursionError):
        return False
    return isinstance(header, dict) and "alg" in header


_PLACEHOLDER: Final = re2.compile(
    rb"(?i)[{$<%]|\.\.\.|\*\*\*|xxx|example|changeme|change-me|change_me|placeholder|dummy|sample|your[-_ ]|redacted|todo|secretref"
)


def is_secret_value(text: bytes) -> bool:
    """Looks made by chance, and is neither a placeholder nor a reference to where the secret is."""
    if len(text) < 12 or _PLACEHOLDER.search(text):
        return False
    kinds = sum(
        any(low <= byte <= high for byte in text) for low, high in ((48, 57), (65, 90), (97, 122))
    )  # digits, upper, lower
    return kinds >= 2 and entropy(text) >= 3.3


def is_password_in_address(text: bytes) -> bool:
    """A password between ``user:`` and ``@``; placeholders and empty ones are none."""
    return len(text) >= 4 and not _PLACEHOLDER.search(text)


def _fixed(name: str, pattern: bytes, check: _Check = _any, hint: bytes = b"") -> Detector:
    return Detector(name, re2.compile(pattern), check, hint)


# No counted repetition with a large bound: it makes an automaton that does not fit into its memory, and then finds nothing.
DETECTORS: Final = (
    _fixed(
        "payment-card",
        rb"[0-9]{13,19}|[0-9]{4}[ -][0-9]{4}[ -][0-9]{4}[ -][0-9]{1,7}|[0-9]{4}[ -][0-9]{6}[ -][0-9]{4,5}",
        is_payment_card,
    ),
    _fixed("us-social-security-number", rb"[0-9]{3}-[0-9]{2}-[0-9]{4}", is_social_security_number, b"-"),
    _fixed("iban", rb"[A-Z]{2}[0-9]{2}(?:[A-Z0-9]{11,30}|(?: [A-Z0-9]{4}){2,7}(?: [A-Z0-9]{1,3})?)", is_iban),
    _fixed("aws-access-key-id", rb"(?:AKIA|ASIA)[A-Z2-7]{16}", lambda text: b"EXAMPLE" not in text, b"IA"),
    _fixed("github-token", rb"gh[pousr]_[A-Za-z0-9]{36}|github_pat_[A-Za-z0-9]{22}_[A-Za-z0-9]{59}", hint=b"_"),
    _fixed("gitlab-token", rb"glpat-[A-Za-z0-9_-]{20,}", hint=b"glpat-"),
    _fixed("slack-token", rb"xox[abopsr]-[A-Za-z0-9-]{10,}", hint=b"xox"),
    _fixed("stripe-key", rb"[sr]k_live_[A-Za-z0-9]{16,}", hint=b"k_live_"),
    _fixed("google-api-key", rb"AIza[A-Za-z0-9_-]{35}", hint=b"AIza"),
    _fixed("npm-token", rb"npm_[A-Za-z0-9]{36}", hint=b"npm_"),
    _fixed("pypi-token", rb"pypi-AgEIcHlwaS5vcmc[A-Za-z0-9_-]{50,}", hint=b"pypi-"),
    _fixed(
        "json-web-token",
        rb"eyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}",
        is_json_web_token,
        b"eyJ",
    ),
    Detector(
        "private-key",
        re2.compile(rb"-----BEGIN (?:[A-Z]+ )?PRIVATE KEY-----\s*[A-Za-z0-9+/=:,\-\s]{32}"),
        _any,
        b"PRIVATE KEY-----",
        whole=False,
        until=b"PRIVATE KEY-----",
    ),
    Detector(
        "password-in-address",
        re2.compile(rb"[a-z][a-z0-9+.-]*://[^\s:/@\"'<>]*:([^\s/@\"'<>]+)@"),
        is_password_in_address,
        b"://",
        group=1,
        whole=False,
    ),
    Detector(
        "secret-value",
        re2.compile(
            rb"(?i)(?:passw(?:or)?d|secret|token|api[_-]?key|access[_-]?key|credential)s?[\"']?[ \t]*[:=][ \t]*"
            rb"(?:\"([^\"\s]{12,})\"|'([^'\s]{12,})'|([a-z0-9+/=_-]{20,})(?:\s|$))"
        ),
        is_secret_value,
        group=-1,
        whole=False,
    ),
)
"""In the order in which they win when they find the same place."""
