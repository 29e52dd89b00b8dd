"""The simulator against closed forms, and what must hold whatever happens."""

import math
from dataclasses import replace
from datetime import datetime

import numpy as np
import pytest

from scheduler.core.config import SchedulerConfig
from scheduler.core.decisions import Admitted, Decisions, LossReason, LostBatch, NewBatch
from scheduler.core.fit_answers import RecordedProblem
from scheduler.core.plan import EngineSpec, Forecast, Plan
from scheduler.core.simulation.policy import Production
from scheduler.core.simulation.simulator import simulate
from scheduler.core.simulation.views import instant
from scheduler.core.simulation.world import SimulatedJob, SimulatedWorker
from scheduler.core.snapshot import Snapshot
from scheduler.core.stopping import plurality
from tests.scheduler.core import worlds

CONFIG = SchedulerConfig()
FLAT = replace(
    worlds.LATENCY,
    base_s=0.01,
    token_slopes_s=(0.0,),
    token_knots=(0.0,),
    context_s=0.0,
    draft_base_s=0.0,
    draft_row_s=0.0,
    prefill_base_s=0.3,
    prefill_token_s=0.001,
)
"""A step takes 10 ms whatever it does."""


class Everything:
    """Admits all and hands everything to the first worker at once, under one plan."""

    name = "everything"

    def __init__(self, plan: Plan) -> None:
        self.plan = plan

    def admit(self, *_: object) -> Admitted:
        return Admitted(self.plan, Forecast(0.0, 0.0, 0.0, 0.0), degraded=False)

    def decide(self, snapshot: Snapshot, _: SchedulerConfig) -> Decisions:
        worker = snapshot.workers[0].name
        return Decisions(
            new_batches=tuple(
                NewBatch(job.id, worker, job.num_pending, self.plan)
                for job in snapshot.jobs
                if job.num_pending
            )
        )

    def priority(self, *_: object) -> float:
        return 0.0


def worker(rows: int = 32, **latency: object) -> SimulatedWorker:
    spec = EngineSpec("replay", worlds.MODEL, rows, 200_000, (0, 1, 2, 3, 4), 10**9)
    true = replace(FLAT, **latency)  # type: ignore[arg-type]
    return SimulatedWorker("w1", spec, true, true, worlds.ANSWERS)


def job(
    id: str = "j1",
    *problems: RecordedProblem,
    arrival_s: float = 0.0,
    deadline_s: float = 1e6,
) -> SimulatedJob:
    return SimulatedJob(id, "t", worlds.MODEL, arrival_s, deadline_s, problems, 100)


def recorded(*tokens: int, classes: tuple[int | None, ...] | None = None) -> RecordedProblem:
    return RecordedProblem(classes or (0,) * len(tokens), tokens)


def sampled_jobs(count: int, seed: int, spread_s: float = 40.0) -> list[SimulatedJob]:
    """Jobs that a production policy has to sort out: some tight, some loose, some hopeless."""
    rng = np.random.default_rng(seed)
    jobs = []
    for number in range(count):
        arrival_s = float(rng.uniform(0, spread_s))
        problems = []
        for _ in range(int(rng.integers(1, 12))):
            odds = rng.uniform(0.2, 0.95)
            wrong = rng.integers(1, 4, 16)
            classes = np.where(rng.random(16) < odds, 0, wrong).tolist()
            tokens = np.ceil(500 * rng.lognormal(0.0, 0.5, 16)).astype(int).tolist()
            problems.append(RecordedProblem(tuple(classes), tuple(tokens)))
        deadline_s = arrival_s + float(rng.choice([3.0, 10.0, 30.0, 90.0]))
        jobs.append(job(f"j{number}", *problems, arrival_s=arrival_s, deadline_s=deadline_s))
    return jobs


def production_workers(count: int = 2) -> list[SimulatedWorker]:
    view = worlds.worker()
    return [
        SimulatedWorker(f"w{n}", view.spec, view.latency, view.latency, view.answers)
        for n in range(count)
    ]


@pytest.mark.parametrize("draft", [0, 3])
def test_one_branch_takes_its_prefill_and_its_tokens(draft: int) -> None:
    outcome = simulate(
        [job("j1", recorded(700))], [worker()], Everything(Plan(1, draft, 9999, 1)), CONFIG
    )
    tpot_s = float(FLAT.tpot_s(1, draft, 0))
    expected_s = CONFIG.dispatch_s + 0.4 + 700 * tpot_s
    assert outcome.jobs[0].finish_s == pytest.approx(expected_s, abs=1e-9)
    assert outcome.jobs[0].num_right == 1


