"""Fixed majority voting over recorded branches, without a clock."""

from collections.abc import Sequence

import numpy as np

from scheduler.core.fit_answers import RecordedProblem
from scheduler.core.latency import FloatArray
from scheduler.core.stopping import plurality

WIDTHS = (*range(1, 17), 20, 24, 32, 48, 64)


def majority_curve(problems: Sequence[RecordedProblem]) -> tuple[FloatArray, FloatArray]:
    """Accuracy and tokens per problem of fixed majority voting, over `WIDTHS`.

    Each problem is answered by its first branches, as in a simulation, and all of them end.
    """
    right, spent = np.zeros((2, len(WIDTHS)))
    for problem in problems:
        for column, width in enumerate(WIDTHS):
            drawn = sorted(range(min(width, len(problem.tokens))), key=problem.tokens.__getitem__)
            vote = plurality([problem.classes[i] for i in drawn])
            right[column] += vote is not None and vote.vote_class == 0
            spent[column] += sum(problem.tokens[i] for i in drawn)
    return right / len(problems), spent / len(problems)
