r"""Other spellings of an answer, and answers that differ from it, made by rules.

Rules look at how the answer is written (a number, a fraction, a tuple, an interval, a list of
values, a word, degrees, money, ...), and not at what the grader thinks of it.
"""

import re
from collections.abc import Iterator
from fractions import Fraction

_NUMBER = re.compile(r"-?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?|-?\.\d+")
_FRACTION = re.compile(r"(-?)\\[dt]?frac\s*(?:\{(\d+)\}|(\d))\s*(?:\{(\d+)\}|(\d))")
_BRACKETED = re.compile(r"(?:\\left)?\s*([(\[])(.*?)(?:\\right)?\s*([)\]])", re.DOTALL)
_WORD = re.compile(r"\\text\{\(?(\w+)\)?\}")
_DEGREES = re.compile(r"(-?\d+)\^\\circ")
_UNIT = re.compile(r"([\d.]+)\s*\\(?:mbox|text)\{\s*(\w+)\}(\^2)?")
_MONEY = re.compile(r"\\\$([\d.,]+)")
_ROOT = re.compile(r"(\d*)\s*\\sqrt\{?(\d+)\}?")
_SUM = re.compile(r"[\w^ ]+(?: ?[+-] ?[\w^ ]+)+")


def same_as(answer: str) -> Iterator[tuple[str, str]]:
    """Rules and spellings that mean the same."""
    plain = answer.replace(",\\!", ",").replace("{,}", ",").replace(" ", "")
    yield "dollars", f"${answer}$"
    yield "boxed", f"\\boxed{{{answer}}}"
    yield "spaces", f" {answer} "
    yield "full stop", f"{answer}."
    yield "displaystyle", f"\\displaystyle {answer}"
    yield from _in_text(answer)
    if "\\frac" in answer:
        yield "dfrac", answer.replace("\\frac", "\\dfrac")
        yield "tfrac", answer.replace("\\frac", "\\tfrac")
    if _NUMBER.fullmatch(plain):
        yield from _numbers(Fraction(plain.replace(",", "")), plain)
    elif match := _FRACTION.fullmatch(answer):
        yield from _fractions(match)
    elif match := _BRACKETED.fullmatch(answer):
        opening, inside, closing = match.groups()
        yield "left right", f"\\left{opening}{inside}\\right{closing}"
        yield "no left right", f"{opening}{inside}{closing}"
        yield "no spaces", f"{opening}{inside.strip()}{closing}".replace(", ", ",")
        if "\\infty" in inside or opening == "[" or closing == "]":
            yield "x in", f"x \\in {answer}"
            yield "plus infinity", answer.replace("\\infty", "+\\infty").replace("-+", "-")
        if "frac" in inside:
            yield "slash inside", _FRACTION.sub(_slash, answer)
    elif match := _WORD.fullmatch(answer):
        word = match[1]
        yield "bare word", word
        yield "mathrm", f"\\mathrm{{{word}}}"
        yield "textbf", f"\\textbf{{{word}}}"
        yield "spaced word", f"\\text{{ {word} }}"
        yield "capitals", word.upper()
        if len(word) == 1:
            yield "parenthesized", f"({word})"
            yield "textbf parenthesized", f"\\textbf{{({word})}}"
    elif match := _DEGREES.fullmatch(answer):
        for rule, unit in (
            ("no degrees", ""), ("braced degrees", "^{\\circ}"), ("degree sign", "°"),
            ("degrees", " degrees"), ("degrees as text", "\\text{ degrees}"),
        ):  # fmt: skip
            yield rule, match[1] + unit
    elif match := _UNIT.fullmatch(answer):
        number, unit, square = match.groups()
        yield "no unit", number
        yield "unit as text", f"{number}\\text{{ {unit}}}{square or ''}"
        yield "unit as mathrm", f"{number} \\mathrm{{ {unit}}}{square or ''}"
        if square is None:
            yield "bare unit", f"{number} {unit}"
    elif match := _MONEY.fullmatch(answer.replace("\\!", "")):
        yield "bare money", match[1].replace(",", "")
        yield "dollar words", f"{match[1]} dollars"
        yield "dollar sign", f"${match[1]}"
    elif match := _ROOT.fullmatch(answer):
        factor, inside = int(match[1] or 1), int(match[2])
        yield "under the root", f"\\sqrt{{{factor**2 * inside}}}"
        yield "cdot", f"{factor} \\cdot \\sqrt{{{inside}}}"
        yield "power of a half", f"{factor} \\cdot {inside}^{{1/2}}"
        yield "plain sqrt", f"{factor}*sqrt({inside})"
        yield "braced root", f"{match[1]}\\sqrt{{{inside}}}"
    elif "\\pm" in answer and answer.count("\\pm") == 1 and "{" not in answer.split("\\pm")[0]:
        plus, minus = (answer.replace("\\pm", sign) for sign in "+-")
        yield "plus and minus", f"{plus}, {minus}"
    elif re.fullmatch(r"-?\w+(?:, ?-?\w+)+", answer):
        values = [value.strip() for value in answer.split(",")]
        yield "other order", ", ".join(reversed(values))
        yield "braces", f"\\{{{', '.join(values)}\\}}"
        yield "and", f"{', '.join(values[:-1])} and {values[-1]}"
    elif match := re.fullmatch(r"(\w+)_\{?(\d)\}?", answer):
        yield "braced base", f"{match[1]}_{{{match[2]}}}"
        yield "bare base", f"{match[1]}_{match[2]}"
    elif match := re.fullmatch(r"([a-z]) ?= ?(.+)", answer):
        yield "other side", f"{match[2]} = {match[1]}"
        yield "right side", match[2]
    elif _SUM.fullmatch(answer):
        yield "other order", _reversed_sum(answer)
        yield "parenthesized", f"({answer})"