def test_growing_context_is_integrated_over_the_steps() -> None:
    engine = worker(context_s=1e-6, prefill_base_s=0.0, prefill_token_s=0.0)
    outcome = simulate(
        [job("j1", recorded(1000))], [engine], Everything(Plan(1, 0, 9999, 1)), CONFIG
    )
    # Step i (from 0) reads 100 + i tokens; the model is continuous, hence the half token.
    expected_s = CONFIG.dispatch_s + 1000 * 0.01 + 1e-6 * (1000 * 100 + 1000 * 1000 / 2)
    assert outcome.jobs[0].finish_s == pytest.approx(expected_s, abs=1e-9)


def test_branches_that_all_must_end_take_as_long_as_the_longest() -> None:
    plan = Plan(8, 0, 9999, 1, stop_gain=-1.0)
    tokens = (300, 900, 100, 450, 777, 20, 640, 333)
    outcome = simulate([job("j1", recorded(*tokens))], [worker()], Everything(plan), CONFIG)
    assert outcome.jobs[0].finish_s == pytest.approx(CONFIG.dispatch_s + 0.4 + 9.0, abs=1e-9)
    assert outcome.jobs[0].tokens == pytest.approx(sum(tokens))


def test_a_decided_vote_frees_its_rows() -> None:
    plan = Plan(4, 0, 9999, 1)
    tokens = (100, 200, 300, 900)
    outcome = simulate([job("j1", recorded(*tokens))], [worker()], Everything(plan), CONFIG)
    # Three equal votes of four decide; even two do, as ties go to the class seen first.
    assert outcome.jobs[0].finish_s == pytest.approx(CONFIG.dispatch_s + 0.4 + 2.0, abs=1e-9)
    assert outcome.jobs[0].tokens == pytest.approx(100 + 200 + 200 + 200)
    assert outcome.jobs[0].problems[0].num_branches == 2


def test_branches_follow_those_that_ended_beside_another_job() -> None:
    other = job("other", *[recorded(5000, 5000)] * 2, deadline_s=3.5)
    short = job("short", recorded(100, 300, 250, 100))
    plan = Plan(2, 0, 9999, 1, stop_gain=-1.0, max_branches=4)
    outcome = simulate(
        [other, short], [worker(rows=8)], Everything(plan), CONFIG, keeps_branches=True
    )
    branches = outcome.jobs[1].problems[0].branches
    ends_s = [branch.finished_s for branch in branches]
    assert ends_s[0] < outcome.jobs[0].finish_s
    assert [branch.queued_s for branch in branches[2:]] == ends_s[:2]


def test_the_same_arguments_give_the_same_outcome() -> None:
    first, second = (
        simulate(sampled_jobs(25, seed=3), production_workers(), Production(), CONFIG)
        for _ in range(2)
    )
    assert first == second


@pytest.mark.parametrize("seed", range(3))
def test_nothing_is_lost_and_no_capacity_is_broken(seed: int) -> None:
    jobs = sampled_jobs(30, seed)
    workers = production_workers()
    outcome = simulate(jobs, workers, Production(), CONFIG)
    assert [item.id for item in outcome.jobs] == [
        item.id for item in sorted(jobs, key=lambda item: (item.arrival_s, item.id))
    ]
    by_id = {item.id: item for item in jobs}
    for item in outcome.jobs:
        given = by_id[item.id]
        assert len(item.problems) == (len(given.problems) if item.is_admitted else 0)
        for problem in item.problems:
            assert given.arrival_s < problem.finish_s <= given.deadline_s
            assert problem.is_answered or not problem.is_right
    for engine, given_worker in zip(outcome.engines, workers, strict=True):
        assert engine.most_rows <= given_worker.spec.max_num_seqs
        assert engine.most_kv_tokens <= given_worker.spec.kv_capacity_tokens * (1 + 1e-9)
    spent = sum(item.tokens for item in outcome.jobs)
    assert spent == pytest.approx(sum(engine.tokens for engine in outcome.engines))


def test_a_full_kv_cache_sends_rows_back_without_losing_their_tokens() -> None:
    engine = worker(32)
    engine = replace(engine, spec=replace(engine.spec, kv_capacity_tokens=2500))
    problems = [recorded(1000) for _ in range(6)]
    outcome = simulate([job("j1", *problems)], [engine], Everything(Plan(1, 0, 9999, 6)), CONFIG)
    assert outcome.engines[0].most_rows == 6
    assert outcome.engines[0].most_kv_tokens == pytest.approx(2500)
    assert outcome.engines[0].tokens == pytest.approx(6000)
    assert outcome.jobs[0].met_deadline
    # A branch holds 600 tokens on average for 1,000 steps, and all six share 2,500.
    assert outcome.jobs[0].finish_s > 6 * 600 * 1000 / 2500 * 0.01


