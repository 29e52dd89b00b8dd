"""The workers that serve one model, taken together.

Theory of operation: forecasts depend on kinds of workers and not on their names, and a worker more
among hundreds, or latencies that differ by noise, change nothing worth a new forecast of every job.
`Fleet.pooled` is therefore a rounded value: workers of one specification count with their mean
latency, to three digits, and large numbers of them are rounded down to two digits. Forecasts are
remembered by it. Names and exact rows stay with the fleet itself.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import cached_property, lru_cache
from operator import attrgetter, itemgetter
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from scheduler.core.accuracy import AnswerProfile
from scheduler.core.config import SchedulerConfig
from scheduler.core.latency import FloatArray, LatencyProfile
from scheduler.core.plan import EngineSpec
from scheduler.core.pooling import mean_latency, rounded_count
from scheduler.core.shrinkage import best_known
from scheduler.core.snapshot import WorkerView

MAX_MODELS = 256
"""Models whose last fleet is remembered."""

_PARTS = attrgetter("name", "spec", "latency", "answers")
"""What a fleet is made from."""


@dataclass(frozen=True, slots=True)
class Member:
    """One worker of a fleet, without its heartbeat: equal members forecast alike."""

    name: str
    spec: EngineSpec
    latency: LatencyProfile


@dataclass(frozen=True, eq=False)
class Fleet:
    """Alive workers of one model, at least one, in order of name.

    A value: two ticks with the same workers and profiles have equal fleets, so that forecasts can
    be remembered between ticks.

    Attributes:
        answers: The profile that has seen most branches; of equals the first by worker name.
    """

    members: tuple[Member, ...]
    answers: AnswerProfile

    @classmethod
    def of(cls, workers: Iterable[WorkerView]) -> "Fleet":
        """The fleet of some alive workers of one model."""
        parts = sorted(map(_PARTS, workers), key=itemgetter(0))
        model = parts[0][1].model
        known, fleet = _last.get(model, ((), None))
        if fleet is not None and known == parts:
            return fleet
        fleet = cls(
            members=tuple(Member(name, spec, latency) for name, spec, latency, _ in parts),
            answers=max((answers for *_, answers in parts), key=lambda a: a.num_branches_seen),
        )
        if model not in _last and len(_last) >= MAX_MODELS:
            _last.clear()
        _last[model] = parts, fleet
        return fleet

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        if not isinstance(other, Fleet):
            return NotImplemented
        return (self.members, self.answers) == (other.members, other.answers)

    def __hash__(self) -> int:
        return self._hash

    @cached_property
    def _hash(self) -> int:
        return hash((self.members, self.answers))

    def informed(self, answers: AnswerProfile | None) -> "Fleet":
        """The same workers with what was learned of a task family, when that says more."""
        best = best_known(self.answers, answers)
        return self if best is self.answers else _informed(self, best)

    def limited(self, share: float) -> "Fleet":
        """The same workers with this share of their rows, at least one each."""
        return self if share >= 1.0 else _limited(self, share)

    @cached_property
    def pooled(self) -> "Fleet":
        """The same workers without names, pooled by kind and rounded: what forecasts see."""
        latencies: dict[EngineSpec, list[LatencyProfile]] = {}
        for member in self.members:
            latencies.setdefault(member.spec, []).append(member.latency)
        kinds = tuple(
            (spec, mean_latency(mine), rounded_count(len(mine)))
            for spec, mine in sorted(latencies.items(), key=lambda kind: repr(kind[0]))
        )
        return _pooled(kinds, self.answers)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Of the members, in their order."""
        return tuple(member.name for member in self.members)

    @cached_property
    def room(self) -> NDArray[np.int64]:
        """Rows and tokens of KV cache of each member; (members, 2)."""
        return np.array([(m.spec.max_num_seqs, m.spec.kv_capacity_tokens) for m in self.members])

    @cached_property
    def rows(self) -> int:
        """Branches that decode at once over all workers."""
        return sum(member.spec.max_num_seqs for member in self.members)

    @cached_property
    def least_rows(self) -> int:
        """Branches that decode at once on the smallest worker."""
        return min(member.spec.max_num_seqs for member in self.members)

    @cached_property
    def kv_capacity_tokens(self) -> int:
        """Tokens of KV cache over all workers."""
        return sum(member.spec.kv_capacity_tokens for member in self.members)

    @cached_property
    def max_model_len(self) -> int:
        """Prompt plus completion tokens that every worker can hold."""
        return min(member.spec.max_model_len for member in self.members)

    @cached_property
    def draft_lengths(self) -> tuple[int, ...]:
        """Draft lengths that every worker serves, so that a batch may go anywhere."""
        served = [
            set(lengths) for lengths in {member.spec.draft_lengths for member in self.members}
        ]
        return tuple(sorted(set.intersection(*served) | {0}))

    @cached_property
    def residual_sigma(self) -> float:
        """Relative error of predicted step times, of the least predictable worker."""
        return max(member.latency.residual_sigma for member in self.members)

    def run_sigma(self, draft: ArrayLike) -> FloatArray:
        """Relative error of predicted times per token, of the least predictable worker.

        Args:
            draft: Draft length; what a few counted drafts leave open is in the error.
        """
        sigmas = [latency.run_sigma(draft) for latency, _, _ in self._groups]
        return np.asarray(np.max(sigmas, axis=0))

    @cached_property
    def _groups(self) -> tuple[tuple[LatencyProfile, int, int], ...]:
        """(latency, rows of one worker, workers)."""
        counts = Counter((m.latency, m.spec.max_num_seqs) for m in self.members)
        return tuple((latency, size, count) for (latency, size), count in counts.items())

    def tpot_s(
        self,
        rows: ArrayLike,
        draft: ArrayLike,
        context_tokens: ArrayLike,
        output_tokens: ArrayLike = 0.0,
    ) -> FloatArray:
        """Mean seconds per output token of a row when `rows` are busy over the fleet.

        Busy rows are shared out in proportion to each worker's rows.

        Args:
            draft: Draft length.
            context_tokens: Mean context of one row.
            output_tokens: Mean length of a branch, which matters where acceptance decays.
        """
        busy = np.asarray(rows, dtype=np.float64)
        tokens_per_s: FloatArray = np.asarray(0.0)
        for latency, size, count in self._groups:
            share = busy * (size / self.rows)
            context = share * np.asarray(context_tokens, dtype=np.float64)
            tpot_s = latency.tpot_s(share, draft, context, output_tokens)
            tokens_per_s = tokens_per_s + count * share / tpot_s
        return np.asarray(busy / tokens_per_s)

    def prefill_s(self, prompt_tokens: ArrayLike) -> FloatArray:
        """Seconds by which prefilling one problem delays the fleet as a whole."""
        rate = sum(
            n / np.maximum(latency.prefill_time_s(prompt_tokens), 1e-9)
            for latency, _, n in self._groups
        )
        return np.asarray(1.0 / rate)


