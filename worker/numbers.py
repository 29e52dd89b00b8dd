r"""Reads numbers as people write them, exactly, without any algebra.

Decimals with thousands separators, fractions (`3/4`, `\frac{3}{4}`, `\frac34`), mixed numbers
(`1 1/2`), percent, scientific notation and a currency sign in front.
"""

import re
from dataclasses import dataclass
from fractions import Fraction

_MAX_CHARS = 400
_MAX_EXPONENT = 300
_MIN_ROUNDED_DIGITS = 5
"""A rounded decimal stands for a fraction from so many significant digits on."""

_DECIMAL = r"(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d*)?|\.\d+"
_NUMBER = re.compile(
    rf"""
    (?P<sign>[+-]?)
    (?:\\?[$€£¥])?
    (?:
        (?:(?P<whole>\d+)(?:\ |(?=\\)))?              # of a mixed number
        (?:
            \\frac(?:\{{(?P<top>\d+)\}}|(?P<digit>\d))(?:\{{(?P<bottom>\d+)\}}|(?P<last>\d))
            | (?P<over>\d+)/(?P<under>\d+)
        )
        | (?P<decimal>{_DECIMAL})
        (?:[eE](?P<e>[+-]?\d{{1,4}})|(?:\\times|\\cdot|\*|×)10\^(?:\{{(?P<power>[+-]?\d{{1,4}})\}}|(?P<small>\d)))?
    )
    (?P<percent>\\?%|percent|\\text\{{percent\}})?
    """,
    re.VERBOSE,
)


@dataclass(frozen=True, slots=True)
class Number:
    """A number and how it was written.

    Attributes:
        value: Of what stands before the percent sign, if there is one.
        digits: Digits behind the point; None for a fraction.
    """

    value: Fraction
    digits: int | None
    is_percent: bool

    @property
    def real(self) -> Fraction:
        """The number that is meant."""
        return self.value / 100 if self.is_percent else self.value


def read_number(text: str) -> Number | None:
    """The number that a normalized answer is; None for anything else, such as `1/0`."""
    match = _NUMBER.fullmatch(text) if len(text) <= _MAX_CHARS else None
    if match is None:
        return None
    digits: int | None = None
    if match["decimal"]:
        plain = match["decimal"].replace(",", "")
        exponent = int(match["e"] or match["power"] or match["small"] or 0)
        if abs(exponent) > _MAX_EXPONENT:
            return None
        digits = max(0, len(plain.partition(".")[2]) - exponent)
        value = Fraction(plain.rstrip(".")) * Fraction(10) ** exponent
    else:
        top = match["top"] or match["digit"] or match["over"]
        bottom = int(match["bottom"] or match["last"] or match["under"])
        if bottom == 0:
            return None
        value = int(match["whole"] or 0) + Fraction(int(top), bottom)
    return Number(-value if match["sign"] == "-" else value, digits, bool(match["percent"]))


def same_number(left: Number, right: Number) -> bool:
    """Whether two numbers are one.

    50% is 0.5, and by custom also the answer 50. A decimal stands for a fraction that has none
    when it is that fraction rounded.
    """
    if left.is_percent != right.is_percent:
        percent, other = (left, right) if left.is_percent else (right, left)
        return _is_close(percent, other, percent.real, other.value) or _is_close(
            percent, other, percent.value, other.value
        )
    return _is_close(left, right, left.value, right.value)


def _is_close(left: Number, right: Number, left_value: Fraction, right_value: Fraction) -> bool:
    if left_value == right_value:
        return True
    if (left.digits is None) == (right.digits is None):
        return False
    decimal, fraction = (left_value, right_value)
    digits = left.digits
    if digits is None:
        decimal, fraction, digits = right_value, left_value, right.digits or 0
    if left.is_percent != right.is_percent and decimal == left_value:
        digits += 2 * (left.is_percent and left_value != left.value)
    num_significant = len(str(abs(round(decimal * 10**digits))))
    is_periodic = fraction.denominator != 1 and not _is_finite(fraction)
    return (
        is_periodic
        and num_significant >= _MIN_ROUNDED_DIGITS
        and abs(fraction - decimal) * 2 <= Fraction(1, 10**digits)
    )


def _is_finite(fraction: Fraction) -> bool:
    """Whether the fraction has a finite decimal."""
    rest = fraction.denominator
    for prime in (2, 5):
        while rest % prime == 0:
            rest //= prime
    return rest == 1
