"""Finds the final answer in the text of a branch."""

_BOXES = ("\\boxed", "\\fbox")
_HASHES = "####"
_MAX_BOX_CHARS = 2000
"""Bounds the scan, so that a text of many cut boxes costs linear time."""


def extract_answer(text: str) -> str | None:
    """Return the final answer, or None when the text names none.

    The last `\\boxed{...}` whose braces balance wins, else what follows the last `####` on its
    line. A box that was cut off in the middle is skipped. The result is stripped, never empty.
    """
    end = len(text)
    while (start := max(text.rfind(box, 0, end) for box in _BOXES)) >= 0:
        if answer := _braced(text, text.find("{", start)):
            return answer
        end = start
    _, found, tail = text.rpartition(_HASHES)
    if not found:
        return None
    line = tail.strip().split("\n", 1)[0].strip()
    return line or None


def _braced(text: str, opening: int) -> str | None:
    """Content of the brace pair that opens at `opening`; None when it never closes."""
    if opening < 0:
        return None
    depth = 0
    for position in range(opening, min(len(text), opening + _MAX_BOX_CHARS)):
        character = text[position]
        if character == "\\" or (position and text[position - 1] == "\\"):
            # `\{` and `\}` are printed braces, not grouping.
            continue
        if character == "{":
            depth += 1
        elif character == "}":
            depth -= 1
            if depth == 0:
                return text[opening + 1 : position].strip()
    return None
