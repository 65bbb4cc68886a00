"""Numbers as JavaScript writes and reads them. Pure functions, called wherever text and numbers meet."""

from __future__ import annotations

import math
import re
from typing import Any

from unjucks_engine.errors import TemplateError
from unjucks_engine.lexer import JS_SPACE
from unjucks_engine.values import MAX_SAFE, number

NAN = math.nan
_NUMERIC = re.compile(r"[+-]?(?:Infinity|(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)\Z")
_RADIX = re.compile(r"0(?:[xX][0-9a-fA-F]+|[oO][0-7]+|[bB][01]+)\Z")
_FLOAT_PREFIX = re.compile(r"[+-]?(?:Infinity|(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)")
_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"


def parse_decimal(text: str) -> int | float:
    """A number token of a template."""
    if text.isdigit() and len(text) < 16:
        return int(text)
    if text.endswith("."):
        text = text[:-1]
    return number(float(text)) if "." in text or len(text) > 300 else number(int(text))


def number_text(value: int | float) -> str:
    """``String(value)`` of a number."""
    if type(value) is int:
        return str(value)
    if value % 1 and (1e-4 < value < 1e15 or -1e15 < value < -1e-4):
        return repr(value)
    if value != value:
        return "NaN"
    if value in (math.inf, -math.inf):
        return "Infinity" if value > 0 else "-Infinity"
    if value == 0:
        return "0"
    sign, digits, exponent = shortest(value)
    return sign + place_point(digits, exponent)


def shortest(value: float) -> tuple[str, str, int]:
    """(sign, digits, n) with value = 0.digits × 10**n: the fewest digits that read back as the same number."""
    text = repr(float(value))
    sign = ""
    if text[0] == "-":
        sign, text = "-", text[1:]
    mantissa, _, exponent = text.partition("e")
    whole, _, fraction = mantissa.partition(".")
    digits = (whole + fraction).lstrip("0")
    n = len(whole) + int(exponent or 0)
    n -= len(whole + fraction) - len(digits)
    digits = digits.rstrip("0") or "0"
    return sign, digits, n


def place_point(digits: str, n: int) -> str:
    """Digits with the decimal point as ``Number::toString`` places it."""
    k = len(digits)
    if k <= n <= 21:
        return digits + "0" * (n - k)
    if 0 < n <= 21:
        return f"{digits[:n]}.{digits[n:]}"
    if -6 < n <= 0:
        return "0." + "0" * -n + digits
    e = n - 1
    tail = f"e{'+' if e > 0 else '-'}{abs(e)}"
    return (digits if k == 1 else f"{digits[0]}.{digits[1:]}") + tail


def text_number(text: str) -> int | float:
    """``Number(text)``."""
    text = text.strip(JS_SPACE)
    if not text:
        return 0
    if text.isascii():
        if text.isdigit() and len(text) < 16:
            return int(text)
        if _NUMERIC.match(text):
            return number(float(text.replace("Infinity", "inf")))
        if _RADIX.match(text):
            return number(int(text, 0))
    return NAN


def parse_float(text: str) -> int | float:
    """``parseFloat(text)``."""
    match = _FLOAT_PREFIX.match(text.lstrip(JS_SPACE))
    if match is None:
        return NAN
    return number(float(match[0].replace("Infinity", "inf")))


def parse_int(text: str, radix: int | float = 10) -> int | float:
    """``parseInt(text, radix)``; radix is a number already."""
    text = text.lstrip(JS_SPACE)
    sign = 1
    if text[:1] in ("+", "-"):
        sign = -1 if text[0] == "-" else 1
        text = text[1:]
    base = to_int32(radix)
    if base == 0:
        base = 16 if text[:2] in ("0x", "0X") else 10
        if base == 16:
            text = text[2:]
    elif base == 16 and text[:2] in ("0x", "0X"):
        text = text[2:]
    if not 2 <= base <= 36:
        return NAN
    allowed = _DIGITS[:base]
    end = 0
    lowered = text.lower()
    while end < len(text) and text[end].isascii() and lowered[end] in allowed:
        end += 1
    if not end:
        return NAN
    if end > 1100:
        return math.inf * sign
    result = int(text[:end], base) * sign
    return -0.0 if result == 0 and sign < 0 else number(result)


