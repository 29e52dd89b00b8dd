"""Batches of several jobs on one engine."""

import threading

from tests.factories import answer_profile
from tests.worker.bench import OWNER, Bench
from tests.worker.recorded import plan_batch, problems_of, store_job, wait_until
from worker.heartbeat import Identity
from worker.outcomes import Outcome
from worker.runner import BatchRunner


def test_branches_follow_beside_those_of_another_job(bench: Bench) -> None:
    bench.job([[("7", 2000)] * 4, [("7", 20)] * 4], num_problems=1, rows=8)
    assert bench.engine is not None
    runner = BatchRunner(
        engine=bench.engine,
        answers=answer_profile(),
        equivalence=bench.equivalence,
        sessions=bench.sessions,
        identity=Identity("w1", OWNER),
        lease_s=60.0,
        reserve_s=0.5,
        stopping=bench.stopping,
    )
    beside = plan_batch(bench.sessions, bench.job_id, "w1", 1, num_branches=4, max_tokens=4000)
    thread = threading.Thread(target=runner.run_batch, args=(beside,))
    thread.start()
    wait_until(lambda: runner.num_running_branches() == 4)
    job_id = store_job(bench.sessions, 1, first_problem=1)
    plan_of = {"num_branches": 1, "max_tokens": 2000, "stop_gain": -1.0, "max_branches": 4}
    outcome = runner.run_batch(plan_batch(bench.sessions, job_id, "w1", 1, **plan_of))
    bench.stopping.set()
    thread.join()
    assert outcome is Outcome.DONE
    (problem,) = problems_of(bench.sessions, job_id)
    assert problem.num_branches_finished == 4
