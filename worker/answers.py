"""Finds the final answer in the text of a branch."""

import re
from collections import deque

from scheduler.core.branch_options import AnswerFormat

_BOX = re.compile(r"\\(?:boxed|fbox)")
_BRACE = re.compile(r"(?<!\\)[{}]")
"""One that groups; `\\{` and `\\}` are printed."""
_HASHES = "####"
_MAX_BOX_CHARS = 2000
"""What is longer is no answer."""
_MAX_STATED_CHARS = 200

_STATED = re.compile(r"\banswer(?:\s+is\b|\s*[:=])[\s:=*]*", re.IGNORECASE)
"""What stands before an answer in a sentence, such as `The answer is` or `**Answer:**`."""
_NUMBER = re.compile(
    r"(?:(?<![\w.)\]}])[-+−])?\$?(?:\d{1,3}(?:,\d{3}){1,20}(?![\d,])|\d+)(?:\.\d+)?(?:/\d+)?"
    r"|(?<![\w.])[-+−]?\$?\.\d+"
)
_CHOICE = re.compile(r"\(?([A-Ja-j])\)?(?=$|[\s.,:;)*])")
_CHOICE_LINE = re.compile(r"[\s*]*(?:\(([A-Ja-j])\)|([A-J])(?:[.):]|[\s*]*$))")


def extract_answer(text: str, answer_format: AnswerFormat = AnswerFormat.AUTO) -> str | None:
    """Return the final answer, or None when the text names none.

    - `boxed`: the last `\\boxed{...}` whose braces balance; one that was cut off is skipped.
    - `hashes`: what follows the last `####` on its line.
    - `choice`: a letter from A to J that is boxed, stated (`The answer is (B)`), or at the start
      of the last line that has one; as a capital.
    - `number`: the number that is boxed, hashed or stated last, else the last number of the text,
      without thousands separators and currency.
    - `auto`: boxed, else hashes, else what the text last states to be the answer.

    The result is stripped, never empty.
    """
    return _EXTRACTORS[answer_format](text)


def _auto(text: str) -> str | None:
    return _boxed(text) or _hashes(text) or _stated(text)


def _boxed(text: str) -> str | None:
    boxes = [match.start() for match in _BOX.finditer(text)]
    if not boxes:
        return None
    closings = _closings(text)
    opening, end = -1, len(text)
    # Each stretch of the text is looked at once, however many boxes were cut.
    for start in reversed(boxes):
        found = text.find("{", start, end)
        opening, end = found if found >= 0 else opening, start
        closing = closings.get(opening)
        if closing is not None and closing - opening < _MAX_BOX_CHARS:
            answer = text[opening + 1 : closing].strip()
            if answer:
                return answer
    return None


def _closings(text: str) -> dict[int, int]:
    """Where the brace closes that opens at each position, of those that close."""
    closings: dict[int, int] = {}
    opened: list[int] = []
    for brace in _BRACE.finditer(text):
        if brace.group() == "{":
            opened.append(brace.start())
        elif opened:
            closings[opened.pop()] = brace.start()
    return closings


def _hashes(text: str) -> str | None:
    _, found, tail = text.rpartition(_HASHES)
    return tail.strip().split("\n", 1)[0].strip() or None if found else None


def _stated(text: str) -> str | None:
    """What is stated to be the answer; of a number with its unit the number."""
    stated = _last_statement(text)
    if stated is None:
        return None
    bare = stated.lstrip("$(*")
    number = _NUMBER.match(bare)
    if number is None:
        return stated
    after = bare[number.end() :]
    rest = after.strip(" .,;*)$")
    # `5 apples` is a number, `5x + 1` and `5 + x` are more.
    is_number = not rest or (after[0].isspace() and rest[0].isalpha())
    return _plain(number.group()) if is_number else stated


def _choice(text: str) -> str | None:
    for found in (_boxed(text), _last_statement(text)):
        if found is not None:
            letter = found.removeprefix("\\text{").removeprefix("option ").strip("*$")
            if (match := _CHOICE.match(letter.removesuffix("}"))) is not None:
                return match[1].upper()
    for line in reversed(text.splitlines()):
        if (match := _CHOICE_LINE.match(line)) is not None:
            return (match[1] or match[2]).upper()
    return None


def _number(text: str) -> str | None:
    for found in (_boxed(text), _hashes(text), _last_statement(text)):
        if found is not None and (match := _NUMBER.search(found)) is not None:
            return _plain(match.group())
    last = _last(_NUMBER, text)
    return None if last is None else _plain(last.group())


def _last(pattern: re.Pattern[str], text: str) -> re.Match[str] | None:
    found = deque(pattern.finditer(text), maxlen=1)
    return found[0] if found else None


def _last_statement(text: str) -> str | None:
    """What follows the last `answer is` or `answer:` up to the end of its sentence."""
    last = _last(_STATED, text)
    if last is None:
        return None
    line = text[last.end() : last.end() + _MAX_STATED_CHARS].split("\n", 1)[0]
    sentence = re.split(r"[.;!?](?:\s|$)", line, maxsplit=1)[0]
    return sentence.strip().strip("*").strip() or None


def _plain(number: str) -> str:
    """The number without separators, currency and signs that say nothing."""
    return number.replace(",", "").replace("$", "").replace("−", "-").lstrip("+")


_EXTRACTORS = {
    AnswerFormat.AUTO: _auto,
    AnswerFormat.BOXED: _boxed,
    AnswerFormat.HASHES: _hashes,
    AnswerFormat.CHOICE: _choice,
    AnswerFormat.NUMBER: _number,
}
