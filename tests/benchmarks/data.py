"""Readers of the files that benchmarks are given: recordings, serving latencies, arrivals."""

import csv
import gzip
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np

from scheduler.core.fit_answers import RecordedProblem
from scheduler.core.latency import FloatArray
from scheduler.fit_answers import read_recordings


@dataclass(frozen=True, slots=True)
class ServingRow:
    """One published measurement of serving latency.

    Attributes:
        isl, osl: Prompt and completion tokens of every request.
        batch_size: Requests that were served at once.
    """

    backend: str
    model: str
    system: str
    precision: str
    tensor_parallel: int
    isl: float
    osl: float
    batch_size: float
    ttft_s: float
    tpot_s: float


def read_halves(
    path: Path, model: str, dataset: str, *, seed: int = 0
) -> tuple[list[RecordedProblem], list[RecordedProblem]]:
    """Recorded problems in two random halves: to learn from, and to judge by.

    Raises:
        ValueError: The file has fewer than two problems of this model and data set.
    """
    problems = [problem for _, problem in sorted(read_recordings(path, model, dataset))]
    if len(problems) < 2:
        raise ValueError(f"{path} has fewer than two problems of {model!r} on {dataset!r}")
    order = np.random.default_rng(seed).permutation(len(problems))
    half = len(problems) // 2
    return [problems[i] for i in order[:half]], [problems[i] for i in order[half:]]


def read_serving(path: Path) -> list[ServingRow]:
    """Rows of `gpu_serving_latency.csv`, gzip or not."""
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt", encoding="utf-8", newline="") as lines:
        return [
            ServingRow(
                backend=row["backend"],
                model=row["model_path"],
                system=row["system"],
                precision=row["precision"],
                tensor_parallel=int(row["tp_size"]),
                isl=float(row["isl"]),
                osl=float(row["osl"]),
                batch_size=float(row["batch_size"]),
                ttft_s=float(row["silicon_ttft_ms"]) / 1e3,
                tpot_s=float(row["silicon_tpot_ms"]) / 1e3,
            )
            for row in csv.DictReader(lines)
        ]


def read_arrivals(path: Path) -> FloatArray:
    """Arrivals in seconds from the first, ascending; Azure traces, gzip or not."""
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt", encoding="utf-8", newline="") as lines:
        # The trace has seven digits of a second, Python's instants hold six.
        instants = [datetime.fromisoformat(row["TIMESTAMP"][:26]) for row in csv.DictReader(lines)]
    first = min(instants)
    return np.sort(np.array([(instant - first).total_seconds() for instant in instants]))
