"""Recorded branches of a problem: what answer profiles are learned from."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

NEAR_CAP = 0.95
NEAR_CAP_TOKENS = 20


@dataclass(frozen=True, slots=True)
class RecordedProblem:
    """Branches of one problem.

    Attributes:
        classes: Vote class of each branch, None without an answer. Equal numbers are equal answers;
            0 is the right one when `is_labeled`.
        tokens: Completion tokens of each branch, positive.
        finished: Whether each branch stopped by itself; empty when all did. Any other was cut, by a
            cap or an abort: it would have run for more than its tokens, and its vote does not
            count.
        is_labeled: Whether it is known which class is right.
    """

    classes: tuple[int | None, ...]
    tokens: tuple[int, ...]
    finished: tuple[bool, ...] = ()
    is_labeled: bool = True

    def __post_init__(self) -> None:
        if len(self.classes) != len(self.tokens) or not self.tokens:
            raise ValueError("a recorded problem needs as many classes as token counts, at least 1")
        if self.finished and len(self.finished) != len(self.tokens):
            raise ValueError("finished must be empty or as long as tokens")
        if min(self.tokens) < 1:
            raise ValueError("a recorded branch needs at least 1 token: drop failed requests")

    @property
    def is_cut(self) -> tuple[bool, ...]:
        """Whether each branch was cut."""
        return tuple(not f for f in self.finished) or (False,) * len(self.tokens)

    @property
    def votes(self) -> tuple[int | None, ...]:
        """Vote class of each branch, None without an answer or when cut."""
        if not self.finished:
            return self.classes
        return tuple(c if f else None for c, f in zip(self.classes, self.finished, strict=True))


def mark_cut(recordings: Sequence[RecordedProblem]) -> list[RecordedProblem]:
    """Find the cap that recordings of one model on one data set were made with, and mark its cuts.

    Recordings do not say which branches were cut. Branches pile up at a cap: more of them ran for
    exactly the largest token count than for all counts within 5%, at least 20 tokens, below it
    together. Without such a pile, all branches count as finished.
    """
    counts = Counter(tokens for record in recordings for tokens in record.tokens)
    cap = max(counts, default=0)
    near_from = min(NEAR_CAP * cap, cap - NEAR_CAP_TOKENS)
    near = sum(n for tokens, n in counts.items() if near_from <= tokens < cap)
    if counts[cap] < 2 or counts[cap] <= near:
        return list(recordings)
    return [replace(r, finished=tuple(tokens < cap for tokens in r.tokens)) for r in recordings]
