"""How answers are graded: the method of a job or a problem, and what a grade can be."""

from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any, Self

MAX_PATTERN_BYTES = 1 << 22
"""Memory that a compiled pattern may take: the same where patterns are checked and where they are
matched, so that what was accepted can be graded."""


class Grade(StrEnum):
    """Verdict on one answer."""

    RIGHT = "right"
    WRONG = "wrong"
    UNGRADABLE = "ungradable"


class GradingMethod(StrEnum):
    """What makes an answer right."""

    EQUIVALENCE = "equivalence"
    NUMERIC = "numeric"
    CHOICE = "choice"
    EXACT = "exact"
    REGEX = "regex"


@dataclass(frozen=True, slots=True)
class Grading:
    """A method with its options; each method reads its own.

    Attributes:
        absolute, relative: Of `numeric`: a number is right when it is off by no more than the
            larger of `absolute` and `relative` times the size of the reference.
        choices: Of `choice`: the letters to choose from.
        ignore_case, ignore_space: Of `exact`.
        pattern: Of `regex`: has to match the whole answer; None when references are patterns.
    """

    method: GradingMethod = GradingMethod.EQUIVALENCE
    absolute: float = 0.0
    relative: float = 0.0
    choices: str = "ABCDE"
    ignore_case: bool = False
    ignore_space: bool = False
    pattern: str | None = None

    @classmethod
    def from_dict(cls, stored: dict[str, Any]) -> Self:
        """What `to_dict` made."""
        return cls(**(stored | {"method": GradingMethod(stored["method"])}))

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON."""
        return asdict(self) | {"method": self.method.value}

    @property
    def needs_reference(self) -> bool:
        """Whether an answer is compared with another one."""
        return self.pattern is None


BY_EQUIVALENCE = Grading()
"""What a job does that says nothing."""
