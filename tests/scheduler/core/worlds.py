"""Small worlds for the core's tests: profiles, workers, jobs and snapshots, valid by default."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
from numpy.typing import NDArray

from scheduler.core.accuracy import CONCENTRATION_GRID, DIFFICULTY_GRID, AnswerProfile
from scheduler.core.decisions import RiskReason
from scheduler.core.latency import FloatArray, LatencyProfile
from scheduler.core.plan import EngineSpec, Plan
from scheduler.core.snapshot import BatchView, JobView, Snapshot, WorkerView
from scheduler.core.states import BatchState, JobState

NOW = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)
MODEL = "test-model"


def answers() -> AnswerProfile:
    """A model that is right on 60% of branches, on lengths around 500 tokens."""
    base = AnswerProfile.uninformed(MODEL)
    difficulty = np.asarray(DIFFICULTY_GRID)
    rows = difficulty**1.2 + 0.2
    columns = np.array([0.5, 1.0, 2.0, 2.0, 1.0, 0.5])
    weights = np.outer(rows / rows.sum(), columns / columns.sum())
    return replace(
        base,
        source="synthetic",
        num_problems_seen=400,
        num_branches_seen=25600,
        length_quantiles=tuple(0.5 * q for q in base.length_quantiles),
        length_scales=tuple(
            tuple((middle * (scales / middle) ** 0.6).tolist())
            for scales, middle in zip(
                np.asarray(base.length_scales), 2.0 ** (0.5 - difficulty), strict=True
            )
        ),
        answer_rates=(0.98,) * len(DIFFICULTY_GRID),
        concentrations=CONCENTRATION_GRID,
        weights=tuple(tuple(row) for row in weights.tolist()),
    )


def mean_length(profile: AnswerProfile, max_tokens: float) -> float:
    """Mean completion tokens of a branch cut at the cap."""
    grid = np.linspace(0.0, max_tokens, 200)
    return float(np.trapezoid(1.0 - profile.finished_share(grid), grid))


def draw_lengths(
    profile: AnswerProfile, row: int, is_right: NDArray[np.bool_], rng: np.random.Generator
) -> FloatArray:
    """Completion tokens of the branches of one problem of the difficulty in this row."""
    kind = rng.integers(len(profile.length_scales[row]))
    shares = np.linspace(0.0, 1.0, len(profile.length_quantiles))
    median = np.median(profile.length_quantiles)
    drawn = np.interp(rng.random(len(is_right)), shares, profile.length_quantiles)
    p = profile.difficulty[row]
    ratio = profile.wrong_length_ratio ** np.where(is_right, p - 1.0, p)
    lower, upper = profile.length_spreads[row][kind], profile.upper_spreads[row][kind]
    stretched = median * (drawn / median) ** np.where(drawn < median, lower, upper)
    return np.asarray(profile.length_scales[row][kind] * ratio * stretched)


def latency() -> LatencyProfile:
    """An engine bound by reading weights up to 64 tokens a step, with a draft model."""
    return LatencyProfile(
        engine="replay",
        model=MODEL,
        device="none",
        method="synthetic",
        measured_at="2026-01-01",
        base_s=0.01,
        token_knots=(0.0, 64.0),
        token_slopes_s=(2e-5, 1.2e-4),
        context_s=2e-8,
        draft_base_s=5e-4,
        draft_row_s=5e-6,
        prefill_base_s=0.005,
        prefill_token_s=2e-5,
        residual_sigma=0.04,
        acceptance=(0.8, 0.75, 0.7, 0.65),
    )


def worker(
    name: str = "w1",
    *,
    rows: int = 32,
    answers: AnswerProfile | None = None,
    latency: LatencyProfile | None = None,
    heartbeat_at: datetime = NOW - timedelta(seconds=1),
    model: str = MODEL,
    incarnation: str = "i1",
) -> WorkerView:
    """A worker that is alive at `NOW`."""
    return WorkerView(
        name=name,
        incarnation=incarnation,
        spec=EngineSpec(
            engine="replay",
            model=model,
            max_num_seqs=rows,
            max_model_len=16384,
            draft_lengths=(0, 1, 2, 3, 4),
            kv_capacity_tokens=16384 * rows,
        ),
        latency=latency or LATENCY,
        answers=answers or ANSWERS,
        heartbeat_at=heartbeat_at,
    )


def job(
    id: str = "job_1",
    *,
    deadline_s: float = 60.0,
    num_pending: int = 40,
    num_in_flight: int = 0,
    max_branches: int = 16,
    max_tokens: int | None = None,
    min_accuracy: float | None = None,
    model: str = MODEL,
    state: JobState = JobState.QUEUED,
    weight: float = 1.0,
    plan: Plan | None = None,
    tenant_id: str = "ten_1",
    tenant_share: float = 1.0,
    risk: RiskReason | None = None,
) -> JobView:
    """A queued job, due `deadline_s` after `NOW`."""
    return JobView(
        id=id,
        tenant_id=tenant_id,
        model=model,
        state=state,
        created_at=NOW,
        deadline_at=NOW + timedelta(seconds=deadline_s),
        weight=weight,
        max_branches=max_branches,
        max_tokens=max_tokens,
        min_accuracy=min_accuracy,
        mean_prompt_tokens=100.0,
        num_pending=num_pending,
        num_in_flight=num_in_flight,
        tenant_share=tenant_share,
        plan=plan,
        risk=risk,
    )


def batch(
    id: int = 1,
    *,
    job_id: str = "job_1",
    model: str = MODEL,
    worker_name: str = "w1",
    state: BatchState = BatchState.CLAIMED,
    plan: Plan | None = None,
    deadline_s: float = 60.0,
    sent_s: float | None = -3.0,
    lease_s: float = 3.0,
    lease_owner: str = "i1",
    num_open_problems: int = 2,
    num_open_branches: int = 8,
) -> BatchView:
    """A claimed batch with a lease, created 3 s before `NOW`; times in seconds from `NOW`."""
    is_claimed = state is BatchState.CLAIMED
    return BatchView(
        id=id,
        job_id=job_id,
        model=model,
        worker_name=worker_name,
        state=state,
        plan=plan or Plan(4, 2, 1000, 4),
        deadline_at=NOW + timedelta(seconds=deadline_s),
        created_at=NOW - timedelta(seconds=3),
        sent_at=None if sent_s is None else NOW + timedelta(seconds=sent_s),
        lease_expires_at=NOW + timedelta(seconds=lease_s) if is_claimed else None,
        lease_owner=lease_owner if is_claimed else None,
        num_open_problems=num_open_problems,
        num_open_branches=num_open_branches,
    )


def snapshot(
    jobs: tuple[JobView, ...] = (),
    batches: tuple[BatchView, ...] = (),
    workers: tuple[WorkerView, ...] | None = None,
) -> Snapshot:
    """The world at `NOW`, with one worker unless told otherwise."""
    return Snapshot(NOW, jobs, batches, (worker(),) if workers is None else workers)


ANSWERS = answers()
LATENCY = latency()
