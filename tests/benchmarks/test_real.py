"""What the benchmark on the real engine adds to the service keeps to what its results rest on."""

import pytest

from scheduler.core.config import SchedulerConfig
from scheduler.core.decisions import Admitted
from scheduler.core.simulation.policy import Policy, Production
from tests.benchmarks.policies.fixed import earliest_deadline_first, fifo
from tests.benchmarks.real_jobs import fresh_problems
from tests.benchmarks.real_policies import gains
from tests.benchmarks.real_service import deciding, promised
from tests.scheduler.core import worlds
from worker.demo_model.problems import held_out_prompts

CONFIG = SchedulerConfig()


def test_problems_are_fresh_and_the_same_for_every_policy() -> None:
    problems = fresh_problems(7, 40)
    prompts = {problem["prompt"] for problem in problems}
    assert len(prompts) == 40
    assert not prompts & held_out_prompts()
    assert problems == fresh_problems(7, 40)
    assert prompts.isdisjoint(problem["prompt"] for problem in fresh_problems(8, 40))


@pytest.mark.parametrize(
    "policy", [Production(), fifo(2), earliest_deadline_first(1, 1)], ids=lambda policy: policy.name
)
def test_every_policy_hands_out_and_ends_what_is_due(policy: Policy) -> None:
    due = worlds.job("due", deadline_s=-1.0)
    snapshot = worlds.snapshot(jobs=(due, worlds.job("live")))
    decided = deciding(policy)(snapshot, CONFIG)
    assert decided.expired_jobs == ("due",)
    assert {batch.job_id for batch in decided.new_batches} == {"live"}


def test_a_policy_without_a_promise_promises_the_deadline() -> None:
    job = worlds.job("live")
    verdict = fifo(2).admit(worlds.snapshot(), job, CONFIG)
    assert isinstance(verdict, Admitted)
    forecast = promised(verdict, 12.0).forecast
    assert (forecast.finish_p50_s, forecast.finish_p95_s) == (12.0, 12.0)


def test_a_refused_job_counts_as_wrong() -> None:
    def record(policy: str, right: int | None) -> dict[str, object]:
        return {
            "load": 0.4,
            "policy": policy,
            "num_problems": 10,
            "is_admitted": right is not None,
            "num_right": right,
        }

    records = [record("production", 9), record("production", None)]
    records += [record("fifo", 5), record("fifo", 2)]
    assert gains(records)["0.4"]["over_fifo"][0] == pytest.approx(100 * (9 - 7) / 20)
