"""The simulated engines: what they serve, how fast they are, and what goes wrong with them.

Answers and lengths are recordings of real models: of EXAONE-Deep-32B to 40 problems of MATH-500
and of the shipped demo model to arithmetic. Times are modeled: those of the shipped H100 profile,
and for the demo model numbers of the size that `slackline calibrate` finds on two CPU cores.
"""

import gzip
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from infra.demo_engines import DEMO_DATA_DIR, DEMO_MODEL_DIR, PROFILES_DIR
from infra.simulated.arrivals import DAY_S, Habit
from scheduler.core.accuracy import AnswerProfile
from scheduler.core.fit_answers import fit_answers
from scheduler.core.latency import LatencyProfile
from scheduler.core.plan import EngineSpec
from scheduler.core.recorded import RecordedProblem
from scheduler.core.simulation.world import SimulatedWorker
from scheduler.fit_answers import read_recordings
from worker.demo_model.problems import NUM_SHIPPED, RECORDED_SEED, held_out_problems

MARK = " (simulated)"
"""At the end of every model's name, so that whatever shows the model shows this."""

TENANTS = ("Academy (simulated)", "Laboratory (simulated)")
"""Who submits; the first one most."""

Change = tuple[float, SimulatedWorker]


@dataclass(frozen=True, slots=True)
class Question:
    """A recorded problem.

    Attributes:
        answers: What each recorded branch answered; empty for none.
    """

    prompt: str
    reference_answer: str
    answers: tuple[str, ...]
    recorded: RecordedProblem


@dataclass(frozen=True, slots=True)
class Fleet:
    """The workers of one model, with those who use it.

    Attributes:
        changes: Seconds from the beginning at which a worker becomes another.
    """

    family: str
    workers: tuple[SimulatedWorker, ...]
    changes: tuple[Change, ...]
    questions: tuple[Question, ...]
    habits: tuple[Habit, ...]

    @property
    def model(self) -> str:
        """What its jobs ask for."""
        return self.workers[0].spec.model


def fleets(days: float) -> list[Fleet]:
    """Both fleets, with a drift of each somewhere in these days."""
    return [_exaone(days), _demo(days)]


def _exaone(days: float) -> Fleet:
    latency = LatencyProfile.from_dict(_json(PROFILES_DIR / "h100-tp4-qwen3-32b.json"))
    answers = AnswerProfile.from_dict(_json(PROFILES_DIR / "exaone-deep-32b-math500.json"))
    spec = EngineSpec(
        engine="vllm",
        model=answers.model + MARK,
        max_num_seqs=64,
        max_model_len=32_768,
        draft_lengths=(0, 1, 2, 3, 4, 5),
        kv_capacity_tokens=854_000,
    )
    workers = tuple(
        SimulatedWorker(f"simulated-h100-{number}", spec, latency.scaled(off), latency, answers)
        for number, off in enumerate((1.02, 0.97), start=1)
    )
    asked = [json.loads(line) for line in _lines(DEMO_DATA_DIR / "math500_40.jsonl")]
    return Fleet(
        family="math500",
        workers=workers,
        changes=_drift(workers[0], 0.55 * days, 0.65 * days, ratio=1.8),
        questions=_questions(
            DEMO_DATA_DIR / "recorded_branches_40.jsonl.gz",
            [(row["prompt"], row["reference_answer"]) for row in asked],
        ),
        habits=(
            Habit("tutoring", 0, 24, (1, 4), (12, 18, 25, 35, 50, 60, 120, 240)),
            Habit("homework", 0, 9, (10, 40), (60, 90, 120, 300, 600, 900)),
            Habit("exam", 0, 2, (60, 120), (40, 100, 150, 300, 1200, 3600), best_effort=True),
            Habit("nightly grading", 0, 0.9, (120, 240), (6 * 3600, 9 * 3600), hour=21),
            Habit("ablation", 1, 4, (40, 80), (200, 900, 1800, 3600, 4 * 3600)),
        ),
    )


def _demo(days: float) -> Fleet:
    latency = LatencyProfile(
        engine="torch",
        model="slackline-demo",
        device="two CPU cores",
        method="of the size that a calibration on two CPU cores finds; for simulations only",
        measured_at="2026-11-21",
        base_s=0.0045,
        token_slopes_s=(0.00012,),
        context_s=1e-8,
        draft_base_s=0.0009,
        draft_row_s=0.00001,
        prefill_base_s=0.004,
        prefill_token_s=0.00002,
        residual_sigma=0.06,
        acceptance=(0.84, 0.86, 0.87, 0.87, 0.87, 0.87),
    )
    recordings = DEMO_MODEL_DIR / "recordings.jsonl.gz"
    held_out = held_out_problems(RECORDED_SEED, NUM_SHIPPED)
    questions = _questions(recordings, [(each.prompt, each.reference_answer) for each in held_out])
    half = len(questions) // 2
    spec = EngineSpec(
        engine="torch",
        model="slackline-demo" + MARK,
        max_num_seqs=64,
        max_model_len=1024,
        draft_lengths=(0, 2, 4, 6),
        kv_capacity_tokens=65_536,
        chars_per_token=1.0,
    )
    answers = fit_answers(
        [question.recorded for question in questions[:half]],
        model=spec.model,
        family="arithmetic",
        source=f"the first half of {recordings.name}",
    )
    worker = SimulatedWorker("simulated-cpu-1", spec, latency.scaled(1.05), latency, answers)
    return Fleet(
        family="arithmetic",
        workers=(worker,),
        changes=_drift(worker, 0.30 * days, 0.33 * days, ratio=1.6),
        questions=questions[half:],
        habits=(
            Habit("quiz", 0, 20, (3, 30), (1.5, 2, 3, 4, 6, 10, 15, 30, 60)),
            Habit("practice sheet", 1, 4, (20, 60), (30, 60, 300)),
        ),
    )


def _drift(
    worker: SimulatedWorker, begin_day: float, end_day: float, *, ratio: float
) -> tuple[Change, ...]:
    """The engine gets slower and recovers; what is believed of it follows hours behind."""
    slow = worker.latency.scaled(ratio)
    believed_slow = worker.believed_latency.scaled(ratio)
    begin_s, end_s, behind_s = begin_day * DAY_S, end_day * DAY_S, 6 * 3600.0
    return (
        (begin_s, replace(worker, latency=slow)),
        (begin_s + behind_s, replace(worker, latency=slow, believed_latency=believed_slow)),
        (end_s, replace(worker, believed_latency=believed_slow)),
        (end_s + behind_s, worker),
    )


def _questions(recordings: Path, asked: list[tuple[str, str]]) -> tuple[Question, ...]:
    """Recorded problems with their prompts and references, by number."""
    rows = [json.loads(line) for line in _lines(recordings)]
    (pair,) = {(row["model"], row["dataset"]) for row in rows}
    recorded = dict(read_recordings(recordings, *pair))
    return tuple(
        Question(
            *asked[number],
            answers=tuple(
                row["answers"][answer]
                for answer, tokens in zip(row["sample_answer"], row["sample_tokens"], strict=True)
                if tokens > 0
            ),
            recorded=recorded[number],
        )
        for row in rows
        if (number := int(row["problem_num"])) in recorded
    )


def _lines(path: Path) -> list[str]:
    opener: Callable[..., Any] = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt", encoding="utf-8") as file:
        return list(file)


def _json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))
