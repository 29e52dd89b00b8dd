r"""Compares answers by how they are written, as far as that goes without algebra.

Spellings that never change a meaning are brought to one form: spacing, sizing, what a whole answer
is wrapped in (`$...$`, `\text{...}`, `**...**`), a final period, a word's case, the zeros and
separators of a number. Two answers that are both numbers are settled here, exactly.
"""

import re
from fractions import Fraction
from functools import lru_cache

from worker.comparison import Finding, Pair
from worker.numbers import read_number, same_number

MAX_ANSWER_CHARS = 400
"""A longer answer is compared as a string only; the longest of MATH-500 has 53."""

_PLAIN_NUMBER = re.compile(
    r"(?P<sign>[+-]?)(?P<whole>\d{1,3}(?:,\d{3})+|\d{1,3}(?: \d{3})+|\d+)?(?:\.(?P<fraction>\d*))?"
)
_SPACE_BETWEEN_DIGITS = re.compile(r"(?<=\d)\s+(?=\d)")
_OTHER_SPACE = re.compile(r"(?<!\d)\s+|\s+(?!\d)")
_LISTED = re.compile(r"\d,\s+\d")
_NEGATIVE_SPACE = re.compile(r"\\!\s*")
_WRAPPERS = ("\\text", "\\textbf", "\\textit", "\\mathbf", "\\mathrm", "\\mbox", "\\boxed")
_NOISE = (
    ("\\left", ""),
    ("\\right", ""),
    ("{,}", ","),
    ("\\,", ""),
    ("\\;", ""),
    ("\\ ", ""),
    ("dfrac", "frac"),
    ("tfrac", "frac"),
    ("\\displaystyle", ""),
)
_WITH_WORDS = re.compile(
    r"(?P<number>.*?[\d}])(?:\s+|\s*\\(?:text|mbox|mathrm)\{\s*)(?P<words>[A-Za-z][A-Za-z ]*)\}?"
)
_SHORT_UNITS = frozenset(["cm", "ft", "hr", "in", "kg", "km", "lb", "mg", "mi", "ml", "mm", "oz"])
_NO_UNITS = frozenset([
    "and", "cos", "cubed", "dozen", "factorial", "half", "infinity", "log", "minus", "mod", "or",
    "over", "percent", "plus", "sin", "sqrt", "squared", "tan", "times", "hundred", "thousand",
    "million", "billion", "trillion", "hundreds", "thousands", "millions", "billions", "trillions",
])  # fmt: skip
_ASSIGNMENT = re.compile(r"[A-Za-z]=([^=]*)")
_RANGE = re.compile(r"-?[\d.,]+to-?[\d.,]+")
_BASED = re.compile(r"(-?\d+(?:\.\d+)?)_(?:\{(\d{1,2})\}|(\d))")


def tidy(answer: str) -> str:
    """Take off what an answer is wrapped in, keeping what a reader of LaTeX needs."""
    text = answer.strip().lstrip("~").replace("°", "^\\circ").replace("\\$", "$")
    text = text.replace("\N{MINUS SIGN}", "-")
    text = _NEGATIVE_SPACE.sub("", text).removesuffix(".").removesuffix("\\quad").rstrip()
    while (inner := _unwrapped(text)) is not None:
        text = inner.strip()
    return text


def _unwrapped(text: str) -> str | None:
    """What stands in the one wrapper that holds the whole text; None when there is none."""
    if len(text) > 4 and text.startswith("**") and text.endswith("**") and "**" not in text[2:-2]:
        return text[2:-2]
    if len(text) > 2 and text[0] == text[-1] == "$" and "$" not in text[1:-1]:
        return text[1:-1]
    if text.startswith("\\(") and text.endswith("\\)") and "\\(" not in text[2:]:
        return text[2:-2]
    command, brace, rest = text.partition("{")
    if (
        brace
        and command.rstrip() in _WRAPPERS
        and rest.find("{") < 0
        and rest.find("}") == len(rest) - 1
    ):
        return rest[:-1]
    return None


def normalize(answer: str) -> str:
    """One spelling of answers that differ in nothing but their form.

    A plain integer or decimal has no leading or trailing zeros, no thousands separators, no plus.
    """
    return _cached(answer) if len(answer) <= MAX_ANSWER_CHARS else _normalized(answer)


