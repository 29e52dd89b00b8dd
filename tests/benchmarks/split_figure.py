"""Draws the figure of `split.py`: accuracy against deadline, one panel per model and data set."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

LINES = {
    "joint": ("joint split (ours)", "#c1272d", "-", "o"),
    "best_fixed": ("best fixed split, in hindsight", "#555555", "--", "s"),
    "static_greedy": ("static greedy (the paper)", "#1f6fb2", "-.", "^"),
    "draft_only": ("drafts only", "#2a8c4a", ":", "v"),
    "branches_only": ("branches only", "#b8860b", ":", "D"),
}


def draw(summaries: Sequence[dict[str, Any]], path: Path) -> None:
    """Draws one panel per summary, as `summarize` returns it with `model` and `dataset`."""
    figure, axes = plt.subplots(
        1, len(summaries), figsize=(5.2 * len(summaries), 4.2), squeeze=False, sharey=True
    )
    for axis, summary in zip(axes[0], summaries, strict=True):
        deadlines = summary["deadlines"]
        seconds = [float(deadline) for deadline in deadlines]
        for name, (label, color, style, marker) in LINES.items():
            rows = [result["policies"][name] for result in deadlines.values()]
            accuracy = [100 * row["accuracy"] for row in rows]
            low, high = zip(*(row["interval"] for row in rows), strict=True)
            axis.plot(
                seconds, accuracy, color=color, linestyle=style, marker=marker, ms=5, label=label
            )
            if name == "joint":
                axis.fill_between(
                    seconds,
                    [100 * v for v in low],
                    [100 * v for v in high],
                    color=color,
                    alpha=0.15,
                )
        axis.set_xscale("log")
        axis.set_xticks(seconds, [f"{value:g}" for value in seconds])
        axis.minorticks_off()
        axis.set_title(f"{summary['model']} on {summary['dataset']}", fontsize=10)
        axis.set_xlabel("deadline of one problem, s")
        axis.grid(alpha=0.25)
    axes[0][0].set_ylabel("right by the deadline, %")
    axes[0][-1].legend(fontsize=8, loc="lower right")
    figure.suptitle(
        "Simulated: recorded branches, measured H100 TP 4 latency; a miss is wrong", fontsize=10
    )
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)
