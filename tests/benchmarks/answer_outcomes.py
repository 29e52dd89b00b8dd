"""What a majority vote gives at several widths and caps: replayed from branches, or forecast."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from scheduler.core.accuracy import AnswerProfile
from scheduler.core.capped import capped
from scheduler.core.latency import FloatArray
from scheduler.core.plan import Width
from scheduler.core.recorded import RecordedProblem

WIDTHS = (1, 2, 4, 8, 16, 32)
DRAWS = 24
"""Random draws of branches per problem and width."""


@dataclass(frozen=True)
class Outcomes:
    """What happened, or is forecast, at every width and cap.

    Attributes:
        accuracy: P(plurality of the branches within the cap is right); (..., widths, caps).
        finished: Share of branches that end within the cap; (..., caps).
        duration: Tokens until the vote is decided or the cap; (..., widths, caps).
        work: Row-tokens held until then; (..., widths, caps).
    """

    accuracy: FloatArray
    finished: FloatArray
    duration: FloatArray
    work: FloatArray

    @property
    def arrays(self) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
        """The four quantities."""
        return self.accuracy, self.finished, self.duration, self.work

    def of(self, problems: NDArray[np.int64]) -> "Outcomes":
        """Means over some problems, the first axis."""
        return Outcomes(*(values[problems].mean(axis=0) for values in self.arrays))

    def errors(self, truth: "Outcomes") -> list[FloatArray]:
        """In points and percent."""
        return [
            100.0 * (self.accuracy - truth.accuracy),
            100.0 * (self.finished - truth.finished),
            100.0 * (self.duration / truth.duration - 1.0),
            100.0 * (self.work / truth.work - 1.0),
        ]


def replay(record: RecordedProblem, caps: FloatArray, rng: np.random.Generator) -> Outcomes:
    """Outcomes of one problem over random draws of its branches; caps lie below where it was cut.

    Independent of the product: votes are counted branch by branch, in the order of their ends.
    """
    tokens = np.asarray(record.tokens, dtype=np.float64)
    names = sorted({0, *(c for c in record.votes if c is not None)})
    votes = np.array([[c == name for name in names] for c in record.votes], dtype=np.int16)
    accuracy, duration, work = (np.zeros((len(WIDTHS), len(caps))) for _ in range(3))
    rows = np.arange(DRAWS)
    for row, width in enumerate(WIDTHS):
        drawn = rng.random((DRAWS, len(tokens))).argsort(axis=1)[:, :width]
        drawn = np.take_along_axis(drawn, tokens[drawn].argsort(axis=1, kind="stable"), axis=1)
        ends = tokens[drawn]  # (draws, branches), by time
        counts = votes[drawn].cumsum(axis=1)  # (draws, branches, classes)
        steps = np.arange(ends.shape[1])
        # Of equally popular answers the one that came first wins, also against one still to come.
        first = np.where(counts > 0, steps[:, None], np.inf).min(axis=1, keepdims=True)
        ranked = np.where(counts > 0, counts + 0.5 - first / 1000.0, 0.0)
        leader = ranked.argmax(axis=2)
        behind = np.sort(ranked, axis=2)
        lead = behind[..., -1] - (behind[..., -2] if len(names) > 1 else 0.0)
        running = len(steps) - 1 - steps
        is_decided = (lead > running) | (running == 0)
        decided_at = ends[rows, is_decided.argmax(axis=1)]
        for column, cap in enumerate(caps):
            num_ended = (ends <= cap).sum(axis=1)
            last = np.maximum(num_ended - 1, 0)
            voted = (num_ended > 0) & (counts[rows, last].max(axis=1) > 0)
            accuracy[row, column] = (voted & (leader[rows, last] == names.index(0))).mean()
            lasted = np.minimum(decided_at, cap)
            duration[row, column] = lasted.mean()
            work[row, column] = np.minimum(ends, lasted[:, None]).sum(axis=1).mean()
    finished = ((tokens[:, None] <= caps) & ~np.array(record.is_cut)[:, None]).mean(axis=0)
    return Outcomes(accuracy, finished, duration, work)


def forecast(profile: AnswerProfile, caps: FloatArray) -> Outcomes:
    """What the profile says."""
    table = capped(profile, tuple(map(Width, WIDTHS)), tuple(caps.tolist()))
    return Outcomes(
        profile.accuracy_grid(WIDTHS, caps),
        profile.finished_share(caps),
        table.duration,
        table.work,
    )