def _normalized(answer: str) -> str:
    text = tidy(answer)
    is_list = _LISTED.search(text) is not None
    for noise, replacement in _NOISE:
        text = text.replace(noise, replacement)
    text = text.replace("$", "")
    # A space between digits is that of a mixed number.
    text = _SPACE_BETWEEN_DIGITS.sub(" ", text)
    text = _OTHER_SPACE.sub("", text).rstrip(".")
    if len(text) > 2 and text.isalpha():
        # A word, where a capital means nothing; one letter is a variable or a choice.
        text = text.casefold()
    number = _plain_number(text)
    if number is not None and is_list:
        # The list 1, 234 and not 1,234.
        return text.replace(",", ", ")
    return number or text


_cached = lru_cache(maxsize=65536)(_normalized)


def _plain_number(text: str) -> str | None:
    match = _PLAIN_NUMBER.fullmatch(text)
    if match is None or not (match["whole"] or match["fraction"]):
        return None
    whole = (match["whole"] or "").replace(",", "").replace(" ", "").lstrip("0") or "0"
    fraction = (match["fraction"] or "").rstrip("0")
    number = f"{whole}.{fraction}" if fraction else whole
    return f"-{number}" if match["sign"] == "-" and number != "0" else number


def is_plain(answer: str) -> bool:
    """Whether the answer is a plain integer or decimal, which needs no process to compare."""
    return _plain_number(normalize(answer)) is not None


def quick_finding(pair: Pair) -> Finding | None:
    """Compare two answers in place; None when it takes algebra to tell."""
    left, right = normalize(pair.left), normalize(pair.right)
    if left == right and pair.tolerance is None:
        return Finding.SAME_TEXT
    if len(left) > MAX_ANSWER_CHARS or len(right) > MAX_ANSWER_CHARS:
        return Finding.TOO_LONG
    if pair.tolerance is None and (finding := _same_base(left, right)) is not None:
        return finding
    first, second = read_number(left), read_number(right)
    if (first and _RANGE.fullmatch(right)) or (second and _RANGE.fullmatch(left)):
        # Algebra would take `0 to 1` for a product.
        return Finding.DIFFERENT
    if first is None and second is not None:
        first = read_number(_bare(pair.left, left))
    elif second is None and first is not None:
        second = read_number(_bare(pair.right, right))
    if first is None or second is None:
        return None
    if pair.tolerance is None:
        return Finding.SAME_NUMBER if same_number(first, second) else Finding.DIFFERENT
    # By their shortest decimals: 10.3 is within 0.3 of 10, though the float 0.3 is a little less.
    absolute, relative = (Fraction(repr(part)) for part in pair.tolerance)
    limit = max(absolute, relative * abs(second.real))
    is_close = abs(first.real - second.real) <= limit
    return Finding.SAME_NUMBER if is_close else Finding.DIFFERENT


def _same_base(left: str, right: str) -> Finding | None:
    """Compare numbers of which the first has a base; algebra would read it as an index.

    A reference in a base may be answered without it, and not the other way.
    """
    based = _BASED.fullmatch(left)
    if based is None:
        return None
    other = _BASED.fullmatch(right)
    if other is None:
        return Finding.DIFFERENT if _plain_number(right) is not None else None
    is_same = based[1] == other[1] and (based[2] or based[3]) == (other[2] or other[3])
    return Finding.SAME_TEXT if is_same else Finding.DIFFERENT


def _bare(answer: str, normalized: str) -> str:
    """The number of an answer such as `x = 5` or `18 dollars`, beside one that is a number alone.

    Only then: with two units or two variables, what differs may be these.
    """
    if match := _ASSIGNMENT.fullmatch(normalized):
        return match[1]
    match = _WITH_WORDS.fullmatch(tidy(answer).rstrip("."))
    if match is None:
        return ""
    words = match["words"].split()
    if any(word.lower() in _NO_UNITS for word in words):
        return ""
    is_unit = len(words[0]) > 2 or words[0] in _SHORT_UNITS
    return normalize(match["number"]) if is_unit else ""
