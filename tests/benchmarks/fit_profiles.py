"""How well does the latency form predict batch sizes and contexts that it was not fitted to?

Fits `scheduler/profiles/h100-tp{2,4,8}-qwen3-32b.json` from two public data sets, both Apache-2.0:

- serving latency of Qwen3-32B, bf16, on H100, vLLM 0.12, tensor parallel 2, 4 and 8, published with
  ai-dynamo/aiconfigurator: batch 8 to 128, prompts of 1,024 and 4,096 tokens, completions of 128
  to 1,024. Rows whose batch does not fit in the KV cache are left out: there requests wait, and
  fewer decode together than the row says.
- accept lengths and times per step of EAGLE and other drafts on Vicuna-7B, published with forks of
  Spec-Bench.

A published time per output token includes the stalls by prefills of the other requests: while a
request decodes `osl` tokens, about batch - 1 others prefill `isl` tokens each. The fit has a term
for these stalls, and takes a knot in the tokens only where that lowers the held-out error.

The form is good enough if the mean relative error stays below 5% on batch sizes left out, and on
contexts left out. Leaving out all rows of one prompt length is printed too: it extrapolates from
1,024 to 4,096 tokens or back.

    make bench name=fit_profiles ARGS="SERVING_CSV_GZ ACCEPT_LENGTHS_JSONL_GZ --out FOLDER \
        --records FILE"
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from scheduler.core.fit import (
    Grouping,
    StepMeasurement,
    by_context,
    by_verified_tokens,
    fit_latency,
    held_out_ratios,
)
from scheduler.core.latency import FloatArray, LatencyProfile
from tests.benchmarks.data import ServingRow, measurement_of, read_serving
from tests.benchmarks.drafts import MeasuredDraft, measure_drafts

MODEL, SYSTEM, BACKEND = "Qwen/Qwen3-32B", "h100_sxm", "vllm"
TENSOR_PARALLEL = (2, 4, 8)
WEIGHT_BYTES, KV_BYTES_PER_TOKEN = 65.5e9, 64 * 8 * 128 * 2 * 2
"""bf16: 32.8 billion weights; 64 layers of 8 KV heads of 128, keys and values."""
USABLE_BYTES_PER_GPU = 0.9 * 80e9
"""vLLM's default share of an H100's memory."""
DRAFT = "eagle"
"""The draft whose acceptance and cost the profiles carry."""
METHOD = (
    "Step and prefill times: least squares on {num} published rows of Qwen3-32B, bf16, one H100"
    " node, vLLM 0.12, tensor parallel {tp}, batch 8 to 128 (ai-dynamo/aiconfigurator,"
    " Apache-2.0), prefill stalls told apart; held-out error {batch:.1%} by batch size,"
    " {context:.1%} by context. Below batch 8 the times are extrapolated; the spread between runs"
    " was not measured and is a prior. Acceptance and draft time: a stand-in, measured for EAGLE on"
    " Vicuna-7B at temperature 0 and batch 1 over {steps} steps (yukiki-jc/Spec-Bench,"
    " Apache-2.0), which drafts trees, so that a chain would accept less; a drafting pass took"
    " {share:.1%} of an undrafted step, tree verification included. Qwen3-32B was not measured with"
    " a draft."
)


def fits_in_cache(row: ServingRow) -> bool:
    """Whether all requests of the batch decode together up to their last token."""
    room = row.tensor_parallel * USABLE_BYTES_PER_GPU - WEIGHT_BYTES
    return row.batch_size * (row.isl + row.osl) * KV_BYTES_PER_TOKEN <= room


def by_prompt(step: StepMeasurement) -> float:
    """Rows of one prompt length: completions are at most 1,024 tokens, half of them cached."""
    return float(by_context(step) > 2_000)


GROUPINGS: dict[str, Grouping] = {
    "batch": by_verified_tokens,
    "context": by_context,
    "fifths": lambda step: step.step_time_s,
    "prompt": by_prompt,
}
"""What is left out together."""


def relative_error(ratios: FloatArray) -> float:
    """Mean absolute relative error of predictions, from measured over predicted."""
    return float(np.mean(np.abs(1.0 - 1.0 / ratios)))


def fit_rows(
    rows: Sequence[ServingRow], draft: MeasuredDraft
) -> tuple[LatencyProfile, dict[str, FloatArray]]:
    """The profile of rows of one tensor parallel size, and its held-out ratios by grouping."""
    steps = [measurement_of(row) for row in rows]
    tp = rows[0].tensor_parallel
    profile = fit_latency(
        steps,
        engine=BACKEND,
        model=MODEL,
        device=f"{tp}x NVIDIA H100 80GB SXM",
        method="",
        measured_at="2026-11-21",
        acceptance=draft.acceptance,
        acceptance_tries=draft.tries,
    )
    ratios = {
        name: held_out_ratios(steps, profile.token_knots, by) for name, by in GROUPINGS.items()
    }
    method = METHOD.format(
        num=len(rows),
        tp=tp,
        batch=relative_error(ratios["batch"]),
        context=relative_error(ratios["context"]),
        steps=draft.num_steps,
        share=draft.pass_share,
    )
    profile = replace(
        profile,
        method=method,
        draft_base_s=draft.pass_share * profile.base_s,
        draft_row_s=draft.pass_share * profile.token_slopes_s[0],
        acceptance_decay_per_token=draft.decay_per_token,
    )
    return profile, ratios


def records_of(
    rows: Sequence[ServingRow], profile: LatencyProfile, ratios: dict[str, FloatArray]
) -> list[dict[str, Any]]:
    """One record per row, measured beside predicted, and one of the profile."""
    tp = rows[0].tensor_parallel
    records: list[dict[str, Any]] = [{"kind": "profile", "tp": tp, "profile": profile.to_dict()}]
    for i, row in enumerate(rows):
        step = measurement_of(row)
        fitted_s = float(profile.step_time_s(step.rows, 0, step.context_tokens))
        records.append(
            {
                "kind": "row",
                "tp": tp,
                "isl": row.isl,
                "osl": row.osl,
                "batch": row.batch_size,
                "tpot_s": row.tpot_s,
                "fitted_s": fitted_s + profile.prefill_token_s * step.stall_tokens,
                **{f"without_{name}_s": row.tpot_s / float(r[i]) for name, r in ratios.items()},
            }
        )
    return records


def main() -> None:
    """Fit, print the errors and write the profiles and records."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("serving", type=Path)
    parser.add_argument("accept_lengths", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--records", type=Path, required=True)
    options = parser.parse_args()
    drafts = measure_drafts(options.accept_lengths)
    published = [
        row
        for row in read_serving(options.serving)
        if (row.model, row.system, row.backend, row.precision) == (MODEL, SYSTEM, BACKEND, "")
    ]
    records: list[dict[str, Any]] = []
    summary: dict[str, Any] = {}
    for tp in TENSOR_PARALLEL:
        mine = [row for row in published if row.tensor_parallel == tp]
        rows = [row for row in mine if fits_in_cache(row)]
        profile, ratios = fit_rows(rows, drafts[DRAFT])
        errors = {name: round(relative_error(r), 4) for name, r in ratios.items()}
        worst = {name: round(float(np.abs(np.log(r)).max()), 4) for name, r in ratios.items()}
        summary[f"tp{tp}"] = {
            "num_rows": len(rows),
            "num_left_out": len(mine) - len(rows),
            "token_knots": profile.token_knots,
            "residual_sigma": round(profile.residual_sigma, 4),
            "step_sigma": round(profile.step_sigma, 4),
            "held_out": errors,
            "worst": worst,
        }
        print(f"TP {tp}: {len(rows)} rows, knots {profile.token_knots}, held-out error {errors}")
        records += records_of(rows, profile, ratios)
        path = options.out / f"h100-tp{tp}-qwen3-32b.json"
        path.write_text(json.dumps(profile.to_dict(), indent=1) + "\n", encoding="utf-8")
    for name, draft in drafts.items():
        print(f"{name}: {draft}")
    options.records.write_text("".join(json.dumps(r) + "\n" for r in records), encoding="utf-8")
    per_tp = [summary[f"tp{tp}"]["held_out"] for tp in TENSOR_PARALLEL]
    overall = {name: round(float(np.mean([e[name] for e in per_tp])), 4) for name in GROUPINGS}
    print(json.dumps({"held_out": overall, **summary}))


if __name__ == "__main__":
    main()
