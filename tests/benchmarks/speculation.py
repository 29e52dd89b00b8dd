"""How fast does the torch engine decode, and which draft length is best for how many branches?

Question: tokens per second and TPOT of the torch engine over branches x draft length, beside
`transformers.generate` on the same checkpoint in the same run.

Regimes: one problem decoded with 1 to 128 branches, twice the rows that a worker has by default, at
temperature 0.8 on a checkpoint pair (by default the shipped demo model on a CPU). All cells take
turns in every round, in a new order each time, so that a busy machine disturbs all alike; medians
over rounds are compared. With `--shape` the weights are random, so text means nothing: then only
steps and prefills are timed, which is what a `LatencyProfile` is fitted from.

Falsified when: the engine with its best draft length is less than 3 times as fast as transformers
at one branch; or the best draft length does not shrink from few branches to many.

    python -m tests.benchmarks.speculation
    python -m tests.benchmarks.speculation --device cuda --shape 3b
"""

import argparse
import json
import random
import statistics
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import torch

from tests.benchmarks.hugging_face import TEMPERATURE, generate, load_reference
from tests.benchmarks.speculation_table import Record, print_table, summarize
from worker.engines.base import BranchFinished, BranchRequest, Sampling
from worker.engines.torch.config import NAMED_SHAPES
from worker.engines.torch.engine import TorchEngine

DEMO_MODEL = Path("worker/demo_model")


def main() -> None:
    """Runs the rounds, prints the table and, last, one JSON line."""
    args = parse_arguments()
    records: list[Record] = []
    with args.records.open("w", encoding="utf-8") as file:
        for record in measure(args):
            records.append(record)
            file.write(json.dumps(record) + "\n")
            file.flush()
    print_table(records)
    print(json.dumps(summarize(records, args)))


def parse_arguments() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--target", type=Path, default=DEMO_MODEL / "target")
    parser.add_argument("--draft", type=Path, default=DEMO_MODEL / "draft")
    parser.add_argument("--prompts", type=Path, default=DEMO_MODEL / "arithmetic.jsonl")
    parser.add_argument("--shape", choices=sorted(NAMED_SHAPES), help="random weights, steps only")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--branches", type=int, nargs="+", default=[1, 2, 4, 8, 16, 32, 64, 128])
    parser.add_argument("--draft-lengths", type=int, nargs="+", default=[0, 1, 2, 4, 8])
    parser.add_argument("--contexts", type=int, nargs="+", default=[128, 384], help="per row")
    parser.add_argument("--max-tokens", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--no-transformers", action="store_true")
    parser.add_argument(
        "--records", type=Path, default=Path(tempfile.gettempdir()) / "slackline-speculation.jsonl"
    )
    return parser.parse_args()


def measure(args: argparse.Namespace) -> Iterator[Record]:
    """Yields one record per measured cell and round."""
    engine = build_engine(args)
    where = {
        "device": torch.cuda.get_device_name() if args.device == "cuda" else args.device,
        "threads": args.threads,
        "model": args.shape or str(args.target),
    }
    try:
        if args.shape is None:
            prompts = [json.loads(line)["prompt"] for line in args.prompts.read_text().splitlines()]
            reference = (
                None
                if args.no_transformers
                else load_reference(args.target, args.device, args.threads)
            )
            for record in measure_decoding(args, engine, reference, prompts):
                yield {**where, **record}
        for record in measure_steps(args, engine):
            yield {**where, **record}
    finally:
        engine.close()


def build_engine(args: argparse.Namespace) -> TorchEngine:
    """Loads the checkpoint pair or draws weights of the named shape."""
    rows = max(args.branches)
    if args.shape:
        target, draft = NAMED_SHAPES[args.shape]
        return TorchEngine.with_random_weights(
            target,
            draft,
            model=args.shape,
            max_num_seqs=rows,
            max_model_len=max(args.contexts) + args.max_tokens,
            device=args.device,
            num_threads=args.threads,
        )
    return TorchEngine.load(
        args.target,
        args.draft,
        model="benchmark",
        max_num_seqs=rows,
        device=args.device,
        num_threads=args.threads,
    )


def measure_decoding(
    args: argparse.Namespace,
    engine: TorchEngine,
    reference: tuple[Any, Any] | None,
    prompts: list[str],
) -> Iterator[Record]:
    """Decodes one problem per round in every cell."""
    cells: list[tuple[int, int | None]] = [
        (branches, length) for branches in args.branches for length in args.draft_lengths
    ]
    if reference:
        cells += [(branches, None) for branches in args.branches]
    order = random.Random(0)
    for round_index in range(-1, args.rounds):  # round -1 warms up and is dropped
        order.shuffle(cells)
        for branches, length in cells:
            prompt = prompts[round_index % len(prompts)]
            if length is None:
                assert reference is not None
                record = generate(reference, prompt, branches, args.max_tokens)
            else:
                record = decode(engine, prompt, branches, length, args.max_tokens)
            if round_index >= 0:
                yield {"round": round_index, "branches": branches, **record}


def decode(engine: TorchEngine, prompt: str, branches: int, length: int, max_tokens: int) -> Record:
    """Decodes the branches of one problem with the torch engine."""
    events: SimpleQueue[BranchFinished] = SimpleQueue()
    now = datetime.now(UTC)
    start = time.perf_counter()
    engine.submit(
        [
            BranchRequest(f"{i}", prompt, i, length, max_tokens, Sampling(TEMPERATURE), 0, now)
            for i in range(branches)
        ],
        events,
    )
    metrics = [events.get(timeout=600).metrics for _ in range(branches)]
    wall_s = time.perf_counter() - start
    tpots_s = [
        (m.finished_at - m.first_token_at).total_seconds() / (m.completion_tokens - 1)
        for m in metrics
        if m.first_token_at is not None and m.completion_tokens > 1
    ]
    columns = [m for m in metrics if m.num_steps]
    return {
        "kind": "decode",
        "engine": "torch",
        "num_speculative_tokens": length,
        "wall_s": wall_s,
        "tokens": sum(m.completion_tokens for m in metrics),
        "tpot_s": statistics.fmean(tpots_s) if tpots_s else None,
        "steps": sum(m.num_steps for m in metrics),
        "drafted": [sum(m.drafted_by_position[j] for m in columns) for j in range(length)],
        "accepted": [sum(m.accepted_by_position[j] for m in columns) for j in range(length)],
    }


def measure_steps(args: argparse.Namespace, engine: TorchEngine) -> Iterator[Record]:
    """Times steps and prefills on the idle engine."""
    cells = [
        (rows, length, context)
        for rows in args.branches
        for length in args.draft_lengths
        for context in args.contexts
    ]
    for round_index in range(args.rounds):
        random.Random(round_index).shuffle(cells)
        for rows, length, context in cells:
            times_s = engine.measure_step(
                rows=rows,
                num_speculative_tokens=length,
                context_tokens=rows * context,
                repeats=5,
            )
            yield {
                "kind": "step",
                "round": round_index,
                "rows": rows,
                "num_speculative_tokens": length,
                "context_tokens": rows * context,
                "times_s": times_s,
            }
        for context in args.contexts:
            times_s = engine.measure_prefill(prompt_tokens=context, repeats=2)
            yield {
                "kind": "prefill",
                "round": round_index,
                "prompt_tokens": context,
                "times_s": times_s,
            }


if __name__ == "__main__":
    main()
