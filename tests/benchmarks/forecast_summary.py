"""Summary of the records of `forecast.py`: coverage and errors with their intervals."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from tests.benchmarks.load_world import DEADLINE_FACTORS

BOOTSTRAP_ROUNDS = 2000

Record = dict[str, Any]


def summarize(records: Sequence[Record]) -> Iterator[Record]:
    """Yields coverage and accuracy errors per regime, over all pairs and for each."""
    groups = {("all", "all"): list(records)}
    for record in records:
        groups.setdefault((record["model"], record["dataset"]), []).append(record)
    for (model, dataset), group in groups.items():
        for regime in ("learned", "warm"):
            mine = [record for record in group if record["regime"] == regime]
            free = [record for record in mine if not record["is_cut"]]
            errors = {
                f"{factor:g}": weighted_error([r for r in mine if r["deadline_factor"] == factor])
                for factor in DEADLINE_FACTORS
            }
            yield {
                "model": model,
                "dataset": dataset,
                "regime": regime,
                "num_jobs": len(mine),
                "num_free": len(free),
                "coverage_p50": coverage(free, "predicted_p50_s"),
                "coverage_p95": coverage(free, "predicted_p95_s"),
                "attainment": round(float(np.mean([r["met_deadline"] for r in mine])), 4),
                "accuracy_error_points": errors,
                "chance_points": round(100 * float(np.mean([r["chance"] for r in mine])), 2),
                "floor_points": round(100 * float(np.mean([r["floor"] for r in mine])), 2),
            }


def coverage(records: Sequence[Record], predicted: str) -> list[float] | None:
    """Share of finishes within a forecast, and its 95% interval; None without records."""
    if not records:
        return None
    within = np.array([record["finish_s"] <= record[predicted] for record in records], float)
    return with_interval(within, np.ones(len(within)), records, scale=1.0)


def weighted_error(records: Sequence[Record]) -> list[float] | None:
    """Expected minus realized accuracy in points over problems, and its 95% interval."""
    if not records:
        return None
    gap = np.array([record["predicted_accuracy"] - record["accuracy"] for record in records])
    sizes = np.array([record["num_problems"] for record in records], float)
    return with_interval(gap, sizes, records, scale=100.0)


def with_interval(
    values: Any, weights: Any, records: Sequence[Record], *, scale: float
) -> list[float]:
    """Weighted mean, and its interval over resampled runs: jobs of a run share their engines."""
    names = [(r["model"], r["dataset"], r["run"]) for r in records]
    index = {name: i for i, name in enumerate(dict.fromkeys(names))}
    owner = np.array([index[name] for name in names])
    totals = np.bincount(owner, weights * values)
    counts = np.bincount(owner, weights)
    drawn = np.random.default_rng(0).integers(0, len(index), (BOOTSTRAP_ROUNDS, len(index)))
    means = totals[drawn].sum(axis=1) / counts[drawn].sum(axis=1)
    low, high = np.quantile(means, (0.025, 0.975))
    return [round(scale * float(v), 4) for v in (totals.sum() / counts.sum(), low, high)]


def line_of(row: Record) -> str:
    """One row of the table."""

    def percent(value: list[float] | None) -> str:
        if value is None:
            return "      -"
        return f"{100 * value[0]:5.1f} [{100 * value[1]:5.1f}, {100 * value[2]:5.1f}]"

    errors = "  ".join(
        f"{factor}x {error[0]:+5.1f} [{error[1]:+5.1f}, {error[2]:+5.1f}]"
        if error
        else f"{factor}x -"
        for factor, error in row["accuracy_error_points"].items()
    )
    return (
        f"{row['model'][:14]:14} {row['dataset'][:8]:8} {row['regime']:7} {row['num_jobs']:5d} jobs"
        f" {row['num_free']:5d} free  P50 {percent(row['coverage_p50'])}"
        f"  P95 {percent(row['coverage_p95'])}  met {100 * row['attainment']:5.1f}  {errors}"
        f"  chance {row['chance_points']:+.1f}, floor {row['floor_points']:.1f}"
    )
