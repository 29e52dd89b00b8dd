"""Do learned answer profiles forecast problems that they have not seen?

For each model and data set of a file of recordings, some problems are drawn at random and learned
from, and the others are judged: accuracy of majority voting for several widths and caps, the share
of branches that finish within a cap, the tokens that a problem lasts and the row-tokens that it
holds, with a vote that ends when it is decided. Regimes:

- `--learn 0` (default): halves, each the judge of the other, from the cold start;
- `--learn 50 --width 8 --prior family`: warm-up of a model never seen on 50 problems of 8 branches,
  drawn toward what the other models did on the same family (`models`: on other families);
- `--stopped`: the same, branches being aborted when the vote is decided, as the service does;
- `--unlabeled`: the same without knowing which answers are right.

Errors are forecast minus outcome, in points (accuracy, share) or percent (tokens): `bias` is their
mean, `|bias|` the mean size of the bias of each width and cap over the draws, `error` the mean size
in one draw. The judged problems differ from the learned ones by chance, so `floor` is the error of
taking the learned problems' own outcomes as the forecast (all their branches, whatever `--width`).
The claim fails if accuracy has a bias above 2 points on average, or an error above the floor.

    python -m tests.benchmarks.answers RECORDINGS [--draws 5] [--learn N] [--records FILE]
"""

import argparse
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from scheduler.core.accuracy import AnswerProfile
from scheduler.core.fit_answers import PRIOR_PROBLEMS, fit_answers
from scheduler.core.latency import FloatArray
from scheduler.core.recorded import RecordedProblem
from scheduler.core.shrinkage import ANY_FAMILY, Prior, prior_of
from scheduler.fit_answers import recordings_by_pair
from tests.benchmarks.answer_outcomes import Outcomes, forecast, replay

CAP_SHARES = (0.25, 0.5, 0.75, 0.9, 0.95, 0.98)


@dataclass(frozen=True)
class Group:
    """One model on one data set, replayed."""

    model: str
    dataset: str
    problems: list[RecordedProblem]
    caps: FloatArray
    outcomes: Outcomes


def read_groups(path: Path) -> Iterator[Group]:
    """Every model and data set of a file of recordings."""
    for (model, dataset), numbered in sorted(recordings_by_pair(path).items()):
        problems = [problem for _, problem in numbered]
        tokens = np.concatenate([p.tokens for p in problems])
        is_cut = np.concatenate([p.is_cut for p in problems])
        caps = np.quantile(tokens, CAP_SHARES)
        caps = np.minimum(caps, tokens[is_cut].min(initial=10**9) - 1)
        rng = np.random.default_rng(1)
        each = [replay(problem, caps, rng) for problem in problems]
        together = (np.stack(values) for values in zip(*(one.arrays for one in each), strict=True))
        yield Group(model, dataset, problems, caps, Outcomes(*together))