def _in_text(answer: str) -> Iterator[tuple[str, str]]:
    """As chat models and people set an answer."""
    yield "parentheses", f"\\({answer}\\)"
    yield "brackets", f"\\[{answer}\\]"
    yield "double dollars", f"$${answer}$$"
    yield "markdown", f"**{answer}**"
    yield "markdown math", f"**${answer}$**"
    yield "answer colon", f"Answer: {answer}"
    yield "bold answer", f"**Answer:** ${answer}$"
    yield "the answer is", f"The answer is {answer}."
    yield "boxed math", f"$\\boxed{{{answer}}}$"
    yield "quad", f"{answer}\\quad"
    yield "tilde", f"~{answer}"
    if answer.startswith("-"):
        yield "unicode minus", answer.replace("-", "\N{MINUS SIGN}", 1)
    if "frac" in answer:
        yield "spaced frac", answer.replace("}{", "} {").replace("frac{", "frac {")


def different_from(answer: str) -> Iterator[tuple[str, str]]:
    """Rules and answers that do not mean the same."""
    plain = answer.replace(",\\!", ",").replace("{,}", ",").replace(" ", "")
    if _NUMBER.fullmatch(plain):
        value = Fraction(plain.replace(",", ""))
        yield "off by one", _shown(value + 1)
        yield "off by half", _shown(value + Fraction(1, 2))
        yield "ten times", _shown(value * 10) if value else "10"
        yield "range", f"{plain} to {_shown(value + 1)}"
        yield "either", f"{plain} or {_shown(value + 1)}"
        yield "inequality", f"x > {plain}"
        yield "magnitude", f"{plain} thousand"
        yield "imaginary", f"{plain}i"
        yield "variable", f"{plain}x"
        yield "base", f"{plain}_{{7}}"
        yield "off by a little", f"{_shown(value)}.01" if value.denominator == 1 else "0"
        if value:
            yield "sign", _shown(-value)
        if abs(value) not in (0, 1):
            yield "reciprocal", f"\\frac{{{value.denominator}}}{{{value.numerator}}}"
    elif match := _FRACTION.fullmatch(answer):
        value = _value(match)
        yield "off by one", _latex(value + 1)
        yield "sign", _latex(-value)
        yield "reciprocal", _latex(1 / value)
        yield "denominator", f"\\frac{{{value.numerator}}}{{{value.denominator + 1}}}"
        if 100 % value.denominator:
            yield "rounded hard", f"{float(value):.2f}"
    elif match := _BRACKETED.fullmatch(answer):
        opening, inside, closing = match.groups()
        parts = [part.strip() for part in inside.split(",")]
        if len(set(parts)) > 1:
            yield "swapped", f"{opening}{', '.join(reversed(parts))}{closing}"
        if "\\infty" not in parts[0]:
            first = ", ".join([f"{parts[0]}+1", *parts[1:]])
            yield "first off by one", f"{opening}{first}{closing}"
        if "\\infty" in inside or opening == "[" or closing == "]":
            if "\\infty" not in parts[0]:
                yield "other bracket", f"{'[' if opening == '(' else '('}{inside}{closing}"
        else:
            yield "one more", f"{opening}{inside}, 1{closing}"
    elif match := _WORD.fullmatch(answer):
        yield "other word", "\\text{other}" if len(match[1]) > 1 else "\\text{(A)}"
        yield "negated word", f"not {match[1]}"
    elif re.fullmatch(r"-?\w+(?:, ?-?\w+)+", answer):
        yield "one less", answer.rsplit(",", 1)[0]
        yield "one more", f"{answer}, 1000"
    elif match := re.fullmatch(r"(\w+)_\{?(\d)\}?", answer):
        yield "other base", f"{match[1]}_{{{(int(match[2]) % 9) + 1}}}"
        yield "off by one", f"{int(match[1]) + 1}_{{{match[2]}}}"
    elif not re.search(r"=|\\begin|\\cup|,|\\text|\\mbox|\\\$|\\circ", answer):
        yield "off by one", f"{answer} + 1"
        yield "sign", f"-({answer})"
        yield "reciprocal", f"\\frac{{1}}{{{answer}}}"
    elif match := _DEGREES.fullmatch(answer):
        yield "off by one", f"{int(match[1]) + 1}^\\circ"
        yield "sign", f"-{answer}"


