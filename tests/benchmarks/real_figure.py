"""The figures of the benchmark on the real engine, drawn from its records."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib

from tests.benchmarks.real_forecast import is_cut
from tests.benchmarks.real_jobs import Record
from tests.benchmarks.real_policies import summarize_runs

matplotlib.use("Agg")
import matplotlib.pyplot as plt

MEASURED = "Measured: torch engine, demo model, 2 CPU cores"
KEPT, BROKEN = "#1f6fb2", "#c1272d"
STYLES = {
    "production": ("production", "#c1272d"),
    "fixed_edf": ("nearest deadline first, fixed split", "#1f6fb2"),
    "fifo": ("first come first served, 8 branches", "#555555"),
}


def measured(cores: float) -> str:
    """What was measured where, and what else ran there."""
    return f"{MEASURED}, of which other programs used {cores:.1f}"


def draw(records: Path, folder: Path) -> None:
    """Draw what the records hold."""
    rows = [json.loads(line) for line in records.read_text(encoding="utf-8").splitlines()]
    folder.mkdir(parents=True, exist_ok=True)
    forecasts = [row for row in rows if row["kind"] == "real_forecast" and row["is_admitted"]]
    if forecasts:
        draw_forecast(forecasts, folder / "real_forecast.png")
    runs = [row for row in rows if row["kind"] == "real_policies"]
    if runs:
        draw_policies(summarize_runs(runs), folder / "real_policies.png")


def draw_forecast(records: Sequence[Record], path: Path) -> None:
    """Finish against its forecast, and right answers against expected ones, one point per job."""
    figure, (finish, right) = plt.subplots(1, 2, figsize=(10.4, 4.8))
    for record in records:
        low, high = record["predicted_p50_s"], record["predicted_p95_s"]
        at_s = record["finish_s"]
        color = KEPT if at_s <= high else BROKEN
        face = "white" if is_cut(record) else color
        finish.plot([low, high], [at_s, at_s], color=color, lw=1.2, alpha=0.6)
        finish.plot(low, at_s, "o", color=color, markerfacecolor=face, ms=5)
        expected = record["num_problems"] * record["predicted_accuracy"]
        right.plot(expected, record["num_right"], "o", color="#555555", ms=5)
    times = [s for r in records for s in (r["finish_s"], r["predicted_p95_s"])]
    ends = [0.8 * min(times), 1.25 * max(times)]
    finish.plot(ends, ends, color="black", lw=0.8)
    finish.set(xscale="log", yscale="log", xlim=ends, ylim=ends)
    finish.set_xlabel("forecast at admission, s: P50 (dot) to P95")
    finish.set_ylabel("finish, s")
    finish.plot([], [], "o-", color=KEPT, ms=5, label="finished within its P95")
    finish.plot([], [], "o-", color=BROKEN, ms=5, label="finished later")
    hollow = {"color": KEPT, "markerfacecolor": "white", "ms": 5}
    finish.plot([], [], "o-", label="P95 is the deadline", **hollow)
    finish.legend(fontsize=8, loc="upper left")
    finish.set_title("Finish of the last problem", fontsize=9)
    most = max(record["num_problems"] for record in records)
    right.plot([0, most], [0, most], color="black", lw=0.8)
    right.set_xlabel("right answers expected at admission")
    right.set_ylabel("right answers in time")
    right.set_title(f"Answers of {len(records)} jobs", fontsize=9)
    for axis in (finish, right):
        axis.grid(alpha=0.25, which="both")
    cores = sum(record["cores_of_others"] for record in records) / len(records)
    figure.suptitle(measured(cores), fontsize=10)
    figure.tight_layout()
    figure.savefig(path, dpi=130)


def draw_policies(summary: dict[str, Any], path: Path) -> None:
    """Accuracy, answers in time and tokens by load and policy."""
    figure, axes = plt.subplots(1, 3, figsize=(12.6, 4.2))
    panels = (
        ("accuracy", "right in time, % of problems", 100),
        (
            "attainment_of_promised",
            "deadlines met, % of jobs (production: of promised)",
            100,
        ),
        ("tokens_per_right", "tokens per right answer", 1),
    )
    loads = list(summary)
    for axis, (key, title, scale) in zip(axes, panels, strict=True):
        for shift, (label, (words, color)) in enumerate(STYLES.items()):
            rows = [summary[load][label] for load in loads]
            axis.bar(
                [i + 0.27 * (shift - 1) for i in range(len(loads))],
                [scale * row[key] for row in rows],
                0.25,
                yerr=[100 * 1.96 * row["standard_error"] for row in rows]
                if key == "accuracy"
                else None,
                color=color,
                label=words,
                capsize=2,
            )
        axis.set_title(title, fontsize=9)
        axis.set_xticks(range(len(loads)), [f"{float(load):.0%}" for load in loads])
        axis.set_xlabel("load, share of capacity")
        axis.grid(alpha=0.25, axis="y")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="lower center", ncols=3, fontsize=8)
    used = [row["cores_of_others"] for runs in summary.values() for row in runs.values()]
    words = measured(sum(used) / len(used))
    figure.suptitle(f"{words}; a miss or a refusal is wrong", fontsize=10)
    figure.tight_layout(rect=(0, 0.06, 1, 1))
    figure.savefig(path, dpi=130)
