"""Reads what drafts accepted, per step, from runs of Spec-Bench, and measures it."""

import gzip
import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from scheduler.core.acceptance import quantile, relative_sigma
from scheduler.core.fit_acceptance import DraftCounts, fit_decay, measure_acceptance

_MAX_POSITIONS = 16
"""Steps of prompt lookup yield up to 60 tokens; no engine here drafts that far."""
_KINDS = ("eagle", "sps", "medusa", "hydra")


@dataclass(frozen=True, slots=True)
class MeasuredDraft:
    """One kind of draft.

    Attributes:
        acceptance: Conditional acceptance per position.
        tries: Independent tries behind each.
        bounds: 5th and 95th percentile of each.
        num_steps: Steps counted.
        decay_per_token: Rate at which acceptance falls along a branch.
        late_over_early: Mean tokens per step in the last over the first third of the branches of
            300 or more tokens.
        pass_share: Time of one drafting pass as a share of an undrafted step of the same questions,
            tree verification included; NaN where nothing undrafted was run.
        covered: Share of random halves of the questions whose mean acceptance length lies within
            the 90% bounds of the other half.
    """

    acceptance: tuple[float, ...]
    tries: tuple[float, ...]
    bounds: tuple[tuple[float, float], ...]
    num_steps: int
    decay_per_token: float
    late_over_early: float
    pass_share: float
    covered: float


def measure_drafts(path: Path) -> dict[str, MeasuredDraft]:
    """Measure each kind of draft, from the repository that ran most questions with it."""
    runs: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    undrafted: dict[str, list[dict[str, Any]]] = defaultdict(list)
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        for row in map(json.loads, lines):
            if row["accept_lengths"]:
                kind = next(kind for kind in _KINDS if kind in row["run"])
                runs[kind, row["repo"]].append(row)
            else:
                undrafted[row["repo"]].append(row)
    found: dict[str, MeasuredDraft] = {}
    for (kind, repo), rows in sorted(runs.items(), key=lambda item: len(item[1])):
        found[kind] = _measure(rows, undrafted[repo])
    return found


def _measure(rows: Sequence[dict[str, Any]], undrafted: Sequence[dict[str, Any]]) -> MeasuredDraft:
    questions = [row["accept_lengths"] for row in rows]
    branches = [branch for row in rows for branch in _branches(row)]
    length = min(max(max(question) for question in questions) - 1, _MAX_POSITIONS)
    counts = [_counts(question, length) for question in questions]
    measured = measure_acceptance(counts)
    low, high = (quantile(measured.acceptance, measured.tries, q) for q in (0.05, 0.95))
    return MeasuredDraft(
        acceptance=measured.acceptance,
        tries=measured.tries,
        bounds=tuple(zip(low.round(3).tolist(), high.round(3).tolist(), strict=True)),
        num_steps=sum(map(len, questions)),
        decay_per_token=fit_decay(branches, measured.acceptance, length),
        late_over_early=_late_over_early(branches),
        pass_share=_pass_share(rows, undrafted, length),
        covered=_covered(questions, length),
    )


def _branches(row: dict[str, Any]) -> list[list[int]]:
    """Steps of each turn of a conversation."""
    ends = np.cumsum(row["decoding_steps"]).tolist()
    starts = [0, *ends[:-1]]
    return [row["accept_lengths"][a:b] for a, b in zip(starts, ends, strict=True) if b > a]


def _counts(question: Sequence[int], length: int) -> DraftCounts:
    # A step of length n accepted n - 1 drafts: the last token is the target's own.
    steps = np.asarray(question)
    accepted = tuple(int((steps > position).sum()) for position in range(1, length + 1))
    return DraftCounts((len(steps),) * length, accepted)


def _late_over_early(branches: Sequence[Sequence[int]]) -> float:
    late, early = [], []
    for branch in branches:
        if sum(branch) >= 300:
            position = np.cumsum(branch) / sum(branch)
            early += [n for n, x in zip(branch, position, strict=True) if x <= 1 / 3]
            late += [n for n, x in zip(branch, position, strict=True) if x > 2 / 3]
    return float(np.mean(late) / np.mean(early)) if early else float("nan")


def _pass_share(
    rows: Sequence[dict[str, Any]], undrafted: Sequence[dict[str, Any]], length: int
) -> float:
    def step_s(row: dict[str, Any]) -> float:
        return float(sum(row["wall_time"]) / sum(row["decoding_steps"]))

    alone = {row["question_id"]: step_s(row) for row in undrafted}
    shares = [
        step_s(row) / alone[row["question_id"]] for row in rows if row["question_id"] in alone
    ]
    return (float(np.median(shares)) - 1.0) / length if shares else float("nan")


def _covered(questions: Sequence[Sequence[int]], length: int) -> float:
    rng = np.random.default_rng(0)
    inside = 0
    for _ in range(200):
        order = rng.permutation(len(questions))
        halves = []
        for part in (order[::2], order[1::2]):
            found = measure_acceptance([_counts(questions[i], length) for i in part])
            mean = 1.0 + float(np.cumprod(found.acceptance).sum())
            halves.append(
                (mean, mean * float(relative_sigma(found.acceptance, found.tries, length)))
            )
        (a, sigma_a), (b, sigma_b) = halves
        inside += abs(a - b) <= 1.645 * float(np.hypot(sigma_a, sigma_b))
    return inside / 200
