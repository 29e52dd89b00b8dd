"""Many workers of one kind taken as one: their mean latency, and a rounded count."""

from collections.abc import Sequence
from dataclasses import fields, replace
from operator import attrgetter
from typing import Any

import numpy as np

from scheduler.core.latency import LatencyProfile

EXACT_WORKERS = 100
"""Up to this many workers of one kind are counted exactly in forecasts."""
LATENCY_DIGITS = 3
"""Digits of a mean latency that count: below what a fit can tell."""

_NUMBERS = tuple(field.name for field in fields(LatencyProfile) if field.type is float)
_SERIES = ("token_slopes_s", "acceptance", "acceptance_tries")
_numbers_of = attrgetter(*_NUMBERS)
_series_of = attrgetter("token_knots", *_SERIES)


def rounded_count(count: int) -> int:
    """The count itself when it is small, else rounded down to two digits."""
    if count <= EXACT_WORKERS:
        return count
    step = int(10 ** (len(str(count)) - 2))
    return count // step * step


def mean_latency(latencies: Sequence[LatencyProfile]) -> LatencyProfile:
    """The latencies themselves when all are equal, else their mean; of unlike forms the slowest.

    A mean of times errs to the slow side: the work done is the harmonic mean of the speeds. When
    it was measured is left out, or one worker measured anew would change the mean.
    """
    first = latencies[0]
    if all(latency is first or latency == first for latency in latencies):
        return first
    knots, *series = zip(*map(_series_of, latencies), strict=True)
    if len(set(knots)) > 1 or any(len(set(map(len, values))) > 1 for values in series):
        return max(latencies, key=lambda p: (float(p.tpot_s(1, 0, 0)), repr(p)))
    means: dict[str, Any] = dict(
        zip(_NUMBERS, _means(list(map(_numbers_of, latencies))), strict=True)
    )
    means |= zip(_SERIES, map(_means, series), strict=True)
    return replace(first, method="mean of a fleet", measured_at="", **means)


def _means(rows: Sequence[tuple[float, ...]]) -> tuple[float, ...]:
    means = np.mean(rows, axis=0).tolist()
    return tuple(float(f"{value:.{LATENCY_DIGITS}g}") for value in means)
