"""Generates seeded arithmetic word problems with their scratch work and final answer.

Theory of operation: a problem is a chain. A pile starts at some size, and every sentence of
the story adds to it, takes from it or multiplies it. The scratch work has one line per
sentence, which names the event and then computes on numbers that are written least
significant digit first and padded to four digits, so that carries flow in reading order and
digits of a kind lie at fixed distances. A story that doubles 47 coins and loses 5 reads

     grows 2: 7400*2000=4900
     loses 5: 4900-5000=9800
    #### 89

Training text may contain slips: a digit of a result is noted one too high or too low, and the
chain goes on from the wrong number. They teach a model to err at random rather than always in
the same place, which is what makes voting over branches worthwhile. Held-out problems have none.
"""

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

NUM_DIGITS = 4
MAX_VALUE = 9999
"""Largest size of the pile at any time; every number of a problem has at most four digits."""

SHIPPED_SEED = 20_260_701
RECORDED_SEED = 20_260_702
TRAINING_SEED = 1
"""Seeds of the three disjoint sets; `held_out_prompts` is what keeps them disjoint."""

TRAINED_NUM_STEPS = range(2, 11)
"""Chain lengths seen in training, drawn uniformly."""

SHIPPED_NUM_STEPS = range(2, 11)
"""Chain lengths of the shipped and the recorded set, dealt in turn."""

NUM_SHIPPED = 200

_NAMES = (
    ("Mia", "She"),
    ("Tom", "He"),
    ("Ada", "She"),
    ("Ben", "He"),
    ("Eva", "She"),
    ("Sam", "He"),
    ("Lin", "She"),
    ("Raj", "He"),
    ("Zoe", "She"),
    ("Leo", "He"),
    ("Ivy", "She"),
    ("Max", "He"),
)
_ITEMS = ("coins", "shells", "cards", "stamps", "beads", "pens", "nuts", "books", "kites", "plums")

_GAINS = ("finds", "buys", "wins", "makes", "gets")
_LOSSES = ("loses", "sells", "uses", "drops", "gives")


@dataclass(frozen=True)
class Step:
    """One event of the story: the verb, its operator (+, - or *) and its operand."""

    verb: str
    operator: str
    operand: int

    def apply(self, value: int) -> int:
        """Returns the size of the pile after the event."""
        if self.operator == "+":
            return value + self.operand
        if self.operator == "-":
            return value - self.operand
        return value * self.operand


@dataclass(frozen=True)
class ArithmeticProblem:
    """One word problem: the prompt, the worked completion and the answer in decimal digits."""

    prompt: str
    completion: str
    reference_answer: str
    num_steps: int


def _operand_up_to(rng: random.Random, limit: int) -> int:
    """Draws a number in [1, limit] whose number of digits is uniform over two digits and up."""
    num_digits = rng.randint(min(2, len(str(limit))), len(str(limit)))
    return rng.randint(10 ** (num_digits - 1), min(limit, 10**num_digits - 1))


def _draw_step(rng: random.Random, value: int) -> Step:
    """Draws an event that keeps the pile within [10, MAX_VALUE]."""
    kind = rng.random()
    if kind < 0.2 and 2 * value <= MAX_VALUE:
        return Step("grows", "*", rng.randint(2, min(9, MAX_VALUE // value)))
    can_gain = MAX_VALUE - value >= 10
    can_lose = value >= 20
    if can_gain and (kind < 0.55 or not can_lose):
        return Step(rng.choice(_GAINS), "+", _operand_up_to(rng, MAX_VALUE - value))
    return Step(rng.choice(_LOSSES), "-", _operand_up_to(rng, value - 10))


def _sentence(step: Step, subject: str, friend: str) -> str:
    """Tells one event in words."""
    if step.operator == "*":
        return f"The pile grows {step.operand} times as big."
    if step.verb == "gives":
        return f"{subject} gives {step.operand} to {friend}."
    if step.operator == "+":
        return f"{subject} {step.verb} {step.operand} more."
    return f"{subject} {step.verb} {step.operand}."


def _reversed_digits(value: int) -> str:
    """Writes a number least significant digit first, modulo 10,000."""
    return f"{value % (MAX_VALUE + 1):0{NUM_DIGITS}d}"[::-1]


def _slip(rng: random.Random, digits: str, slip_rate: float) -> str:
    """Moves each digit by one, up or down and modulo 10, with probability `slip_rate`."""
    return "".join(
        str((int(digit) + rng.choice((1, 9))) % 10) if rng.random() < slip_rate else digit
        for digit in digits
    )


def draw_problem(rng: random.Random, num_steps: int, slip_rate: float = 0.0) -> ArithmeticProblem:
    """Draws one problem with a chain of `num_steps` events.

    With a positive `slip_rate`, per digit of a result, the completion may end in a wrong
    answer; `reference_answer` is always the right one.
    """
    (name, pronoun), (friend, _) = rng.sample(_NAMES, 2)
    item = rng.choice(_ITEMS)
    value = noted = _operand_up_to(rng, MAX_VALUE)
    story = [f"Q: {name} has {value} {item}."]
    work = []
    for _ in range(num_steps):
        step = _draw_step(rng, value)
        story.append(_sentence(step, pronoun, friend))
        value = step.apply(value)
        result = _slip(rng, _reversed_digits(step.apply(noted)), slip_rate)
        left, right = _reversed_digits(noted), _reversed_digits(step.operand)
        work.append(f" {step.verb} {step.operand}: {left}{step.operator}{right}={result}\n")
        noted = int(result[::-1])
    story.append(f"How many {item} does {name} have now?\nA:")
    return ArithmeticProblem(
        prompt=" ".join(story),
        completion="".join(work) + f"#### {noted}\n",
        reference_answer=str(value),
        num_steps=num_steps,
    )


def held_out_problems(
    seed: int, num_problems: int, lengths: Sequence[int] = SHIPPED_NUM_STEPS
) -> list[ArithmeticProblem]:
    """Draws a held-out set whose chain lengths are dealt in turn, so any prefix is balanced."""
    rng = random.Random(seed)
    return [draw_problem(rng, lengths[i % len(lengths)]) for i in range(num_problems)]


def held_out_prompts() -> frozenset[str]:
    """Returns the prompts that training must never see."""
    seeds = (SHIPPED_SEED, RECORDED_SEED)
    return frozenset(p.prompt for s in seeds for p in held_out_problems(s, NUM_SHIPPED))


def draw_training_problem(
    rng: random.Random,
    excluded_prompts: frozenset[str],
    lengths: Sequence[int] = TRAINED_NUM_STEPS,
    slip_rate: float = 0.0,
) -> ArithmeticProblem:
    """Draws a training problem, rejecting every prompt in `excluded_prompts`."""
    while True:
        problem = draw_problem(rng, rng.choice(lengths), slip_rate)
        if problem.prompt not in excluded_prompts:
            return problem


def shipped_rows(problems: Sequence[ArithmeticProblem]) -> list[dict[str, str]]:
    """Returns the problem set in the service's submission format."""
    return [
        {"id": f"arith-{i:03d}", "prompt": p.prompt, "reference_answer": p.reference_answer}
        for i, p in enumerate(problems)
    ]


def write_shipped_set(path: Path) -> None:
    """Writes the shipped problem set as JSON lines."""
    rows = shipped_rows(held_out_problems(SHIPPED_SEED, NUM_SHIPPED))
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


if __name__ == "__main__":
    write_shipped_set(Path(__file__).parent / "arithmetic.jsonl")
