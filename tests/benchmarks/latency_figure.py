"""Draws what `fit_profiles` recorded: measured and fitted time per token against batch size.

make bench name=latency_figure ARGS="RECORDS --out docs/figures/latency_fit.png"
"""

import argparse
import json
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.lines import Line2D

from scheduler.core.latency import FloatArray, LatencyProfile

Record = dict[str, Any]

COLORS = ("#2a78d6", "#1baf7a", "#d9820a")
"""Completions of 128, 512 and 1,024 tokens; prompts differ by the marker."""
MARKERS = {1024.0: "o", 4096.0: "s"}


def fitted_tpot_s(profile: LatencyProfile, batch: FloatArray, isl: float, osl: float) -> FloatArray:
    """Time per token under load: steps, and stalls by the prefills of the others."""
    step_s = profile.step_time_s(batch, 0, batch * (isl + osl / 2))
    return np.asarray(step_s + profile.prefill_token_s * (batch - 1) * isl / osl)


def draw(records: list[Record], path: Path) -> None:
    """One panel per tensor parallel size."""
    profiles = {r["tp"]: LatencyProfile.from_dict(r["profile"]) for r in records if "profile" in r}
    rows = [r for r in records if r["kind"] == "row"]
    lengths = sorted({r["osl"] for r in rows})
    figure, panels = plt.subplots(1, len(profiles), figsize=(12.5, 4.6), sharey=True)
    for panel, (tp, profile) in zip(panels, sorted(profiles.items()), strict=True):
        mine = [r for r in rows if r["tp"] == tp]
        for isl, osl in sorted({(r["isl"], r["osl"]) for r in mine}):
            cell = sorted((r for r in mine if (r["isl"], r["osl"]) == (isl, osl)), key=_batch)
            color, batch = COLORS[lengths.index(osl)], np.array([_batch(r) for r in cell])
            along = np.geomspace(batch[0], batch[-1], 60)
            panel.plot(along, 1e3 * fitted_tpot_s(profile, along, isl, osl), color=color, lw=1.2)
            measured_ms = [1e3 * r["tpot_s"] for r in cell]
            panel.plot(batch, measured_ms, MARKERS[isl], color=color, ms=7.5, mec="white", mew=0.6)
            without_ms = [1e3 * r["without_batch_s"] for r in cell]
            panel.plot(batch, without_ms, "x", color="#222222", ms=4, mew=1.0, zorder=4)
        ratios = np.array([r["without_batch_s"] / r["tpot_s"] for r in mine])
        error = float(np.mean(np.abs(ratios - 1.0)))
        panel.set_title(
            f"TP {tp}: error {error:.1%} on batch sizes left out", fontsize=11, loc="left"
        )
        panel.set_xscale("log", base=2)
        panel.set_yscale("log")
        ticks = sorted({_batch(r) for r in mine})
        panel.set_xticks(ticks, [f"{tick:.0f}" for tick in ticks])
        panel.set_xlabel("batch size")
        panel.grid(visible=True, which="major", color="#e4e4e4", lw=0.6)
        panel.spines[["top", "right"]].set_visible(False)
    panels[0].set_yticks([10, 20, 50, 100, 150], ["10", "20", "50", "100", "150"])
    panels[0].minorticks_off()
    panels[0].set_ylabel("time per output token, ms")
    _legend(figure, lengths)
    figure.suptitle(
        "Qwen3-32B on H100, vLLM 0.12: measured time per token and the fitted form",
        x=0.01,
        ha="left",
        fontsize=12,
    )
    figure.tight_layout(rect=(0, 0.09, 1, 1))
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)


def _legend(figure: Any, lengths: list[float]) -> None:
    def line(label: str, **style: Any) -> Any:
        return Line2D([], [], label=label, **style)

    grey = {"color": "#777777", "ls": ""}
    figure.legend(
        handles=[
            line("measured, prompt 1,024", marker="o", **grey),
            line("measured, prompt 4,096", marker="s", **grey),
            *(
                line(f"fitted, completion {osl:,.0f}", color=color)
                for osl, color in zip(lengths, COLORS, strict=True)
            ),
            line("predicted without its batch size", marker="x", color="#222222", ls=""),
        ],
        loc="lower center",
        ncols=6,
        frameon=False,
        fontsize=8.5,
        columnspacing=1.4,
    )


def _batch(record: Record) -> float:
    return float(record["batch"])


def main() -> None:
    """Draw."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("records", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    draw([json.loads(line) for line in options.records.read_text().splitlines()], options.out)


if __name__ == "__main__":
    main()
