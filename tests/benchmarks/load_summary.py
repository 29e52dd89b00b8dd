"""The figures of one run of `load`, its records, and a line of them for people."""

import math
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

import numpy as np

from scheduler.core.simulation.records import Outcome


def summarize(outcome: Outcome) -> dict[str, float]:
    """The figures of one run."""
    total = sum(job.num_problems for job in outcome.jobs)
    admitted = [job for job in outcome.jobs if job.is_admitted]
    promised = [job for job in admitted if job.is_promised]
    # Only production tells what it expects.
    told = [job for job in promised if job.forecast and math.isfinite(job.forecast.accuracy)]
    num_told = max(sum(job.num_problems for job in told), 1)
    expected = sum(job.num_problems * job.forecast.accuracy for job in told if job.forecast)
    problems = [problem for job in admitted for problem in job.problems]
    right = sum(job.num_right for job in outcome.jobs)
    gpu_s = sum(engine.gpu_seconds for engine in outcome.engines)
    tokens = sum(job.tokens for job in outcome.jobs)
    return {
        "accuracy": right / total,
        "accuracy_of_admitted": right / max(len(problems), 1),
        "refused_jobs": 1 - len(admitted) / len(outcome.jobs),
        "refused_problems": 1 - len(problems) / total,
        "unpromised_problems": 1 - sum(job.num_problems for job in promised) / total,
        "told_accuracy": expected / num_told,
        "accuracy_of_told": sum(job.num_right for job in told) / num_told,
        "attainment_of_promised": sum(job.met_deadline for job in promised) / max(len(promised), 1),
        "voted_in_time": sum(problem.has_vote for problem in problems) / total,
        "degraded_problems": sum(p.is_degraded for p in problems) / max(len(problems), 1),
        "gpu_seconds_per_right": gpu_s / max(right, 1),
        "tokens_per_problem": tokens / max(len(problems), 1),
        "branches_per_problem": sum(p.num_branches for p in problems) / max(len(problems), 1),
    }


def standard_error(outcome: Outcome, other: Outcome) -> float:
    """Of the difference in accuracy, jobs being the independent units."""
    total = sum(job.num_problems for job in outcome.jobs)
    gains = [
        job.num_right - base.num_right for job, base in zip(outcome.jobs, other.jobs, strict=True)
    ]
    return float(np.std(gains) * np.sqrt(len(gains)) / total)


def records_of(outcome: Outcome, load: float, label: str) -> Iterable[dict[str, Any]]:
    """One record per job."""
    for job in outcome.jobs:
        yield {
            "load": load,
            "policy": label,
            "name": outcome.policy,
            "job": job.id,
            "time_s": job.deadline_s - job.arrival_s,
            "is_admitted": job.is_admitted,
            "is_promised": job.is_promised,
            "forecast": asdict(job.forecast) if job.forecast else None,
            "plans": [(asdict(batch.plan), batch.num_problems) for batch in job.batches],
            "finish_s": job.finish_s - job.arrival_s,
            "met_deadline": job.met_deadline,
            "num_problems": job.num_problems,
            "num_answered": job.num_answered,
            "num_voted": sum(problem.has_vote for problem in job.problems),
            "num_right": job.num_right,
            "tokens": job.tokens,
        }


def line(label: str, figures: dict[str, Any], wall_s: float) -> str:
    """One line for people."""
    return (
        f"  {label:14} {figures['name']:12} accuracy {figures['accuracy']:.3f}"
        f" (of admitted {figures['accuracy_of_admitted']:.3f},"
        f" refused {figures['refused_problems']:.3f},"
        f" without a promise {figures['unpromised_problems']:.3f}),"
        f" attainment of promised {figures['attainment_of_promised']:.3f},"
        f" right {figures['accuracy_of_told']:.3f} of {figures['told_accuracy']:.3f} told,"
        f" voted in time {figures['voted_in_time']:.3f},"
        f" GPU-s/right {figures['gpu_seconds_per_right']:.1f},"
        f" tokens {figures['tokens_per_problem']:.0f},"
        f" branches {figures['branches_per_problem']:.2f} [{wall_s:.1f} s]"
    )
