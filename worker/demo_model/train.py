"""Trains the target on generated problems, then distills the draft from it, on a CPU.

Run as `python -m worker.demo_model.train --out DIR --minutes 38`. The learning rate follows
the clock, not a step count, so that a budget in minutes is kept on any machine. A run that
was cut off resumes from the checkpoint in DIR when started again with the same arguments;
both exported directories are refreshed at every checkpoint.
"""

import argparse
import json
import math
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from worker.demo_model import llama, problems, tokenizer
from worker.demo_model.llama import Llama

DRAFT_SHARE = 0.37
"""Part of the budget that goes to the draft."""

DISTILL_SHARE = 0.4
"""Last part of the draft's budget, in which it learns from the target and not the text."""

PEAK_LEARNING_RATE = {"target": 4e-3, "draft": 5e-3}
WARMUP_SHARE = 0.03
CURRICULUM_SHARE = 0.1
"""Part of the budget over which chains grow from two steps to the full length."""

SLIP_SHARE = 0.4
SLIP_RATE = 0.035
"""Slips per digit of a result, and the last part of the budget in which they appear."""

TOKENS_PER_BATCH = 4096
PROBLEMS_PER_POOL = 256
CHECKPOINT_EVERY_S = 60.0
NUM_THREADS = 2


@dataclass(frozen=True)
class Batch:
    """Token ids padded on the right, and where the next token is part of a completion."""

    token_ids: Tensor  # (num_rows, num_tokens)
    is_scored: Tensor  # (num_rows, num_tokens - 1), True where the next token counts


Loss = Callable[[Batch, float], Tensor]
"""Mean loss of a batch at a progress in [0, 1]."""


def to_batch(pool: list[problems.ArithmeticProblem]) -> Batch:
    """Encodes problems; only completion tokens and the final EOS are scored."""
    rows = [[*tokenizer.encode(p.prompt + p.completion), tokenizer.EOS_ID] for p in pool]
    width = max(map(len, rows))
    token_ids = torch.full((len(rows), width), tokenizer.PAD_ID)
    is_scored = torch.zeros(len(rows), width - 1, dtype=torch.bool)
    for i, (row, problem) in enumerate(zip(rows, pool, strict=True)):
        token_ids[i, : len(row)] = torch.tensor(row)
        is_scored[i, len(problem.prompt) - 1 : len(row) - 1] = True
    return Batch(token_ids, is_scored)


def draw_batches(
    rng: random.Random, excluded_prompts: frozenset[str], progress: Callable[[], float]
) -> Iterator[Batch]:
    """Yields batches of about TOKENS_PER_BATCH tokens of problems of similar length."""
    while True:
        full = problems.TRAINED_NUM_STEPS.stop
        growth = min(1.0, progress() / CURRICULUM_SHARE)
        lengths = range(2, 4 + round(growth * (full - 4)))
        slip_rate = SLIP_RATE if progress() > 1.0 - SLIP_SHARE else 0.0
        pool = [
            problems.draw_training_problem(rng, excluded_prompts, lengths, slip_rate)
            for _ in range(PROBLEMS_PER_POOL)
        ]
        pool.sort(key=lambda p: len(p.prompt) + len(p.completion))
        groups: list[list[problems.ArithmeticProblem]] = [[]]
        for problem in pool:
            num_tokens = len(problem.prompt) + len(problem.completion) + 1
            if (len(groups[-1]) + 1) * num_tokens > TOKENS_PER_BATCH:
                groups.append([])
            groups[-1].append(problem)
        rng.shuffle(groups)
        yield from map(to_batch, groups)


def text_loss(model: Llama) -> Loss:
    """Returns cross-entropy on the completions of the generated text."""

    def loss(batch: Batch, _progress: float) -> Tensor:
        logits = model.lm_head(model.hidden(batch.token_ids[:, :-1])[batch.is_scored])
        return functional.cross_entropy(logits.float(), batch.token_ids[:, 1:][batch.is_scored])

    return loss


def draft_loss(draft: Llama, target: Llama) -> Loss:
    """Returns `text_loss`, then the divergence from the target's distribution on the same text.

    The text alone comes first because it costs no forward pass of the target.
    """
    early_loss = text_loss(draft)

    def loss(batch: Batch, progress: float) -> Tensor:
        if progress < 1.0 - DISTILL_SHARE:
            return early_loss(batch, progress)
        inputs = batch.token_ids[:, :-1]
        with torch.no_grad():
            wanted = target.lm_head(target.hidden(inputs)[batch.is_scored]).float()
        logits = draft.lm_head(draft.hidden(inputs)[batch.is_scored]).float()
        return functional.kl_div(
            logits.log_softmax(-1), wanted.log_softmax(-1), log_target=True, reduction="batchmean"
        )

    return loss


