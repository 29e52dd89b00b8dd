"""Summary of the records of `split.py`: accuracy, intervals, and the joint split against rivals."""

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from scheduler.core.latency import FloatArray

JOINT = "joint"
BEST_FIXED = "best_fixed"
BOOTSTRAP_ROUNDS = 4000

Record = dict[str, Any]


def read_records(path: Path) -> list[Record]:
    """Records of an earlier run."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def summarize(records: Sequence[Record]) -> Record:
    """Accuracy with its interval per deadline and policy, and the joint split against the rest."""
    rng = np.random.default_rng(0)
    deadlines = {}
    for deadline_s in sorted({record["deadline_s"] for record in records}):
        here = [record for record in records if record["deadline_s"] == deadline_s]
        here += in_hindsight(here)
        right = {name: by_problem(here, name) for name in {r["policy"] for r in here}}
        size = len(right[JOINT])
        drawn = rng.integers(0, size, size=(BOOTSTRAP_ROUNDS, size))
        rows = {}
        for name, values in sorted(right.items(), key=lambda item: -item[1].mean()):
            own = [record for record in here if record["policy"] == name]
            rows[name] = {
                "accuracy": round(float(values.mean()), 4),
                "interval": interval(values, drawn),
                "joint_minus_this": interval(right[JOINT] - values, drawn),
                "mean_finish_s": round(float(np.mean([r["finish_s"] for r in own])), 2),
                "mean_tokens": round(float(np.mean([r["tokens"] for r in own]))),
                "split": common_split(own),
            }
        rivals = [name for name in rows if name != JOINT and not name.startswith("edf_")]
        deadlines[f"{deadline_s:g}"] = {"best_rival": rivals[0], "policies": rows}
    where = {"model": records[0]["model"], "dataset": records[0]["dataset"]}
    return {**where, "deadlines": deadlines}


def in_hindsight(records: Sequence[Record]) -> list[Record]:
    """What the fixed split that was best in the other draws did in each draw."""
    fixed = [record for record in records if record["policy"].startswith("edf_")]
    found = []
    for draw in sorted({record["draw"] for record in fixed}):
        others = [r for r in fixed if r["draw"] != draw] or fixed
        names = sorted({r["policy"] for r in fixed})
        best = max(names, key=lambda name: by_problem(others, name).mean())
        mine = [r for r in fixed if r["draw"] == draw and r["policy"] == best]
        found += [{**record, "policy": BEST_FIXED} for record in mine]
    return found


def by_problem(records: Sequence[Record], policy: str) -> FloatArray:
    """Share of draws answered right, per problem."""
    shares: dict[int, list[bool]] = {}
    for record in records:
        if record["policy"] == policy:
            shares.setdefault(record["problem"], []).append(record["is_right"])
    return np.array([np.mean(shares[number]) for number in sorted(shares)])


def interval(values: FloatArray, drawn: np.ndarray[Any, Any]) -> list[float]:
    """95% interval of the mean over resampled problems."""
    means = values[drawn].mean(axis=1)
    return [round(float(bound), 4) for bound in np.quantile(means, (0.025, 0.975))]


def common_split(records: Sequence[Record]) -> list[int | None]:
    """The most frequent split: branches, draft length, cap."""
    splits = Counter(
        (r["num_branches"], r["num_speculative_tokens"], r["max_tokens"]) for r in records
    )
    ((split, _),) = splits.most_common(1)
    return list(split)


def print_table(summary: Record) -> None:
    """Prints the policies that matter, per deadline."""
    for deadline_s, result in summary["deadlines"].items():
        print(f"\ndeadline {deadline_s} s")
        rows = result["policies"]
        lucky = max((n for n in rows if n.startswith("edf_")), key=lambda n: rows[n]["accuracy"])
        shown = [JOINT, "branches_only", "draft_only", "static_greedy", BEST_FIXED, lucky]
        for name in shown:
            row = rows[name]
            low, high = row["joint_minus_this"]
            print(
                f"  {name:16} {100 * row['accuracy']:5.1f}%"
                f" [{100 * row['interval'][0]:5.1f}, {100 * row['interval'][1]:5.1f}]"
                f"  joint minus this [{100 * low:+5.1f}, {100 * high:+5.1f}]"
                f"  {row['mean_tokens']:7d} tokens  {row['mean_finish_s']:6.1f} s  {row['split']}"
            )