def draws_of(
    num_problems: int, options: argparse.Namespace
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Problems to learn from, and to judge by."""
    for draw in range(options.draws):
        order = np.random.default_rng(draw).permutation(num_problems)
        if options.learn:
            yield order[: options.learn], order[options.learn :]
        else:
            half = num_problems // 2
            yield order[:half], order[half:]
            yield order[half:], order[:half]


def thinned(
    problem: RecordedProblem, options: argparse.Namespace, rng: np.random.Generator
) -> RecordedProblem:
    """What would be stored of a problem: a few branches, perhaps stopped, perhaps not graded."""
    kept = rng.permutation(len(problem.tokens))[: options.width or None]
    last = max(problem.tokens)
    if options.stopped:
        last = _decided_at(problem, sorted(kept, key=lambda i: problem.tokens[i]))
    return RecordedProblem(
        classes=tuple(problem.classes[i] for i in kept),
        tokens=tuple(min(problem.tokens[i], last) for i in kept),
        finished=tuple(not problem.is_cut[i] and problem.tokens[i] <= last for i in kept),
        is_labeled=not options.unlabeled,
    )


def _decided_at(problem: RecordedProblem, by_end: Sequence[int]) -> int:
    """Tokens at which the vote of these branches cannot be changed by the rest of them."""
    counts: Counter[int] = Counter()
    for number, branch in enumerate(by_end, start=1):
        vote = problem.votes[branch]
        counts.update([] if vote is None else [vote])
        first, second = ([n for _, n in counts.most_common(2)] + [0, 0])[:2]
        if first - second > len(by_end) - number:
            return problem.tokens[branch]
    return problem.tokens[by_end[-1]]


def prior_for(group: Group, learned: Sequence[AnswerProfile], kind: str) -> Prior:
    """What the fit is drawn toward: nothing of the judged model is in it."""
    others = [profile for profile in learned if profile.model != group.model]
    if kind == "cold":
        return Prior(AnswerProfile.uninformed(group.model, group.dataset), PRIOR_PROBLEMS)
    if kind == "models":
        others = [profile for profile in others if profile.family != group.dataset]
        return prior_of(group.model, ANY_FAMILY, others)
    return prior_of(group.model, group.dataset, others)


def judge(
    group: Group, prior: Prior, options: argparse.Namespace
) -> tuple[list[list[FloatArray]], list[list[FloatArray]]]:
    """Errors of the fits, and of the learned problems as a forecast, by draw and quantity."""
    errors, floors = [], []
    for draw, (learn, rest) in enumerate(draws_of(len(group.problems), options)):
        rng = np.random.default_rng(draw)
        profile = fit_answers(
            [thinned(group.problems[i], options, rng) for i in learn],
            model=group.model,
            family=group.dataset,
            source="benchmark",
            prior=prior.profile,
            prior_problems=prior.problems,
        )
        truth = group.outcomes.of(rest)
        errors.append(forecast(profile, group.caps).errors(truth))
        floors.append(group.outcomes.of(learn).errors(truth))
    return errors, floors


def main() -> None:
    """Judge every group, print a table, write the records."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("recordings", type=Path)
    parser.add_argument("--draws", type=int, default=5)
    parser.add_argument("--learn", type=int, default=0, help="problems; 0 for half of them")
    parser.add_argument("--width", type=int, default=0, help="branches per problem; 0 for all")
    parser.add_argument("--prior", choices=("cold", "models", "family"), default="cold")
    parser.add_argument("--unlabeled", action="store_true", help="learn without grades")
    parser.add_argument("--stopped", action="store_true", help="learn from decided votes")
    parser.add_argument("--records", type=Path)
    options = parser.parse_args()
    groups = list(read_groups(options.recordings))
    learned = [
        fit_answers(g.problems, model=g.model, family=g.dataset, source="benchmark") for g in groups
    ]
    records = []
    for group in groups:
        # Fewer judges than that say nothing.
        if len(group.problems) < options.learn + 10:
            continue
        errors, floors = judge(group, prior_for(group, learned, options.prior), options)
        record: dict[str, object] = {"model": group.model, "dataset": group.dataset}
        for index, name in enumerate(("accuracy", "finished", "duration", "work")):
            mine, chance = (np.stack([e[index] for e in each]) for each in (errors, floors))
            record |= {
                f"{name}_bias": float(mine.mean()),
                f"{name}_bias_size": float(np.abs(mine.mean(axis=0)).mean()),
                f"{name}_error": float(np.abs(mine).mean()),
                f"{name}_floor": float(np.abs(chance).mean()),
            }
            record[f"{name}_table"] = mine.mean(axis=0).round(2).tolist()
        records.append(record)
        print(_line(record), flush=True)
    mean: dict[str, object] = {"model": "mean", "dataset": ""}
    for key in (key for key, value in records[0].items() if isinstance(value, float)):
        mean[key] = float(np.mean([record[key] for record in records]))
    print(_line(mean))
    if options.records:
        settings = {k: v for k, v in vars(options).items() if k not in ("recordings", "records")}
        lines = (json.dumps({**settings, **record}) + "\n" for record in records)
        options.records.write_text("".join(lines), encoding="utf-8")
    print(json.dumps({k: round(v, 2) for k, v in mean.items() if isinstance(v, float)}))


def _line(record: dict[str, object]) -> str:
    parts = [f"{str(record['model'])[:14]:14} {str(record['dataset'])[:8]:8}"]
    for name in ("accuracy", "finished", "duration", "work"):
        values = (record[f"{name}_{what}"] for what in ("bias", "bias_size", "error", "floor"))
        bias, size, error, floor = values
        parts.append(
            f"{name} bias {bias:+5.1f} |bias| {size:4.1f} error {error:4.1f} of {floor:4.1f}"
        )
    return " | ".join(parts)


if __name__ == "__main__":
    main()
