"""Readers of the files that benchmarks are given: recordings, serving latencies, arrivals."""

import csv
import gzip
import json
from dataclasses import dataclass, replace
from datetime import datetime
from importlib import resources
from operator import itemgetter
from pathlib import Path
from typing import IO

import numpy as np

from scheduler.core.fit import StepMeasurement, fit_latency
from scheduler.core.fit_answers import RecordedProblem
from scheduler.core.latency import FloatArray, LatencyProfile
from scheduler.core.plan import EngineSpec
from scheduler.fit_answers import read_recordings, recordings_by_pair


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


def recorded_pairs(path: Path) -> dict[tuple[str, str], list[RecordedProblem]]:
    """Recorded problems by model and data set.

    Raises:
        ValueError: A line is not a recording.
    """
    return {
        name: [problem for _, problem in sorted(numbered, key=itemgetter(0))]
        for name, numbered in sorted(recordings_by_pair(path).items())
    }


def read_serving(path: Path) -> list[ServingRow]:
    """Rows of `gpu_serving_latency.csv`, gzip or not.

    Raises:
        ValueError: A row lacks a column, or has no number where one belongs.
    """
    with _open_csv(path) as lines:
        rows = csv.DictReader(lines)
        try:
            return [_serving_row(row) for row in rows]
        except (KeyError, TypeError, ValueError) as error:
            number = rows.line_num
            raise ValueError(f"{path} line {number} is no serving latency: {error!r}") from error


def _serving_row(row: dict[str, str]) -> ServingRow:
    return ServingRow(
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


def measurement_of(row: ServingRow) -> StepMeasurement:
    """A step of the row's batch in the middle of its completions."""
    return StepMeasurement(
        rows=int(row.batch_size),
        num_speculative_tokens=0,
        context_tokens=row.batch_size * (row.isl + row.osl / 2),
        step_time_s=row.tpot_s,
        # While a request decodes, the others of its batch prefill once each.
        stall_tokens=(row.batch_size - 1) * row.isl / row.osl,
    )


def read_arrivals(path: Path) -> FloatArray:
    """Arrivals in seconds from the first, ascending; Azure traces, gzip or not."""
    with _open_csv(path) as lines:
        # The trace has seven digits of a second, Python's instants hold six.
        instants = [datetime.fromisoformat(row["TIMESTAMP"][:26]) for row in csv.DictReader(lines)]
    first = min(instants)
    return np.sort(np.array([(instant - first).total_seconds() for instant in instants]))


def _open_csv(path: Path) -> IO[str]:
    opener = gzip.open if path.suffix == ".gz" else open
    return opener(path, "rt", encoding="utf-8", newline="")


H100_TP4 = EngineSpec(
    engine="vllm",
    model="",
    max_num_seqs=128,
    max_model_len=40_960,
    draft_lengths=(0, 1, 2, 3, 4, 5),
    # 4 x 80 GB at 90%, less 64 GB of weights in bf16, at 256 KiB per token (64 layers, 8 KV heads
    # of 128 in bf16).
    kv_capacity_tokens=854_000,
)
"""A 32B-class model on four H100; the rows go as far as the measurements."""
GPUS_PER_ENGINE = 4


def h100_tp4_latency(path: Path) -> LatencyProfile:
    """Fit the rows of Qwen3-32B on H100, vLLM, tensor parallel 4, of a serving latency file.

    Acceptance and the time of drafting are those of the shipped profile, which says where they come
    from: a serving latency file has none.

    Raises:
        ValueError: The file has too few such rows.
    """
    rows = [
        row
        for row in read_serving(path)
        if (row.backend, row.model, row.system) == ("vllm", "Qwen/Qwen3-32B", "h100_sxm")
        and row.tensor_parallel == GPUS_PER_ENGINE
        and not row.precision
    ]
    if len(rows) < 8:
        raise ValueError(f"{path} has {len(rows)} rows of Qwen3-32B, vLLM, H100, TP 4: too few")
    profiles = resources.files("scheduler") / "profiles"
    shipped = LatencyProfile.from_dict(
        json.loads((profiles / "h100-tp4-qwen3-32b.json").read_text(encoding="utf-8"))
    )
    fitted = fit_latency(
        [measurement_of(row) for row in rows],
        engine="vllm",
        model=rows[0].model,
        device="4x NVIDIA H100 80GB SXM",
        method=f"least squares on {len(rows)} rows of {path.name}; drafts of the shipped profile",
        measured_at=shipped.measured_at,
        token_knots=(0.0,),
    )
    return replace(
        fitted,
        draft_base_s=shipped.draft_base_s,
        draft_row_s=shipped.draft_row_s,
        acceptance=shipped.acceptance,
        acceptance_tries=shipped.acceptance_tries,
        acceptance_decay_per_token=shipped.acceptance_decay_per_token,
    )
