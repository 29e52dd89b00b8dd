"""Files for a replay worker: a made-up problem set whose recorded answers are known."""

import json
import random
from pathlib import Path

from api.client import Problem
from tests.factories import answer_profile, latency_profile

MODEL = "recorded"
STEP_TIME_S = 0.01
MEAN_TOKENS = 200


def problem_set(num_problems: int) -> list[Problem]:
    """Problems whose right answer is their number."""
    return [
        Problem(id=f"p{number}", prompt=f"Say {number}.", reference_answer=str(number))
        for number in range(num_problems)
    ]


def replay_environment(folder: Path, num_problems: int, *, num_samples: int = 16) -> dict[str, str]:
    """Write recordings, problems and profiles; returns the environment that names them.

    Of the samples of a problem two thirds are right, so that votes matter. Lengths spread around
    `MEAN_TOKENS`, which take about two seconds.
    """
    rng = random.Random(7)
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for number in range(num_problems):
        wrong = [rng.random() < 1 / 3 for _ in range(num_samples)]
        row = {
            "dataset": "made-up",
            "model": MODEL,
            "problem_num": number,
            "answers": [str(number), str(number + 1)],
            "sample_answer": [int(is_wrong) for is_wrong in wrong],
            "sample_tokens": [rng.randint(100, 300) for _ in range(num_samples)],
        }
        rows.append(row)
    latency = latency_profile(model=MODEL, base_s=STEP_TIME_S, token_slopes_s=(1e-6,))
    answers = answer_profile(model=MODEL, length_quantiles=(100.0, 200.0, 300.0))
    files = {
        "SLACKLINE_RECORDINGS": ("recorded.jsonl", rows),
        "SLACKLINE_PROBLEMS": ("problems.jsonl", list(problem_set(num_problems))),
        "SLACKLINE_LATENCY_PROFILE": ("latency.json", [latency.to_dict()]),
        "SLACKLINE_ANSWER_PROFILE": ("answers.json", [answers.to_dict()]),
    }
    for name, lines in files.values():
        (folder / name).write_text("".join(json.dumps(line) + "\n" for line in lines))
    return {variable: str(folder / name) for variable, (name, _) in files.items()}