def alive_workers(
    workers: Iterable[WorkerView], now: datetime, config: SchedulerConfig
) -> tuple[WorkerView, ...]:
    """Workers heard of lately, in order of name."""
    oldest = now - timedelta(seconds=config.worker_timeout_s)
    alive = (worker for worker in workers if worker.heartbeat_at >= oldest)
    return tuple(sorted(alive, key=lambda worker: worker.name))


def fleets_by_model(workers: Iterable[WorkerView]) -> dict[str, Fleet]:
    """Group alive workers by the model that they serve."""
    grouped: dict[str, list[WorkerView]] = {}
    for worker in workers:
        grouped.setdefault(worker.spec.model, []).append(worker)
    return {model: Fleet.of(members) for model, members in sorted(grouped.items())}


_last: dict[str, tuple[list[tuple[Any, ...]], Fleet]] = {}
"""By model the last fleet and what it was made from: most ticks see the workers of the one before,
and comparing them is quick where their parts are the same objects (`db/snapshot.py`)."""


@lru_cache(maxsize=256)
def _informed(fleet: Fleet, answers: AnswerProfile) -> Fleet:
    return Fleet(fleet.members, answers)


@lru_cache(maxsize=64)
def _limited(fleet: Fleet, share: float) -> Fleet:
    def with_rows(spec: EngineSpec) -> EngineSpec:
        return replace(spec, max_num_seqs=max(1, round(share * spec.max_num_seqs)))

    specs = {spec: with_rows(spec) for spec in {member.spec for member in fleet.members}}
    members = (replace(member, spec=specs[member.spec]) for member in fleet.members)
    return Fleet(tuple(members), fleet.answers)


@lru_cache(maxsize=64)
def _pooled(
    kinds: tuple[tuple[EngineSpec, LatencyProfile, int], ...], answers: AnswerProfile
) -> Fleet:
    """One object per value, so that comparing two pooled fleets is comparing two addresses."""
    members = (Member("", spec, latency) for spec, latency, count in kinds for _ in range(count))
    return Fleet(tuple(members), answers)
