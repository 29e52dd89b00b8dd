"""Tables and headline numbers of `speculation.py`, derived from its records."""

import argparse
import statistics
from collections import defaultdict
from typing import Any

Record = dict[str, Any]


def median_rates(records: list[Record]) -> dict[tuple[int, int | None], float]:
    """Returns median tokens per second by (branches, draft length or None for transformers)."""
    rates: dict[tuple[int, int | None], list[float]] = defaultdict(list)
    for record in records:
        if record["kind"] == "decode":
            cell = (record["branches"], record["num_speculative_tokens"])
            rates[cell].append(record["tokens"] / record["wall_s"])
    return {cell: statistics.median(values) for cell, values in rates.items()}


def median_steps_ms(records: list[Record]) -> dict[tuple[int, int, int], float]:
    """Returns the median step in ms by (rows, draft length, context tokens per row)."""
    times: dict[tuple[int, int, int], list[float]] = defaultdict(list)
    for record in records:
        if record["kind"] == "step":
            rows = record["rows"]
            cell = (rows, record["num_speculative_tokens"], record["context_tokens"] // rows)
            times[cell] += record["times_s"]
    return {cell: 1e3 * statistics.median(values) for cell, values in times.items()}


def print_table(records: list[Record]) -> None:
    """Prints one row per cell."""
    rates = median_rates(records)
    tpots: dict[tuple[int, int | None], list[float]] = defaultdict(list)
    for record in records:
        if record["kind"] == "decode" and record["tpot_s"] is not None:
            tpots[record["branches"], record["num_speculative_tokens"]].append(record["tpot_s"])
    for cell in sorted(rates, key=lambda c: (c[0], -1 if c[1] is None else c[1])):
        name = "transformers " if cell[1] is None else f"draft length {cell[1]}"
        tpot_ms = 1e3 * statistics.median(tpots[cell])
        print(
            f"{cell[0]:3} branches  {name:14} {rates[cell]:8.0f} tokens/s  TPOT {tpot_ms:7.3f} ms"
        )
    for (rows, length, context), step_ms in sorted(median_steps_ms(records).items()):
        print(f"{rows:3} rows  draft length {length}  context {context:5}  step {step_ms:8.3f} ms")


def summarize(records: list[Record], args: argparse.Namespace) -> Record:
    """Gathers the headline numbers."""
    rates = median_rates(records)
    drafted = [r for r in records if r["kind"] == "decode" and r["num_speculative_tokens"]]
    longest = max((r["num_speculative_tokens"] for r in drafted), default=0)
    acceptance = []
    for j in range(longest):
        reached = [r for r in drafted if r["num_speculative_tokens"] > j]
        before = sum(r["drafted"][0] if j == 0 else r["accepted"][j - 1] for r in reached)
        acceptance.append(round(sum(r["accepted"][j] for r in reached) / max(1, before), 3))
    best = {
        b: max(args.draft_lengths, key=lambda k: rates[b, k])
        for b in args.branches
        if (b, args.draft_lengths[0]) in rates
    }
    fewest = min(args.branches)
    baseline = rates.get((fewest, None))
    return {
        "benchmark": "speculation",
        "device": records[0]["device"],
        "threads": args.threads,
        "model": records[0]["model"],
        "branches": fewest,
        "tokens_per_s": {f"{b}x{k}": round(rate, 1) for (b, k), rate in rates.items()},
        "ratio_to_transformers": baseline and round(rates[fewest, best[fewest]] / baseline, 2),
        "ratio_without_speculation": baseline and round(rates[fewest, 0] / baseline, 2),
        "best_draft_length": best,
        "acceptance_by_position": acceptance,
        "step_ms": {
            f"{r}x{k}@{c}": round(ms, 3) for (r, k, c), ms in median_steps_ms(records).items()
        },
        "records": str(args.records),
    }