def to_int32(value: int | float) -> int:
    """JavaScript's ToInt32."""
    if value != value or value in (math.inf, -math.inf):
        return 0
    result = int(value) & 0xFFFFFFFF
    return result - 0x100000000 if result >= 0x80000000 else result


def to_integer(value: int | float) -> int | float:
    """JavaScript's ToIntegerOrInfinity: NaN becomes 0, fractions are cut."""
    if type(value) is int:
        return value
    if value != value:
        return 0
    if value in (math.inf, -math.inf):
        return value
    return int(value)


def js_round(value: int | float) -> int | float:
    """``Math.round``: halves go up."""
    if type(value) is int or value != value or value in (math.inf, -math.inf):
        return value
    if abs(value) >= MAX_SAFE / 2:
        return value
    result = math.floor(value)
    if value - result >= 0.5:
        result += 1
    return -0.0 if result == 0 and (value < 0 or str(value)[0] == "-") else result


def js_pow(base: Any, exponent: Any) -> int | float:
    """``Math.pow`` of two numbers."""
    if exponent != exponent:
        return NAN
    if exponent == 0:
        return 1
    if base != base:
        return NAN
    if abs(exponent) in (math.inf,):
        if abs(base) == 1:
            return NAN
        return math.inf if (abs(base) > 1) == (exponent > 0) else 0
    if (
        type(base) is int
        and type(exponent) is int
        and 0 < exponent < 1100
        and abs(base) ** min(exponent, 64) <= MAX_SAFE
    ):
        return number(base**exponent)
    try:
        return number(math.pow(base, exponent))
    except OverflowError:
        return -math.inf if base < 0 and exponent % 2 == 1 else math.inf
    except ValueError:
        if base == 0:
            odd = exponent % 2 == 1
            return -math.inf if odd and math.copysign(1, base) < 0 else math.inf
        return NAN


def js_mod(left: Any, right: Any) -> int | float:
    """``%``: the remainder has the sign of the left side."""
    if type(left) is int and type(right) is int and right:
        result = abs(left) % abs(right)
        if left < 0:
            return -result if result else -0.0
        return result
    try:
        return number(math.fmod(left, right))
    except ValueError:
        return NAN


def js_divide(left: Any, right: Any) -> int | float:
    """``/``."""
    if right == 0:
        if left == 0 or left != left or right != right:
            return NAN
        return math.copysign(math.inf, left) * math.copysign(1.0, right)
    return number(left / right)


def _range_error(method: str, what: str = "digits") -> TemplateError:
    return TemplateError(f"RangeError: {method}() {what} argument must be between {_BOUNDS[method]}")


_BOUNDS = {"toFixed": "0 and 100", "toPrecision": "1 and 100", "toExponential": "0 and 100", "toString": "2 and 36"}


def to_fixed(value: int | float, digits: int | float) -> str:
    """``Number.prototype.toFixed``: exact decimal value, ties away from zero."""
    if not 0 <= digits <= 100:
        raise _range_error("toFixed")
    if value != value or abs(value) >= 1e21:
        return number_text(value)
    decimal, wide, exact = _exact(value)
    quantum = decimal.Decimal(1).scaleb(-int(digits))
    result = abs(exact).quantize(quantum, decimal.ROUND_HALF_UP, wide)
    return ("-" if value < 0 else "") + f"{result:f}"


def _exact(value: int | float) -> Any:
    """The decimal module (slow to import, rarely needed), a wide context, and the exact value."""
    import decimal

    return decimal, decimal.Context(prec=1200, rounding=decimal.ROUND_HALF_UP), decimal.Decimal(value)