def test_at_the_guard_votes_decide_and_without_any_the_branches_are_cut() -> None:
    problems = [recorded(100, 5000, 5000), recorded(5000, 5000, 5000)]
    outcome = simulate(
        [job("j1", *problems, deadline_s=10.0)], [worker()], Everything(Plan(3, 0, 9999, 2)), CONFIG
    )
    first, second = outcome.jobs[0].problems
    assert (first.is_right, first.is_degraded, first.finish_s) == (True, True, 9.5)
    assert (second.is_answered, second.is_right, second.finish_s) == (True, False, 9.7)
    assert second.is_degraded
    assert not second.has_vote
    assert outcome.jobs[0].met_deadline


def test_the_cap_takes_the_vote_of_a_longer_branch() -> None:
    outcome = simulate(
        [job("j1", recorded(700))], [worker()], Everything(Plan(1, 0, 500, 1)), CONFIG
    )
    problem = outcome.jobs[0].problems[0]
    assert (problem.is_answered, problem.is_right, problem.tokens) == (True, False, 500)


def test_a_policy_that_gives_up_an_alive_worker_is_in_error() -> None:
    class Losing(Everything):
        def decide(self, *_: object) -> Decisions:
            return Decisions(lost_batches=(LostBatch(1, LossReason.WORKER_GONE),))

    with pytest.raises(ValueError, match="gave up"):
        simulate([job("j1", recorded(700))], [worker()], Losing(Plan(1, 0, 500, 1)), CONFIG)


@pytest.mark.parametrize("finish_s", [12.0, math.nan])
def test_ticks_are_told_the_promised_finish_if_there_is_one(finish_s: float) -> None:
    told: list[datetime | None] = []

    class Promising(Everything):
        def admit(self, *_: object) -> Admitted:
            return Admitted(self.plan, Forecast(finish_s, finish_s, 1.0, 1.0), degraded=False)

        def decide(self, snapshot: Snapshot, config: SchedulerConfig) -> Decisions:
            told.extend(job.promised_at for job in snapshot.jobs)
            return super().decide(snapshot, config)

    one = job("j1", recorded(20), arrival_s=3.0)
    simulate([one], [worker()], Promising(Plan(1, 0, 50, 1)), CONFIG)
    assert set(told) == {None if math.isnan(finish_s) else instant(15.0)}


def test_kept_branches_are_those_that_voted_and_those_that_were_cut_short() -> None:
    jobs = sampled_jobs(15, seed=3)
    outcome = simulate(jobs, production_workers(1), Production(), CONFIG, keeps_branches=True)
    problems = [p for job in outcome.jobs for p in job.problems]
    assert any(p.is_degraded for p in problems)
    assert {b.is_finished for p in problems for b in p.branches} == {True, False}
    for problem in problems:
        finished = [b for b in problem.branches if b.is_finished]
        assert len(finished) == problem.num_branches
        assert sum(b.tokens for b in problem.branches) == pytest.approx(problem.tokens)
        in_order = sorted(finished, key=lambda b: b.finished_s)
        vote = plurality([b.vote_class for b in in_order])
        assert (vote is not None and vote.vote_class == 0) == problem.is_right
        for branch in problem.branches:
            moments = (branch.queued_s, branch.started_s, branch.first_token_s, branch.finished_s)
            known = [at_s for at_s in moments if at_s is not None]
            assert known == sorted(known)
            assert branch.finished_s <= problem.finish_s + 1e-9


def test_an_engine_that_changes_goes_on_at_its_new_speed() -> None:
    before = worker(prefill_base_s=0.0, prefill_token_s=0.0)
    slow = replace(before, latency=before.latency.scaled(3.0))
    outcome = simulate(
        [job("j1", recorded(1000))],
        [before],
        Everything(Plan(1, 0, 9999, 1)),
        CONFIG,
        changes=[(CONFIG.dispatch_s + 4.0, slow)],
    )
    # 400 tokens at 10 ms, and 600 at 30 ms.
    assert outcome.jobs[0].finish_s == pytest.approx(CONFIG.dispatch_s + 4.0 + 18.0, abs=1e-9)
