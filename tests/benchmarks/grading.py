"""Does grading by equivalence accept other spellings of an answer, and refuse other answers?

Every reference answer of the files is graded against itself in other spellings (`rewrites.same_as`:
fractions as decimals, LaTeX forms, separators, units, orders of a set, ...), against answers that
differ (`rewrites.different_from`: off by one, sign, reciprocal, swapped, ...) and against the
answers of other problems. A refused spelling is a false reject, an accepted other answer a false
accept; both are counted by rule and listed. Then hostile answers are graded, each of which has to
come back within the limit of the grader.

The rules know how an answer is written and not what it means, so each listed case wants a look: an
answer of another problem may mean the same.

    python -m tests.benchmarks.grading --problems FILE... [--limit N] [--records FILE]
"""

import argparse
import json
import random
import threading
import time
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path

from scheduler.core.grading import BY_EQUIVALENCE, Grade
from tests.benchmarks.rewrites import different_from, same_as
from worker.answers import extract_answer
from worker.comparison import Finding, Pair
from worker.equivalence import Equivalence
from worker.grading import Mark, grade

NUM_OTHERS = 3
LIMIT_S = 3.0
HOSTILE = {
    "tower of powers": "10**10**10",
    "latex tower": "9^{9^{9^{9}}}",
    "factorials": "10000000!!",
    "nested parentheses": "(" * 190 + "1" + ")" * 190,
    "nested fractions": "\\frac{1}{" * 60 + "2" + "}" * 60,
    "open braces": "{" * 399,
    "huge number": "9" * 1_000_000,
    "huge text": "x+" * 200_000 + "1",
    "spaces": " " * 1_000_000 + "1",
    "digits and spaces": "1 " * 500_000,
    "sum": "\\sum_{k=1}^{10^{9}} \\frac{1}{k}",
    "integral": "\\int_0^1 e^{e^{e^{x}}} dx",
    "large power": "(x+1)^{100000}",
    "many commas": ",".join("1" * 199),
    "quantifiers": "a" * 399 + "b",
    "nul": "1\0",
}


@dataclass(frozen=True)
class Case:
    """An answer to grade and what is right."""

    reference: str
    answer: str
    rule: str
    is_same: bool


def read_references(path: Path) -> list[str]:
    """The `final_answer` or `answer` of each line."""
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [str(row.get("final_answer") or row["answer"]) for row in rows]


def cases_of(references: list[str]) -> list[Case]:
    """Every spelling and every other answer of every reference."""
    rng = random.Random(0)
    cases = []
    for reference in references:
        cases += [Case(reference, found, rule, True) for rule, found in same_as(reference)]
        cases += [Case(reference, found, rule, False) for rule, found in different_from(reference)]
        others = [other for other in set(references) if _bare(other) != _bare(reference)]
        for other in rng.sample(sorted(others), min(NUM_OTHERS, len(others))):
            cases.append(Case(reference, other, "another's", False))
    return cases


def _bare(answer: str) -> str:
    return "".join(c for c in answer.replace("frac", "") if c.isalnum() or c in "-.")


class Grader:
    """Grades one answer after the other, as a worker does."""

    def __init__(self) -> None:
        self.equivalence = Equivalence(num_processes=1, limit_s=LIMIT_S)
        self.num_by_algebra = 0

    def grade(self, answer: str, reference: str) -> Mark | None:
        """The mark of an answer."""
        steps = grade(extract_answer(answer) or answer.strip(), reference, BY_EQUIVALENCE)
        try:
            pair = next(steps)
            while True:
                pair = steps.send(self.equivalence.known(pair) or self._ask(pair))
        except StopIteration as done:
            mark: Mark | None = done.value
            return mark

    def _ask(self, pair: Pair) -> Finding:
        self.num_by_algebra += 1
        findings: list[Finding] = []
        settled = threading.Event()

        def done(finding: Finding) -> None:
            findings.append(finding)
            settled.set()

        self.equivalence.compare(pair, done)
        settled.wait()
        return findings[0]


def measure(path: Path, grader: Grader, limit: int | None) -> tuple[dict[str, object], list[Case]]:
    """Grade the cases of a file; returns the summary and the cases that went wrong."""
    references = read_references(path)[:limit]
    cases = cases_of(references)
    wrong, ungradable = [], 0
    started = time.monotonic()
    for case in cases:
        mark = grader.grade(case.answer, case.reference)
        assert mark is not None
        ungradable += mark.grade is Grade.UNGRADABLE
        if (mark.grade is Grade.RIGHT) != case.is_same:
            wrong.append(case)
    num_same = sum(case.is_same for case in cases)
    num_rejected = sum(case.is_same for case in wrong)
    summary = {
        "file": path.name,
        "references": len(references),
        "spellings": num_same,
        "false_rejects": num_rejected,
        "others": len(cases) - num_same,
        "false_accepts": len(wrong) - num_rejected,
        "ungradable": ungradable,
        "answers_per_s": round(len(cases) / (time.monotonic() - started)),
    }
    return summary, wrong


def report(summary: dict[str, object], wrong: list[Case]) -> None:
    """Print counts by rule, and each case."""
    print(json.dumps(summary))
    for is_same, title in ((True, "false rejects"), (False, "false accepts")):
        chosen = [case for case in wrong if case.is_same is is_same]
        print(f"  {title}: {dict(Counter(case.rule for case in chosen).most_common())}")
        for case in chosen:
            print(f"    {case.rule:20} {case.reference!r} <- {case.answer!r}")


def attack(grader: Grader) -> dict[str, str]:
    """Grade hostile answers, and say what each got and in which time."""
    print("hostile answers")
    outcomes = {}
    for name, answer in HOSTILE.items():
        started = time.monotonic()
        mark = grader.grade(answer, "\\frac{1}{2}")
        assert mark is not None
        took_s = time.monotonic() - started
        outcomes[name] = mark.grade.value
        print(f"  {name:20} {mark.grade.value:10} {took_s:6.2f} s  {mark.reason[:90]}")
    return outcomes


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--problems", type=Path, nargs="+", required=True)
    parser.add_argument("--limit", type=int, help="only so many references of each file")
    parser.add_argument("--records", type=Path, help="write the cases that went wrong as JSONL")
    arguments = parser.parse_args()
    grader = Grader()
    summaries, records = [], []
    try:
        for path in arguments.problems:
            summary, wrong = measure(path, grader, arguments.limit)
            report(summary, wrong)
            summaries.append(summary)
            records += wrong
        hostile = attack(grader)
    finally:
        grader.equivalence.close()
    if arguments.records:
        lines = (json.dumps(asdict(case)) + "\n" for case in records)
        arguments.records.write_text("".join(lines), encoding="utf-8")
    print(json.dumps({"files": summaries, "by_algebra": grader.num_by_algebra, "hostile": hostile}))


if __name__ == "__main__":
    main()
