"""The workers that serve one model, taken together."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
from numpy.typing import ArrayLike

from scheduler.core.accuracy import AnswerProfile
from scheduler.core.config import SchedulerConfig
from scheduler.core.latency import FloatArray, LatencyProfile
from scheduler.core.plan import EngineSpec
from scheduler.core.snapshot import WorkerView


@dataclass(frozen=True, slots=True)
class Member:
    """One worker of a fleet, without its heartbeat: equal members forecast alike."""

    name: str
    spec: EngineSpec
    latency: LatencyProfile


@dataclass(frozen=True, slots=True)
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
        ordered = sorted(workers, key=lambda worker: worker.name)
        return cls(
            members=tuple(Member(w.name, w.spec, w.latency) for w in ordered),
            answers=max((w.answers for w in ordered), key=lambda a: a.num_branches_seen),
        )

    @property
    def rows(self) -> int:
        """Branches that decode at once over all workers."""
        return sum(member.spec.max_num_seqs for member in self.members)

    @property
    def kv_capacity_tokens(self) -> int:
        """Tokens of KV cache over all workers."""
        return sum(member.spec.kv_capacity_tokens for member in self.members)

    @property
    def max_model_len(self) -> int:
        """Prompt plus completion tokens that every worker can hold."""
        return min(member.spec.max_model_len for member in self.members)

    @property
    def draft_lengths(self) -> tuple[int, ...]:
        """Draft lengths that every worker serves, so that a batch may go anywhere."""
        served = [set(member.spec.draft_lengths) for member in self.members]
        return tuple(sorted(set.intersection(*served) | {0}))

    @property
    def residual_sigma(self) -> float:
        """Relative error of predicted step times, of the least predictable worker."""
        return max(member.latency.residual_sigma for member in self.members)

    def tpot_s(self, rows: ArrayLike, draft: ArrayLike, context_tokens: ArrayLike) -> FloatArray:
        """Mean seconds per output token of a row when `rows` are busy over the fleet.

        Busy rows are shared out in proportion to each worker's rows.

        Args:
            draft: Draft length.
            context_tokens: Mean context of one row.
        """
        busy = np.asarray(rows, dtype=np.float64)
        groups = Counter((m.latency, m.spec.max_num_seqs) for m in self.members)
        tokens_per_s: FloatArray = np.asarray(0.0)
        for (latency, size), count in groups.items():
            share = busy * (size / self.rows)
            context = share * np.asarray(context_tokens, dtype=np.float64)
            tokens_per_s = tokens_per_s + count * share / latency.tpot_s(share, draft, context)
        return np.asarray(busy / tokens_per_s)

    def prefill_s(self, prompt_tokens: float) -> float:
        """Seconds by which prefilling one problem delays the fleet as a whole."""
        rate = sum(1.0 / max(_prefill_s(m.latency, prompt_tokens), 1e-9) for m in self.members)
        return float(1.0 / rate)


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


def _prefill_s(latency: LatencyProfile, prompt_tokens: float) -> float:
    return float(latency.prefill_time_s(prompt_tokens))
