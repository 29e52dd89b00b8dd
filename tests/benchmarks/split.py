"""Is the joint split as accurate by a deadline as the best of its rivals, one problem at a time?

Question: a problem arrives at an idle engine (a 32B-class model, four H100, tensor parallel) and
is due in 5 to 120 seconds. How often is its answer right in time, a miss counting as wrong, under
the split that the production scheduler chooses, and under: branches only, drafts only, the paper's
static greedy split, and fixed splits, of which the best is chosen in hindsight for each deadline?

Regimes: recorded branches of a model on a data set, replayed by the simulator, which calls the
production `decide`. Half of the problems are learned from (lengths, accuracy), the others judge.
Every policy sees the same branches of a problem in the same order. Intervals are of a bootstrap
over problems; differences are paired. Where production would refuse the deadline, because too few
problems would get an answer, it is made to answer as well as it can, as its rivals do.

Falsified when: the joint split is significantly below the best rival at any deadline, or nowhere
above branches only or drafts only.

    python -m tests.benchmarks.split --recordings FILE --latency FILE --model M --dataset D
    python -m tests.benchmarks.split --draw docs/figures/split.png --records FILE [FILE ...]
"""

import argparse
import json
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from scheduler.core.config import SchedulerConfig
from scheduler.core.fit import fit_answers
from scheduler.core.fit_answers import RecordedProblem
from scheduler.core.latency import FloatArray
from scheduler.core.simulation.policy import Policy, Production
from scheduler.core.simulation.simulator import simulate
from scheduler.core.simulation.world import SimulatedJob, SimulatedWorker
from tests.benchmarks.data import GPUS_PER_ENGINE, H100_TP4, h100_tp4_latency, read_halves
from tests.benchmarks.policies.fixed import earliest_deadline_first
from tests.benchmarks.policies.restricted import BRANCHES_ONLY, DRAFT_ONLY
from tests.benchmarks.policies.static_greedy import static_greedy
from tests.benchmarks.split_figure import draw

DEADLINES_S = (5.0, 10.0, 20.0, 30.0, 60.0, 120.0)
FIXED = [(b, g) for b in (1, 4, 8, 16, 32, 64) for g in (0, 2, 4)]
PROMPT_TOKENS = 150
JOINT = "joint"
BOOTSTRAP_ROUNDS = 4000
GAP_S = 5.0
"""Between the deadline of a problem and the arrival of the next, so that the engine is idle."""

Record = dict[str, Any]


def main() -> None:
    """Runs all deadlines and policies, or draws records of earlier runs."""
    args = parse_arguments()
    if args.draw:
        draw([summarize(read_records(path)) for path in args.records], args.draw)
        return
    (path,) = args.records
    records = []
    with path.open("w", encoding="utf-8") as file:
        for record in measure(args):
            records.append(record)
            file.write(json.dumps(record) + "\n")
    summary = summarize(records)
    print_table(summary)
    print(json.dumps(summary))


def parse_arguments() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--recordings", type=Path)
    parser.add_argument("--latency", type=Path)
    parser.add_argument("--model")
    parser.add_argument("--dataset")
    parser.add_argument("--deadlines", type=float, nargs="+", default=list(DEADLINES_S))
    parser.add_argument("--problems", type=int, default=250, help="judged at most")
    parser.add_argument("--draws", type=int, default=2, help="orders of each problem's branches")
    parser.add_argument("--seed", type=int, default=0, help="of the halves and the orders")
    parser.add_argument("--draw", type=Path, help="draw a figure from records instead")
    parser.add_argument(
        "--records",
        type=Path,
        nargs="+",
        default=[Path(tempfile.gettempdir()) / "slackline-split.jsonl"],
    )
    args = parser.parse_args()
    needed = (args.recordings, args.latency, args.model, args.dataset)
    if not args.draw and None in needed:
        parser.error("--recordings, --latency, --model and --dataset are needed")
    return args


def measure(args: argparse.Namespace) -> Iterator[Record]:
    """Yields one record per deadline, policy, problem and draw."""
    learned, judged = read_halves(args.recordings, args.model, args.dataset, seed=args.seed)
    answers = fit_answers(
        learned, model=args.model, family=args.dataset, source=f"half of {args.recordings.name}"
    )
    latency = h100_tp4_latency(args.latency)
    worker = SimulatedWorker(
        name="engine",
        spec=replace(H100_TP4, model=args.model),
        latency=latency,
        believed_latency=latency,
        believed_answers=answers,
        num_gpus=GPUS_PER_ENGINE,
    )
    production = Production(JOINT, best_effort=True)
    policies: list[Policy] = [
        production,
        replace(BRANCHES_ONLY, production=production),
        replace(DRAFT_ONLY, production=production),
        static_greedy(),
        *(earliest_deadline_first(branches, draft) for branches, draft in FIXED),
    ]
    rng = np.random.default_rng(args.seed)
    problems = [
        (number, shuffled(problem, rng))
        for _ in range(args.draws)
        for number, problem in enumerate(judged[: args.problems])
    ]
    for deadline_s in args.deadlines:
        for policy in policies:
            yield from replay(policy, worker, problems, deadline_s)


