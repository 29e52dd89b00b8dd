"""How well does the latency form fit public measurements of a real engine?

Fits `scheduler/profiles/h100-tp4-qwen3-32b.json` from two public data sets, both Apache-2.0:

- serving latency of Qwen3-32B on H100, vLLM 0.12, tensor parallel 4, published with
  ai-dynamo/aiconfigurator (30 rows: batch 8 to 128, prompts of 1,024 and 4,096 tokens);
- accept lengths per step of EAGLE on Vicuna-7B, published with forks of Spec-Bench.

A published time per output token includes the stalls by prefills of the other requests: while a
request decodes `osl` tokens, about batch - 1 others prefill `isl` tokens each. The first fit has a
regressor for these stalls, and the step times are what remains without them. The claim that the
form is good enough fails if the held-out error exceeds 10%.

    python tests/benchmarks/fit_profiles.py SERVING_CSV_GZ ACCEPT_LENGTHS_JSONL_GZ --out FILE
"""

import argparse
import csv
import gzip
import itertools
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
from scipy.optimize import nnls

from scheduler.core.fit import StepMeasurement, fit_latency, held_out_error

MODEL, SYSTEM, BACKEND, TENSOR_PARALLEL = "Qwen/Qwen3-32B", "h100_sxm", "vllm", "4"
DRAFT_COST = 0.05
"""Assumed time of one drafting pass as a share of an undrafted step: none was measured."""
ACCEPTANCE_REPO = "yukiki-jc/Spec-Bench"
"""The larger of two sources of EAGLE runs, so that one shape of draft tree is measured."""
METHOD = (
    "Step and prefill times: least squares on {num} published rows of Qwen3-32B, bf16, one H100"
    " node, vLLM 0.12, tensor parallel 4, batch 8 to 128 (ai-dynamo/aiconfigurator, Apache-2.0),"
    " prefill stalls removed; held-out error {error:.1%}. Below batch 8 the times are extrapolated."
    " Acceptance: a stand-in, measured per position for EAGLE on Vicuna-7B at temperature 0 over"
    " {steps} steps (yukiki-jc/Spec-Bench, Apache-2.0), which drafts trees, so that a chain would"
    " accept less; Qwen3-32B was not measured with a draft."
    " Draft time: an assumption, {share:.0%} of an undrafted step per drafting pass."
)


def read_serving(path: Path) -> list[dict[str, float]]:
    """Rows of the model: isl, osl, batch, tpot_s."""
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        return [
            {
                "isl": float(row["isl"]),
                "osl": float(row["osl"]),
                "batch": float(row["batch_size"]),
                "tpot_s": float(row["silicon_tpot_ms"]) / 1e3,
            }
            for row in csv.DictReader(lines)
            if (row["model_path"], row["system"], row["backend"]) == (MODEL, SYSTEM, BACKEND)
            and row["tp_size"] == TENSOR_PARALLEL
            and not row["precision"]
        ]


def read_acceptance(path: Path) -> tuple[list[float], int]:
    """Conditional acceptance per draft position of the EAGLE runs, and the steps behind it."""
    lengths: list[int] = []
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        for line in lines:
            row = json.loads(line)
            if "eagle" in row["run"] and row["repo"] == ACCEPTANCE_REPO:
                lengths += row["accept_lengths"] or []
    steps = np.array(lengths)
    # A step of length n accepted n - 1 drafts: the last token is the target's own.
    reached = [int((steps > position).sum()) for position in range(int(steps.max()))]
    acceptance = [b / a for a, b in itertools.pairwise(reached)]
    return acceptance, len(steps)


def without_stalls(rows: list[dict[str, float]]) -> tuple[list[StepMeasurement], float]:
    """Step times with the stalls by prefills removed, and the prefill time per prompt token."""
    values = {key: np.array([row[key] for row in rows]) for key in rows[0]}
    context = values["batch"] * (values["isl"] + values["osl"] / 2)
    stall_tokens = (values["batch"] - 1) * values["isl"] / values["osl"]
    design = np.stack([np.ones(len(rows)), values["batch"], context, stall_tokens], axis=1)
    scale = design.max(axis=0)
    weighted = design / scale / values["tpot_s"][:, None]
    solution, _ = nnls(weighted, np.ones(len(rows)))
    prefill_token_s = float(solution[3] / scale[3])
    step_s = values["tpot_s"] - prefill_token_s * stall_tokens
    steps = [
        StepMeasurement(int(batch), 0, float(total), float(time_s))
        for batch, total, time_s in zip(values["batch"], context, step_s, strict=True)
    ]
    return steps, prefill_token_s


def main() -> None:
    """Fit, print the errors and write the profile."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("serving", type=Path)
    parser.add_argument("accept_lengths", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    rows = read_serving(options.serving)
    steps, prefill_token_s = without_stalls(rows)
    acceptance, num_steps = read_acceptance(options.accept_lengths)
    error = held_out_error(steps)
    profile = fit_latency(
        steps,
        engine="vllm",
        model=MODEL,
        device="4x NVIDIA H100 80GB SXM",
        method=METHOD.format(num=len(rows), error=error, steps=num_steps, share=DRAFT_COST),
        measured_at="2026-11-21",
        acceptance=acceptance,
        token_knots=(0.0,),
    )
    profile = replace(
        profile,
        prefill_token_s=prefill_token_s,
        draft_base_s=DRAFT_COST * profile.base_s,
        draft_row_s=DRAFT_COST * profile.token_slopes_s[0],
    )
    options.out.write_text(json.dumps(profile.to_dict(), indent=1) + "\n", encoding="utf-8")
    for step, row in zip(steps, rows, strict=True):
        predicted = float(profile.step_time_s(step.rows, 0, step.context_tokens))
        print(
            f"isl {row['isl']:5.0f} osl {row['osl']:5.0f} batch {step.rows:4d}:"
            f" {1e3 * step.step_time_s:6.2f} ms, fitted {1e3 * predicted:6.2f} ms"
        )
    print(
        json.dumps(
            {
                "num_rows": len(rows),
                "held_out_error": round(error, 4),
                "residual_sigma": round(profile.residual_sigma, 4),
                "acceptance": [round(a, 3) for a in acceptance],
                "mean_acceptance_length": [
                    round(float(profile.mean_acceptance_length(k)), 3)
                    for k in range(len(acceptance) + 1)
                ],
            }
        )
    )


if __name__ == "__main__":
    main()
