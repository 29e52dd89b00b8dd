"""The baselines keep to their splits, and the clairvoyant bound is one."""

import numpy as np
import pytest

from scheduler.core.config import SchedulerConfig
from scheduler.core.fit_answers import RecordedProblem
from scheduler.core.fleet import fleets_by_model
from scheduler.core.simulation.policy import Policy, Production
from scheduler.core.simulation.records import Outcome
from scheduler.core.simulation.simulator import simulate
from scheduler.core.simulation.world import SimulatedJob, SimulatedWorker
from tests.benchmarks.policies.clairvoyant import most_right_answers
from tests.benchmarks.policies.fixed import earliest_deadline_first, fifo
from tests.benchmarks.policies.restricted import BRANCHES_ONLY, DRAFT_ONLY
from tests.benchmarks.policies.static_greedy import greedy_split, static_greedy
from tests.scheduler.core import worlds

CONFIG = SchedulerConfig()
WORKERS = [
    SimulatedWorker(name, worlds.worker().spec, worlds.LATENCY, worlds.LATENCY, worlds.ANSWERS)
    for name in ("w1", "w2")
]


def jobs(count: int = 25, seed: int = 1) -> list[SimulatedJob]:
    """More work than two workers can do in time."""
    rng = np.random.default_rng(seed)
    found = []
    for number in range(count):
        problems = []
        for _ in range(int(rng.integers(1, 20))):
            votes = np.where(rng.random(16) < rng.uniform(0.2, 0.95), 0, rng.integers(1, 4, 16))
            tokens = np.ceil(500 * rng.lognormal(0.0, 0.5, 16)).astype(int)
            problems.append(RecordedProblem(tuple(votes.tolist()), tuple(tokens.tolist())))
        at_s = float(rng.uniform(0, 40))
        due_s = at_s + float(rng.choice([3.0, 8.0, 20.0]))
        found.append(
            SimulatedJob(f"j{number}", "t", worlds.MODEL, at_s, due_s, tuple(problems), 100)
        )
    return found


def run(policy: Policy) -> Outcome:
    return simulate(jobs(), WORKERS, policy, CONFIG)


def test_a_fixed_split_is_used_for_every_problem_of_every_job() -> None:
    outcome = run(earliest_deadline_first(3, 2))
    assert all(job.is_admitted for job in outcome.jobs)
    plans = [batch.plan for job in outcome.jobs for batch in job.batches]
    assert {(plan.num_branches, plan.num_speculative_tokens) for plan in plans} == {(3, 2)}


def test_fixed_majority_voting_waits_for_all_branches() -> None:
    problems = [p for job in run(fifo(4)).jobs for p in job.problems if not p.is_degraded]
    assert problems
    assert all(problem.num_branches == 4 for problem in problems)


def test_first_come_is_served_first() -> None:
    one = RecordedProblem((0,), (1000,))
    early = SimulatedJob("early", "t", worlds.MODEL, 0.0, 900.0, (one,) * 400, 100)
    urgent = SimulatedJob("urgent", "t", worlds.MODEL, 1.0, 60.0, (one,) * 10, 100)
    finish_s = {
        policy.name: simulate([early, urgent], WORKERS, policy, CONFIG).jobs[1].finish_s
        for policy in (fifo(1), earliest_deadline_first(1, 0))
    }
    assert finish_s["edf_b1_g0"] < finish_s["fifo"]


def test_a_restricted_production_goes_without_one_of_its_means() -> None:
    branches, drafts = (
        [batch.plan for job in run(policy).jobs for batch in job.batches]
        for policy in (BRANCHES_ONLY, DRAFT_ONLY)
    )
    assert {plan.num_speculative_tokens for plan in branches} == {0}
    assert max(plan.num_branches for plan in branches) > 1
    assert {plan.num_branches for plan in drafts} == {1}
    assert max(plan.num_speculative_tokens for plan in drafts) > 0


def test_the_static_split_never_trades_accuracy_for_a_longer_deadline() -> None:
    snapshot = worlds.snapshot()
    fleet = fleets_by_model(snapshot.workers)[worlds.MODEL]
    splits = [greedy_split(fleet, deadline_s, 100, CONFIG) for deadline_s in (2, 5, 10, 30, 60)]
    accuracy = [fleet.answers.accuracy_of(width, cap) for width, _, cap in splits]
    assert accuracy == sorted(accuracy)
    assert splits[0] != splits[-1]


@pytest.mark.parametrize(
    "policy",
    [Production(), fifo(2), earliest_deadline_first(1, 0), earliest_deadline_first(1, 2)],
    ids=lambda policy: policy.name,
)
def test_no_policy_beats_the_clairvoyant_bound(policy: Policy) -> None:
    bound = most_right_answers(jobs(), WORKERS)
    assert sum(job.num_right for job in run(policy).jobs) <= bound + 1e-6
    assert bound <= sum(len(job.problems) for job in jobs())


def test_the_bound_is_reached_where_nothing_is_given_away() -> None:
    problem = RecordedProblem((1, 0), (100, 400))
    job = SimulatedJob("j", "t", worlds.MODEL, 0.0, 1e4, (problem,) * 3, 100)
    assert most_right_answers([job], WORKERS) == pytest.approx(3.0)
    hopeless = SimulatedJob("h", "t", worlds.MODEL, 0.0, 0.1, (problem,), 100)
    assert most_right_answers([hopeless], WORKERS) == 0.0


def test_the_bound_shares_out_too_little_time() -> None:
    rows = WORKERS[0].spec.max_num_seqs
    problem = RecordedProblem((0,), (150,))
    job = SimulatedJob("j", "t", worlds.MODEL, 0.0, 20.0, (problem,) * (rows * 80), 100)
    bound = most_right_answers([job], WORKERS)
    outcome = simulate([job], WORKERS, earliest_deadline_first(1, 1), CONFIG)
    assert 0.7 * bound < outcome.jobs[0].num_right <= bound < len(job.problems)


def test_static_greedy_runs_under_load() -> None:
    assert sum(job.num_answered for job in run(static_greedy()).jobs) > 0
