"""A made-up problem set whose recorded answers are known, and a Slackline that replays them."""

import json
import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from api.client import Problem
from tests.factories import answer_profile, latency_profile
from tests.stack import Stack, open_folder, running_stack

MODEL = "recorded"
NUM_PROBLEMS = 40
NUM_SAMPLES = 16
STEP_TIME_S = 0.01
MEAN_TOKENS = 200


def problem_set(num_problems: int = NUM_PROBLEMS) -> list[Problem]:
    """Problems whose right answer is their number."""
    return [
        Problem(id=f"p{number}", prompt=f"Say {number}.", reference_answer=str(number))
        for number in range(num_problems)
    ]


def replay_environment(folder: Path, model: str = MODEL) -> dict[str, str]:
    """Write recordings, problems and profiles; returns the environment that names them.

    Of the samples of a problem two thirds are right, so that votes matter. Lengths spread around
    `MEAN_TOKENS`, which take about two seconds.
    """
    rng = random.Random(7)
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for number in range(NUM_PROBLEMS):
        wrong = [rng.random() < 1 / 3 for _ in range(NUM_SAMPLES)]
        row = {
            "dataset": "made-up",
            "model": model,
            "problem_num": number,
            "answers": [str(number), str(number + 1)],
            "sample_answer": [int(is_wrong) for is_wrong in wrong],
            "sample_tokens": [rng.randint(100, 300) for _ in range(NUM_SAMPLES)],
        }
        rows.append(row)
    latency = latency_profile(model=model, base_s=STEP_TIME_S, token_slopes_s=(1e-6,))
    answers = answer_profile(model=model, length_quantiles=(100.0, 200.0, 300.0))
    files: dict[str, tuple[str, Sequence[Mapping[str, Any]]]] = {
        "SLACKLINE_RECORDINGS": ("recorded.jsonl", rows),
        "SLACKLINE_PROBLEMS": ("problems.jsonl", problem_set()),
        "SLACKLINE_LATENCY_PROFILE": ("latency.json", [latency.to_dict()]),
        "SLACKLINE_ANSWER_PROFILE": ("answers.json", [answers.to_dict()]),
    }
    for name, lines in files.values():
        (folder / name).write_text("".join(json.dumps(line) + "\n" for line in lines))
    paths = {variable: str(folder / name) for variable, (name, _) in files.items()}
    return {"SLACKLINE_MODEL": model, **paths}


@contextmanager
def replay_stack() -> Iterator[Stack]:
    """A whole Slackline with a replay worker, on a folder of its own."""
    with open_folder() as folder:
        env = replay_environment(folder / "replay")
        with running_stack(folder / "data", "replay", env=env) as stack:
            yield stack
