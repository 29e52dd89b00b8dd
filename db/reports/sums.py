"""Sums: what reports are made of, as bytes that Postgres can make and concatenate.

Theory of operation: a sum is a weight under a part and a bin, 12 bytes in network order. A string
of them may hold a key twice, which means the same as their sum, so that strings are added by
concatenation: `string_agg` merges histograms inside Postgres, and numpy adds them up at the end.
What parts and bins mean is up to each report.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Self

import numpy as np

from scheduler.core.intervals import Interval
from scheduler.core.sketch import FloatArray, IntArray, quantiles

_BINS = 4096
"""Bins of a part are numbered from minus half of this on; `sketch.MAX_BIN` is within."""

_RECORD = np.dtype([("part", ">i2"), ("bin", ">i2"), ("weight", ">f8")])

RECORD_SQL = "int4send((part::int << 16) | (bin::int & 65535)) || float8send(weight::float8)"
"""One sum of columns `part`, `bin` and `weight`."""


@dataclass(frozen=True, slots=True)
class Percentiles:
    """Interpolated percentiles, each off by 1% at most; null without a sample."""

    p50: float | None = None
    p90: float | None = None
    p99: float | None = None


@dataclass(frozen=True, slots=True)
class Share:
    """A fraction in [0, 1] with its 95% interval; null without a sample."""

    value: float | None = None
    low: float | None = None
    high: float | None = None

    @classmethod
    def of(cls, interval: Interval | None) -> Self:
        """The interval, if there is one."""
        return cls() if interval is None else cls(*interval)


class Sums:
    """Weights by part and bin, each key once."""

    def __init__(self, records: bytes = b"") -> None:
        keys, weights = _keys_and_weights(records)
        self._keys, places = _distinct(keys)
        self._weights: FloatArray = np.bincount(places, weights, len(self._keys)).astype(float)

    def parts(self) -> list[int]:
        """Parts with any sum, in order."""
        return [int(part) for part in np.unique(self._keys // _BINS)]

    def part(self, part: int) -> tuple[IntArray, FloatArray]:
        """Bins and weights of one part, by bin."""
        first, last = np.searchsorted(self._keys, [part * _BINS, (part + 1) * _BINS])
        bins: IntArray = self._keys[first:last] % _BINS - _BINS // 2
        return bins, self._weights[first:last]

    def counts(self, part: int) -> dict[int, float]:
        """Weights of one part by bin."""
        bins, weights = self.part(part)
        return dict(zip(bins.tolist(), weights.tolist(), strict=True))

    def percentiles(self, *parts: int) -> Percentiles:
        """Percentiles of parts that are sketches, taken together."""
        found = [self.part(part) for part in parts]
        bins = np.concatenate([bins for bins, _ in found])
        if not len(bins):
            return Percentiles()
        weights = np.concatenate([weights for _, weights in found])
        if len(parts) > 1:
            bins, places = _distinct(bins)
            weights = np.bincount(places, weights).astype(float)
        return Percentiles(*quantiles(bins, weights, (0.5, 0.9, 0.99)))


class Strings:
    """Strings of sums, to be added up by several groupings."""

    def __init__(self, keys: IntArray, weights: FloatArray, lengths: IntArray) -> None:
        self._keys = keys  # (num_sums,), string after string
        self._weights = weights  # (num_sums,)
        self._lengths = lengths  # (num_strings,)

    @classmethod
    def of(cls, strings: Sequence[bytes]) -> Self:
        """Strings as they are stored."""
        lengths = np.array([len(string) // _RECORD.itemsize for string in strings], int)
        return cls(*_keys_and_weights(b"".join(strings)), lengths)

    def added(self, groups: IntArray, num_groups: int) -> "Strings":
        """The shortest string of each group, given the group of each string."""
        first = int(self._keys.min(initial=0))
        span = int(self._keys.max(initial=0)) - first + 1
        found, places = _distinct(np.repeat(groups, self._lengths) * span + self._keys - first)
        group, keys = np.divmod(found, span)
        weights = np.bincount(places, self._weights, len(found)).astype(float)
        return Strings(keys + first, weights, np.bincount(group, minlength=num_groups))

    def written(self) -> list[bytes]:
        """As they are stored."""
        parts, bins = np.divmod(self._keys, _BINS)
        records = packed(parts, bins - _BINS // 2, self._weights)
        ends = np.cumsum(self._lengths) * _RECORD.itemsize
        return [records[begin:end] for begin, end in pairwise([0, *ends.tolist()])]


def _keys_and_weights(records: bytes) -> tuple[IntArray, FloatArray]:
    """Keys that go by part and then by bin."""
    raw = np.frombuffer(records, _RECORD)
    keys = raw["part"].astype(np.int64) * _BINS + (raw["bin"].astype(np.int64) + _BINS // 2)
    return keys, raw["weight"].astype(np.float64)


def _distinct(keys: IntArray) -> tuple[IntArray, IntArray]:
    """Distinct keys in order, and where each key is among them."""
    if not len(keys):
        return keys, keys
    first, last = int(keys.min()), int(keys.max())
    if last - first > 8 * len(keys):
        distinct, places = np.unique(keys, return_inverse=True)
        return distinct, places
    # Many keys of few kinds, as of a month: no need to sort them.
    occurs = np.zeros(last - first + 1, dtype=bool)
    occurs[keys - first] = True
    return np.flatnonzero(occurs) + first, (np.cumsum(occurs) - 1)[keys - first]


def packed(parts: IntArray, bins: IntArray, weights: FloatArray) -> bytes:
    """A string of sums; parts and bins are broadcast to the shape of the weights."""
    records = np.empty(weights.shape, _RECORD)
    records["part"], records["bin"], records["weight"] = parts, bins, weights
    return records.tobytes()
