"""Summaries of measurements: percentiles of latencies and accuracy against branches."""

from collections.abc import Sequence

import numpy as np

from scheduler.core.stopping import plurality


def percentile(values: Sequence[float], percent: float) -> float | None:
    """Linearly interpolated percentile (0 to 100) of the values; None when there are none.

    Raises:
        ValueError: `percent` is not within 0 and 100.
    """
    if not 0 <= percent <= 100:
        raise ValueError(f"percent must be within 0 and 100, got {percent}")
    return float(np.percentile(values, percent)) if len(values) else None


def slo_attainment(met_deadline: Sequence[bool]) -> float | None:
    """Fraction of jobs that met their deadline; None without jobs."""
    return sum(met_deadline) / len(met_deadline) if met_deadline else None


def maj_at_n(
    problems: Sequence[tuple[Sequence[int | None], int | None]], num_branches: int
) -> float | None:
    """Accuracy of the plurality over the first `num_branches` branches of each problem.

    Args:
        problems: Per problem the vote classes of its branches in finish order (None without an
            answer) and the class that is right, None when no branch found it.
        num_branches: Branches that vote, at least 1.

    Returns:
        Fraction of problems whose plurality is right, a problem without votes counting as wrong;
        None without problems.

    Raises:
        ValueError: `num_branches` is less than 1.
    """
    if num_branches < 1:
        raise ValueError(f"num_branches must be at least 1, got {num_branches}")
    if not problems:
        return None
    votes = ((plurality(classes[:num_branches]), right) for classes, right in problems)
    right = sum(v is not None and v.vote_class == right for v, right in votes)
    return right / len(problems)
