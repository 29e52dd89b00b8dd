"""Measures the demo pair: branch accuracy, vote accuracy, lengths and draft acceptance.

Run as `python -m worker.demo_model.evaluate`; the last line printed is one JSON object. With
`--record PATH` it instead samples the recorded set and writes its branches to PATH.
"""

import argparse
import gzip
import json
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import torch

from worker.demo_model import llama, problems, tokenizer
from worker.demo_model.llama import Llama
from worker.demo_model.sample import Completion, extract_answer, sample

HERE = Path(__file__).parent
TEMPERATURE = 0.8


def vote(answers: Sequence[str]) -> str:
    """Returns the plurality answer; no answer has no vote, and the earliest wins a tie."""
    counts = Counter(answer for answer in answers if answer)
    return max(counts, key=lambda answer: counts[answer], default="")


@torch.inference_mode()
def overlap(
    target: Llama, draft: Llama, prompt: str, completions: list[Completion]
) -> tuple[float, int]:
    """Returns the summed sum(min(p, q)) of the completions' tokens, and the token count.

    That is the expected number of drafted tokens that exact speculative sampling accepts on
    text of the target (arXiv:2211.17192, corollary 3.6).
    """
    rows = [tokenizer.encode(prompt) + completion.token_ids for completion in completions]
    width = max(map(len, rows))
    token_ids = torch.tensor([row + [tokenizer.PAD_ID] * (width - len(row)) for row in rows])
    starts = len(prompt) - 1
    p = (target(token_ids)[:, starts:-1] / TEMPERATURE).softmax(-1)
    q = (draft(token_ids)[:, starts:-1] / TEMPERATURE).softmax(-1)
    accepted = torch.minimum(p, q).sum(-1)  # (num_branches, num_tokens)
    lengths = torch.tensor([len(completion.token_ids) for completion in completions])
    is_real = torch.arange(accepted.shape[1]) < lengths[:, None]
    return float(accepted[is_real].sum()), int(lengths.sum())


def measure(
    target: Llama,
    draft: Llama,
    rows: list[dict[str, str]],
    num_branches: int,
    generator: torch.Generator,
) -> dict[str, object]:
    """Solves `rows` with `num_branches` branches each and returns the measured numbers."""
    started_s = time.monotonic()
    prompts = [row["prompt"] for row in rows]
    branches = sample(target, prompts, num_branches, TEMPERATURE, generator)
    sampling_time_s = time.monotonic() - started_s
    lengths, accuracies, votes = [], [], []
    num_accepted, num_tokens, num_unanswered = 0.0, 0, 0
    for row, completions in zip(rows, branches, strict=True):
        answers = [extract_answer(completion.text) for completion in completions]
        lengths += [len(completion.token_ids) for completion in completions]
        accuracies.append(answers.count(row["reference_answer"]) / num_branches)
        votes.append(vote(answers) == row["reference_answer"])
        num_unanswered += answers.count("")
        accepted, count = overlap(target, draft, row["prompt"], completions)
        num_accepted, num_tokens = num_accepted + accepted, num_tokens + count
    spread = torch.tensor(accuracies).quantile(torch.tensor([0.1, 0.25, 0.5, 0.75, 0.9]))
    return {
        "num_problems": len(rows),
        "num_branches": num_branches,
        "temperature": TEMPERATURE,
        "single_accuracy": round(sum(accuracies) / len(rows), 4),
        "vote_accuracy": round(sum(votes) / len(rows), 4),
        "accuracy_by_problem_quantiles": [round(q, 3) for q in spread.tolist()],
        "acceptance_rate": round(num_accepted / num_tokens, 4),
        "mean_completion_tokens": round(num_tokens / len(lengths), 1),
        "p95_completion_tokens": round(torch.tensor(lengths).float().quantile(0.95).item()),
        "unanswered_share": round(num_unanswered / len(lengths), 4),
        "sampling_time_s": round(sampling_time_s, 1),
        "target_parameters": sum(p.numel() for p in target.parameters()),
        "draft_parameters": sum(p.numel() for p in draft.parameters()),
    }


def recording(index: int, gold: str, completions: list[Completion]) -> dict[str, object]:
    """Returns one problem's sampled branches as a row of the recordings file."""
    sampled = [extract_answer(completion.text) for completion in completions]
    answers = list(dict.fromkeys(sampled))
    wrong = [answer for answer in answers if answer not in ("", gold)]
    classes = {"": -1, gold: 0} | {answer: i + 1 for i, answer in enumerate(wrong)}
    return {
        "dataset": "arithmetic",
        "model": "slackline-demo",
        "version": "v1",
        "problem_num": index,
        "gold": gold,
        "answers": answers,
        "classes": [classes[answer] for answer in answers],
        "sample_answer": [answers.index(answer) for answer in sampled],
        "sample_tokens": [len(completion.token_ids) for completion in completions],
    }


def record(target: Llama, num_branches: int, generator: torch.Generator, path: Path) -> None:
    """Samples the recorded set and writes one row per problem, gzipped."""
    recorded = problems.held_out_problems(problems.RECORDED_SEED, problems.NUM_SHIPPED)
    prompts = [problem.prompt for problem in recorded]
    branches = sample(target, prompts, num_branches, TEMPERATURE, generator)
    rows = [
        json.dumps(recording(i, problem.reference_answer, completions)) + "\n"
        for i, (problem, completions) in enumerate(zip(recorded, branches, strict=True))
    ]
    path.write_bytes(gzip.compress("".join(rows).encode(), mtime=0))


def main() -> None:
    """Evaluates or records as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", type=Path, default=HERE, help="folder of target/ and draft/")
    parser.add_argument("--problems", type=Path, default=HERE / "arithmetic.jsonl")
    parser.add_argument("--num-branches", type=int, default=16)
    parser.add_argument("--num-problems", type=int, default=problems.NUM_SHIPPED)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--record", type=Path, help="write branches of the recorded set here")
    args = parser.parse_args()
    torch.set_num_threads(2)
    generator = torch.Generator().manual_seed(args.seed)
    target = llama.load(args.models / "target")
    if args.record is not None:
        record(target, args.num_branches, generator, args.record)
        return
    lines = args.problems.read_text(encoding="utf-8").splitlines()[: args.num_problems]
    rows = [json.loads(line) for line in lines]
    draft = llama.load(args.models / "draft")
    result = measure(target, draft, rows, args.num_branches, generator)
    print(json.dumps(result))  # noqa: T201


if __name__ == "__main__":
    main()