def make_optimizers(model: Llama) -> list[torch.optim.Optimizer]:
    """Muon (kellerjordan.github.io/posts/muon) for the layers' matrices, AdamW for the rest."""
    matrices = [p for p in model.model.layers.parameters() if p.dim() == 2]
    in_muon = {id(p) for p in matrices}
    rest = [p for p in model.parameters() if id(p) not in in_muon]
    return [
        torch.optim.Muon(matrices, weight_decay=0.01, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(rest, betas=(0.9, 0.98), weight_decay=0.0),
    ]


def learning_rate(peak: float, progress: float) -> float:
    """Linear warm-up, then a cosine down to 2% of the peak; `progress` is in [0, 1]."""
    if progress < WARMUP_SHARE:
        return peak * max(progress / WARMUP_SHARE, 0.02)
    cosine = 0.5 * (1 + math.cos(math.pi * (progress - WARMUP_SHARE) / (1 - WARMUP_SHARE)))
    return peak * (0.02 + 0.98 * cosine)


def fit(name: str, model: Llama, loss_of: Loss, out: Path, budget_s: float, seed: int) -> None:
    """Trains `model` until `budget_s` seconds of training are spent, checkpoints included.

    Args:
        name: Directory to export to under `out`, and the checkpoint's stem.
        model: The model to train in place.
        loss_of: What to minimize.
        out: Folder of checkpoints and exports.
        budget_s: Training time, summed over resumed runs.
        seed: Of the problem stream; a resumed run draws fresh problems.
    """
    optimizers = make_optimizers(model)
    path = out / f"{name}.ckpt"
    spent_s, step = 0.0, 0
    if path.exists():
        state = torch.load(path, weights_only=True)
        model.load_state_dict(state["model"])
        for optimizer, saved in zip(optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        spent_s, step = state["spent_s"], state["step"]
    started_s = time.monotonic() - spent_s

    def progress() -> float:
        return min(1.0, (time.monotonic() - started_s) / budget_s)

    rng = random.Random(f"{seed}/{step}")
    saved_s, total, count = time.monotonic(), 0.0, 0
    model.train()
    for batch in draw_batches(rng, problems.held_out_prompts(), progress):
        now = progress()
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(PEAK_LEARNING_RATE[name], now)
        with torch.autocast("cpu", torch.bfloat16):
            loss = loss_of(batch, now)
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
        step, total, count = step + 1, total + loss.item(), count + 1
        if now >= 1.0 or time.monotonic() - saved_s > CHECKPOINT_EVERY_S:
            record = {"model": name, "step": step, "progress": now, "loss": total / count}
            print(json.dumps(record), flush=True)  # noqa: T201
            spent_s = time.monotonic() - started_s
            states = [optimizer.state_dict() for optimizer in optimizers]
            torch.save(
                {
                    "model": model.state_dict(),
                    "optimizers": states,
                    "spent_s": spent_s,
                    "step": step,
                },
                path,
            )
            llama.save(model, out / name)
            saved_s, total, count = time.monotonic(), 0.0, 0
        if now >= 1.0:
            return


def main() -> None:
    """Trains both models within the budget given on the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=38.0, help="for both models together")
    parser.add_argument("--seed", type=int, default=problems.TRAINING_SEED)
    parser.add_argument("--only", choices=("target", "draft"), help="train one of the two")
    args = parser.parse_args()
    torch.set_num_threads(NUM_THREADS)
    torch.manual_seed(args.seed)
    args.out.mkdir(parents=True, exist_ok=True)
    budget_s = 60.0 * args.minutes
    if args.only != "draft":
        target = Llama(llama.TARGET_SHAPE)
        share = 1.0 if args.only else 1.0 - DRAFT_SHARE
        fit("target", target, text_loss(target), args.out, share * budget_s, args.seed)
    if args.only != "target":
        target, draft = llama.load(args.out / "target"), Llama(llama.DRAFT_SHAPE)
        share = 1.0 if args.only else DRAFT_SHARE
        loss = draft_loss(draft, target)
        fit("draft", draft, loss, args.out, share * budget_s, args.seed + 1)


if __name__ == "__main__":
    main()
