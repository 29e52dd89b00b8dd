"""The figure of the load benchmark, drawn from its records."""

import json
from pathlib import Path


def draw(records: Path, figure: Path) -> None:
    """Accuracy and attainment against load, from records."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    rows = [json.loads(line) for line in records.read_text(encoding="utf-8").splitlines()]
    labels = list(dict.fromkeys(row["policy"] for row in rows))
    loads = sorted({row["load"] for row in rows})
    canvas, axes = pyplot.subplots(1, 3, figsize=(13, 4.4), layout="constrained")
    for label in labels:
        cells = [
            [row for row in rows if row["policy"] == label and row["load"] == load]
            for load in loads
        ]
        accuracy = [
            sum(r["num_right"] for r in c) / sum(r["num_problems"] for r in c) for c in cells
        ]
        in_time = [
            sum(r["num_voted"] for r in c) / sum(r["num_problems"] for r in c) for c in cells
        ]
        tokens = [
            sum(r["tokens"] for r in c) / max(sum(r["num_right"] for r in c), 1) for c in cells
        ]
        style = {"lw": 2.5, "color": "black"} if label == "production" else {"lw": 1.2}
        for axis, values in zip(axes, (accuracy, in_time, tokens), strict=True):
            axis.plot([100 * load for load in loads], values, marker="o", label=label, **style)
    titles = (
        "Problems answered right in time",
        "Problems with a vote in time",
        "Tokens per right answer",
    )
    for axis, title in zip(axes, titles, strict=True):
        axis.set_title(title, fontsize=10)
        axis.set_xlabel("load, % of capacity")
        axis.set_ylim(bottom=0)
        axis.grid(alpha=0.3)
    canvas.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=7)
    canvas.suptitle("Simulated: recorded branches, fitted latency", fontsize=10)
    figure.parent.mkdir(parents=True, exist_ok=True)
    canvas.savefig(figure, dpi=130)