def to_precision(value: int | float, digits: int | float) -> str:
    """``Number.prototype.toPrecision`` with a given number of digits."""
    if value != value or abs(value) == math.inf:
        return number_text(value)
    if not 1 <= digits <= 100:
        raise _range_error("toPrecision")
    p = int(digits)
    sign = "-" if value < 0 else ""
    if value == 0:
        return "0" if p == 1 else "0." + "0" * (p - 1)
    text, e = _significant(abs(value), p)
    if e < -6 or e >= p:
        tail = f"e{'+' if e >= 0 else '-'}{abs(e)}"
        return sign + (text[0] if p == 1 else f"{text[0]}.{text[1:]}") + tail
    if e == p - 1:
        return sign + text
    if e >= 0:
        return f"{sign}{text[: e + 1]}.{text[e + 1 :]}"
    return f"{sign}0.{'0' * -(e + 1)}{text}"


def _significant(value: int | float, p: int) -> tuple[str, int]:
    """``p`` digits of a positive number, and its decimal exponent."""
    decimal, wide, exact = _exact(value)
    e = exact.adjusted()
    scaled = exact.scaleb(p - 1 - e, wide).quantize(decimal.Decimal(1), decimal.ROUND_HALF_UP, wide)
    text = f"{scaled:f}"
    if len(text) > p:
        text, e = text[:p], e + 1
    return text, e


def to_exponential(value: int | float, digits: int | float | None) -> str:
    """``Number.prototype.toExponential``; None means as many digits as needed."""
    if value != value or abs(value) == math.inf:
        return number_text(value)
    if digits is not None and not 0 <= digits <= 100:
        raise _range_error("toExponential")
    sign = "-" if value < 0 else ""
    if value == 0:
        text, e = "0" * (1 + int(digits or 0)), 0
    elif digits is None:
        _, text, n = shortest(abs(value))
        e = n - 1
    else:
        text, e = _significant(abs(value), int(digits) + 1)
    tail = f"e{'+' if e >= 0 else '-'}{abs(e)}"
    return sign + (text if len(text) == 1 else f"{text[0]}.{text[1:]}") + tail


def to_radix(value: int | float, radix: int | float) -> str:
    """``Number.prototype.toString(radix)``: as many digits of the fraction as tell the number from its neighbours."""
    if not 2 <= radix <= 36:
        raise _range_error("toString", "radix")
    base = int(radix)
    if base == 10 or value != value or abs(value) == math.inf:
        return number_text(value)
    sign = "-" if value < 0 else ""
    value = abs(float(value))
    whole = math.floor(value)
    fraction = value - whole
    delta = max(0.5 * (math.nextafter(value, math.inf) - value), math.nextafter(0.0, 1.0))
    digits: list[int] = []
    if fraction >= delta:
        while True:
            fraction *= base
            delta *= base
            digit = int(fraction)
            digits.append(digit)
            fraction -= digit
            if (fraction > 0.5 or (fraction == 0.5 and digit & 1)) and fraction + delta > 1:
                whole = _carry(digits, base, whole)
                break
            if fraction < delta:
                break
    tail = "." + "".join(_DIGITS[digit] for digit in digits) if digits else ""
    return sign + _whole_radix(value, whole, base) + tail


def _carry(digits: list[int], base: int, whole: int) -> int:
    """Rounds the last digit up; returns the whole part, one higher when everything carried."""
    while digits:
        digit = digits.pop() + 1
        if digit < base:
            digits.append(digit)
            return whole
    return whole + 1


def _whole_radix(value: float, whole: int, base: int) -> str:
    text = ""
    # Beyond 2**53 the low digits are not known; they are written as zeros.
    rest = float(whole)
    while rest > 0 and math.frexp(rest)[1] > 53:
        rest /= base
        text = "0" + text
    low = int(rest)
    while True:
        low, digit = divmod(low, base)
        text = _DIGITS[digit] + text
        if not low:
            return text


def locale_text(value: int | float, digits: int = 3) -> str:
    """``toLocaleString()`` in English: groups of three, at most three digits of the fraction."""
    if value != value or abs(value) == math.inf:
        return "NaN" if value != value else ("∞" if value > 0 else "-∞")
    decimal, _, exact = _exact(value)
    even = decimal.Context(prec=1200, rounding=decimal.ROUND_HALF_EVEN)
    exact = exact.quantize(decimal.Decimal(1).scaleb(-digits), context=even)
    text = f"{abs(exact):,f}"
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    negative = value < 0 or (value == 0 and str(value)[0] == "-")
    return ("-" if negative else "") + text