def _numbers(value: Fraction, plain: str) -> Iterator[tuple[str, str]]:
    top, bottom = value.numerator, value.denominator
    yield "trailing zeros", f"{plain}00" if "." in plain else f"{plain}.00"
    yield "units", f"{plain} \\text{{ units}}"
    yield "bare unit", f"{plain} dollars"
    yield "money", f"\\${plain}"
    yield "bold", f"\\mathbf{{{plain}}}"
    yield "text", f"\\text{{{plain}}}"
    yield "frac", f"\\frac{{{2 * top}}}{{{2 * bottom}}}"
    yield "slash", f"{2 * top}/{2 * bottom}"
    yield "assigned", f"x = {plain}"
    yield "percent", f"{_shown(value * 100)}\\%"
    if abs(value) >= 1000:
        with_commas = f"{int(value):,}" if bottom == 1 else plain
        yield "thousands", with_commas
        yield "braced thousands", with_commas.replace(",", "{,}")
        yield "thin spaces", with_commas.replace(",", "\\,")
        yield "no thousands", plain.replace(",", "")


def _fractions(match: re.Match[str]) -> Iterator[tuple[str, str]]:
    value = _value(match)
    top, bottom = value.numerator, value.denominator
    yield "slash", f"{top}/{bottom}"
    yield "parenthesized", f"\\left(\\frac{{{top}}}{{{bottom}}}\\right)"
    yield "not reduced", f"\\frac{{{3 * top}}}{{{3 * bottom}}}"
    yield "braces", f"\\frac{{{top}}}{{{bottom}}}"
    if top < 0:
        yield "sign in front", f"-\\frac{{{-top}}}{{{bottom}}}"
    if 10**12 % bottom == 0:
        yield "decimal", _shown(value)
        yield "percent", f"{_shown(value * 100)}\\%"
    else:
        yield "rounded decimal", f"{float(value):.8f}"
    if top > bottom:
        yield "mixed", f"{top // bottom}\\frac{{{top % bottom}}}{{{bottom}}}"
        yield "plain mixed", f"{top // bottom} {top % bottom}/{bottom}"
    if 0 < top < 10 and bottom < 10:
        yield "no braces", f"\\frac{top}{bottom}"


def _value(match: re.Match[str]) -> Fraction:
    sign, *parts = match.groups()
    top, bottom = (int(part) for part in parts if part is not None)
    return Fraction(-top if sign else top, bottom)


def _slash(match: re.Match[str]) -> str:
    value = _value(match)
    return f"{value.numerator}/{value.denominator}"


def _latex(value: Fraction) -> str:
    sign = "-" if value < 0 else ""
    return f"{sign}\\frac{{{abs(value.numerator)}}}{{{value.denominator}}}"


def _shown(value: Fraction) -> str:
    """A fraction with a finite decimal, in decimals."""
    if value.denominator == 1:
        return str(value.numerator)
    return f"{float(value):.12f}".rstrip("0")


def _reversed_sum(answer: str) -> str:
    terms = re.findall(r"[+-]?[^+-]+", answer.replace(" ", ""))
    parts = [term if term[0] in "+-" else f"+{term}" for term in reversed(terms)]
    return "".join(parts).removeprefix("+")
