"""Command: fit an answer profile to recorded branches.

    python -m scheduler.fit_answers RECORDINGS --model M --dataset D --out FILE

RECORDINGS is JSONL, plain or gzip, one object per problem:
`{"dataset", "model", "problem_num", "classes", "sample_answer", "sample_tokens"}`, where `classes`
is the vote class of each distinct answer (0 right, -1 none, 1.. distinct wrong ones) and
`sample_answer` the index of each sample's answer. Samples of 0 tokens are failed requests and are
left out.
"""

import argparse
import gzip
import json
import sys
from pathlib import Path
from typing import Any

from scheduler.core.accuracy import AnswerProfile
from scheduler.core.fit import RecordedProblem, fit_answers
from scheduler.core.recorded import mark_cut

Pair = tuple[str, str]
"""Model and data set."""
Numbered = list[tuple[int, RecordedProblem]]


def read_recordings(path: Path, model: str, dataset: str) -> Numbered:
    """Recorded problems of one model on one data set, with their numbers; cut branches are marked.

    Raises:
        ValueError: A line is not a recording; the message has its number.
    """
    pair = (model, dataset)
    return recordings_by_pair(path, only=pair).get(pair, [])


def recordings_by_pair(path: Path, *, only: Pair | None = None) -> dict[Pair, Numbered]:
    """`read_recordings` of every model and data set of a file, or of one, in one pass."""
    opener = gzip.open if path.suffix == ".gz" else open
    found: dict[Pair, dict[int, RecordedProblem]] = {}
    with opener(path, "rt", encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            try:
                row = json.loads(line)
                pair = (row["model"], row["dataset"])
                if only in (None, pair):
                    record = _recorded(row)
                    if record is not None:
                        found.setdefault(pair, {})[int(row["problem_num"])] = record
            except (KeyError, IndexError, TypeError, ValueError) as error:
                raise ValueError(f"{path} line {number} is not a recording: {error!r}") from error
    return {
        pair: list(zip(records, mark_cut(list(records.values())), strict=True))
        for pair, records in found.items()
    }


def parse_ranges(text: str) -> frozenset[int]:
    """Numbers listed as `0-39,50`; empty text lists none."""
    numbers: set[int] = set()
    for part in filter(None, text.split(",")):
        first, _, last = part.partition("-")
        numbers.update(range(int(first), int(last or first) + 1))
    return frozenset(numbers)


def fit_file(
    path: Path, *, model: str, dataset: str, source: str, skip: frozenset[int] = frozenset()
) -> AnswerProfile:
    """Fit the recordings of a file, problems in `skip` left out.

    Raises:
        ValueError: The file has no recording of this model and data set, or a malformed line.
    """
    read = read_recordings(path, model, dataset)
    recordings = [record for number, record in read if number not in skip]
    if not recordings:
        raise ValueError(f"{path} has no recordings of model {model!r} on data set {dataset!r}")
    return fit_answers(recordings, model=model, family=dataset, source=source)


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m scheduler.fit_answers")
    parser.add_argument("recordings", type=Path)
    parser.add_argument("--model", required=True, help="model name in the recordings")
    parser.add_argument("--dataset", required=True, help="data set name in the recordings")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--skip-problems", default="", help="problem numbers to hold out: 0-39,50")
    parser.add_argument("--source", default="", help="where the recordings come from")
    options = parser.parse_args(arguments)
    skipped = f", without problems {options.skip_problems}" if options.skip_problems else ""
    source = (options.source or f"branches recorded in {options.recordings.name}") + skipped
    try:
        profile = fit_file(
            options.recordings,
            model=options.model,
            dataset=options.dataset,
            source=source,
            skip=parse_ranges(options.skip_problems),
        )
    except (OSError, ValueError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    options.out.write_text(json.dumps(profile.to_dict(), indent=1) + "\n", encoding="utf-8")
    return 0


def _recorded(row: dict[str, Any]) -> RecordedProblem | None:
    """The branches of one problem; None when every request failed."""
    classes = row["classes"]
    samples = [
        (None if classes[answer] < 0 else int(classes[answer]), int(tokens))
        for answer, tokens in zip(row["sample_answer"], row["sample_tokens"], strict=True)
        if tokens > 0
    ]
    if not samples:
        return None
    return RecordedProblem(
        classes=tuple(vote_class for vote_class, _ in samples),
        tokens=tuple(tokens for _, tokens in samples),
    )


if __name__ == "__main__":
    sys.exit(main())
