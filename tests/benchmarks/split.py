"""Is the joint split as accurate by a deadline as the best of its rivals, one problem at a time?

Question: a problem arrives at an idle engine (a 32B-class model, four H100, tensor parallel) and
is due in 5 to 120 seconds. How often is its answer right in time, a miss counting as wrong, under
the split that the production scheduler chooses, and under: branches only, drafts only, the paper's
static greedy split, and fixed splits, of which the best is chosen in hindsight for each deadline?

Regimes: recorded branches of a model on a data set, replayed by the simulator, which calls the
production `decide`. Each half of the problems is judged under what was learned from the other
(lengths, accuracy), in several draws of halves; every draw brings the branches of a problem into a
new order, which all policies see alike. One draw of halves and orders moves a difference by two
points on 99 problems, whatever is compared. Intervals are of a bootstrap over problems, of which
each counts with its mean over draws; differences are paired. `best_fixed` is the fixed split that
was best in the other draws, judged in this one: the best of 18 in the same draw is better than any
of them by chance alone. Where production would refuse the deadline, because too few problems would
get an answer, it is made to answer as well as it can, as its rivals do.

Falsified when: the joint split is significantly below the best rival at any deadline, or nowhere
above branches only or drafts only.

    python -m tests.benchmarks.split --recordings FILE --latency FILE --model M --dataset D
    python -m tests.benchmarks.split --draw docs/figures/split.png --records FILE [FILE ...]
"""

import argparse
import json
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from scheduler.core.config import SchedulerConfig
from scheduler.core.fit import fit_answers
from scheduler.core.fit_answers import RecordedProblem
from scheduler.core.simulation.policy import Policy, Production
from scheduler.core.simulation.simulator import simulate
from scheduler.core.simulation.world import SimulatedJob, SimulatedWorker
from scheduler.fit_answers import read_recordings
from tests.benchmarks.data import GPUS_PER_ENGINE, H100_TP4, h100_tp4_latency
from tests.benchmarks.policies.fixed import earliest_deadline_first
from tests.benchmarks.policies.restricted import BRANCHES_ONLY, DRAFT_ONLY
from tests.benchmarks.policies.static_greedy import static_greedy
from tests.benchmarks.split_figure import draw
from tests.benchmarks.split_summary import JOINT, Record, print_table, read_records, summarize

DEADLINES_S = (5.0, 10.0, 20.0, 30.0, 60.0, 120.0)
FIXED = [(b, g) for b in (1, 4, 8, 16, 32, 64) for g in (0, 2, 4)]
PROMPT_TOKENS = 150
GAP_S = 5.0
"""Between the deadline of a problem and the arrival of the next, so that the engine is idle."""


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
    parser.add_argument("--draws", type=int, default=5, help="of halves, and of branches' order")
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
    numbered = sorted(read_recordings(args.recordings, args.model, args.dataset))
    if len(numbered) < 2:
        raise ValueError(f"{args.recordings} has fewer than two such problems")
    latency = h100_tp4_latency(args.latency)
    for number in range(args.draws):
        rng = np.random.default_rng((args.seed, number))
        order = rng.permutation(len(numbered))
        for half in np.array_split(order, 2):
            learned = [numbered[i][1] for i in order if i not in half]
            judged = [numbered[i] for i in half[: max(args.problems // 2, 1)]]
            answers = fit_answers(
                learned,
                model=args.model,
                family=args.dataset,
                source=f"half of {args.recordings.name}",
            )
            worker = SimulatedWorker(
                name="engine",
                spec=replace(H100_TP4, model=args.model),
                latency=latency,
                believed_latency=latency,
                believed_answers=answers,
                num_gpus=GPUS_PER_ENGINE,
            )
            problems = [(index, shuffled(problem, rng)) for index, problem in judged]
            for deadline_s in args.deadlines:
                for policy in policies():
                    for record in replay(policy, worker, problems, deadline_s):
                        yield {**record, "draw": number}


def policies() -> list[Policy]:
    """The joint split and its rivals."""
    production = Production(JOINT, best_effort=True)
    return [
        production,
        replace(BRANCHES_ONLY, production=production),
        replace(DRAFT_ONLY, production=production),
        static_greedy(),
        *(earliest_deadline_first(branches, draft) for branches, draft in FIXED),
    ]


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
        plan = job.batches[-1].plan if job.batches else None
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


if __name__ == "__main__":
    main()