def shuffled(problem: RecordedProblem, rng: np.random.Generator) -> RecordedProblem:
    """The same branches in a random order."""
    order = rng.permutation(len(problem.tokens))
    return replace(
        problem,
        classes=tuple(problem.votes[i] for i in order),
        tokens=tuple(problem.tokens[i] for i in order),
        finished=(),
    )


def replay(
    policy: Policy,
    worker: SimulatedWorker,
    problems: Sequence[tuple[int, RecordedProblem]],
    deadline_s: float,
) -> Iterator[Record]:
    """Yields one record per problem, each alone on the engine."""
    step_s = deadline_s + GAP_S
    jobs = [
        SimulatedJob(
            id=f"{index:06d}",
            tenant="benchmark",
            model=worker.spec.model,
            arrival_s=index * step_s,
            deadline_s=index * step_s + deadline_s,
            problems=(problem,),
            prompt_tokens=PROMPT_TOKENS,
        )
        for index, (_, problem) in enumerate(problems)
    ]
    outcome = simulate(jobs, [worker], policy, SchedulerConfig())
    for (number, _), job in zip(problems, outcome.jobs, strict=True):
        (problem,) = job.problems
        plan, _ = job.plans[-1] if job.plans else (None, 0)
        yield {
            "model": worker.spec.model,
            "dataset": worker.believed_answers.family,
            "deadline_s": deadline_s,
            "policy": policy.name,
            "problem": number,
            "is_right": problem.is_right,
            "is_answered": problem.is_answered,
            "finish_s": round(problem.finish_s - job.arrival_s, 4),
            "tokens": round(problem.tokens),
            "num_branches": plan.num_branches if plan else None,
            "num_speculative_tokens": plan.num_speculative_tokens if plan else None,
            "max_tokens": plan.max_tokens if plan else None,
        }


def read_records(path: Path) -> list[Record]:
    """Records of an earlier run."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def summarize(records: Sequence[Record]) -> Record:
    """Accuracy with its interval per deadline and policy, and the joint split against the rest."""
    rng = np.random.default_rng(0)
    deadlines = {}
    for deadline_s in sorted({record["deadline_s"] for record in records}):
        here = [record for record in records if record["deadline_s"] == deadline_s]
        right = {name: by_problem(here, name) for name in {r["policy"] for r in here}}
        size = len(right[JOINT])
        drawn = rng.integers(0, size, size=(BOOTSTRAP_ROUNDS, size))
        rows = {}
        for name, values in sorted(right.items(), key=lambda item: -item[1].mean()):
            own = [record for record in here if record["policy"] == name]
            rows[name] = {
                "accuracy": round(float(values.mean()), 4),
                "interval": interval(values, drawn),
                "joint_minus_this": interval(right[JOINT] - values, drawn),
                "mean_finish_s": round(float(np.mean([r["finish_s"] for r in own])), 2),
                "mean_tokens": round(float(np.mean([r["tokens"] for r in own]))),
                "split": common_split(own),
            }
        rivals = [name for name in rows if name != JOINT]
        deadlines[f"{deadline_s:g}"] = {"best_rival": rivals[0], "policies": rows}
    where = {"model": records[0]["model"], "dataset": records[0]["dataset"]}
    return {**where, "deadlines": deadlines}


def by_problem(records: Sequence[Record], policy: str) -> FloatArray:
    """Share of draws answered right, per problem."""
    shares: dict[int, list[bool]] = {}
    for record in records:
        if record["policy"] == policy:
            shares.setdefault(record["problem"], []).append(record["is_right"])
    return np.array([np.mean(shares[number]) for number in sorted(shares)])


def interval(values: FloatArray, drawn: np.ndarray[Any, Any]) -> list[float]:
    """95% interval of the mean over resampled problems."""
    means = values[drawn].mean(axis=1)
    return [round(float(bound), 4) for bound in np.quantile(means, (0.025, 0.975))]


def common_split(records: Sequence[Record]) -> list[int | None]:
    """The most frequent split: branches, draft length, cap."""
    splits = Counter(
        (r["num_branches"], r["num_speculative_tokens"], r["max_tokens"]) for r in records
    )
    ((split, _),) = splits.most_common(1)
    return list(split)


def print_table(summary: Record) -> None:
    """Prints the policies that matter, per deadline."""
    for deadline_s, result in summary["deadlines"].items():
        print(f"\ndeadline {deadline_s} s")
        rows = result["policies"]
        shown = [JOINT, BRANCHES_ONLY.name, DRAFT_ONLY.name, "static_greedy", result["best_rival"]]
        for name in dict.fromkeys(shown):
            row = rows[name]
            low, high = row["joint_minus_this"]
            print(
                f"  {name:16} {100 * row['accuracy']:5.1f}%"
                f" [{100 * row['interval'][0]:5.1f}, {100 * row['interval'][1]:5.1f}]"
                f"  joint minus this [{100 * low:+5.1f}, {100 * high:+5.1f}]"
                f"  {row['mean_tokens']:7d} tokens  {row['mean_finish_s']:6.1f} s  {row['split']}"
            )


if __name__ == "__main__":
    main()
