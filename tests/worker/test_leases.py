"""A batch that is lost, given back or cut off from the store ends well, and no branch is lost."""

import time
from datetime import UTC, datetime, timedelta

from sqlalchemy import text, update

from db.batches import cancel_job_batches, lose_batches
from db.costs import job_cost
from db.models import Job
from db.session import connect, session_factory, transaction
from infra.servers import free_port
from tests.worker.bench import OWNER, Bench, batches, run_in_thread
from tests.worker.recorded import (
    branches_of,
    ends_of,
    num_open,
    problems_of,
    wait_until,
)
from worker.heartbeat import Heartbeat, Identity
from worker.lease import Lease
from worker.outcomes import Outcome


def test_a_batch_that_was_rescued_writes_nothing_more_and_frees_its_rows(bench: Bench) -> None:
    bench.job([[("7", 20 + 20 * i) for i in range(8)]] * 1, rows=1)
    batch = bench.claim(num_branches=8, max_tokens=1000)
    outcome = run_in_thread(bench.controller(batch))
    wait_until(lambda: len(branches_of(bench.sessions, bench.job_id)) >= 1)
    with transaction(bench.sessions) as session:
        lose_batches(session, [batch.id], now=datetime.now(UTC))
    voted = ends_of(branches_of(bench.sessions, bench.job_id, "stop"))
    assert outcome() is Outcome.LOST
    assert ends_of(branches_of(bench.sessions, bench.job_id, "stop")) == voted
    (problem,) = problems_of(bench.sessions, bench.job_id)
    assert problem.state == "pending"


def heartbeat_of(bench: Bench, *, lease_s: float) -> Heartbeat:
    return Heartbeat(
        bench.sessions,
        Identity("w1", OWNER),
        lease_s=lease_s,
        num_running_branches=lambda: 4,
        live_profile=bench.live_profile(),
        on_replaced=lambda: None,
    )


def test_a_lease_that_is_not_renewed_aborts_the_batch_at_once(bench: Bench) -> None:
    bench.job([[("7", 1000)] * 4])
    heartbeat = heartbeat_of(bench, lease_s=4.0)
    batch = bench.claim(num_branches=4, max_tokens=1000)
    bench.lease = heartbeat.hold(batch.id, batch.deadline_at)
    outcome = run_in_thread(bench.controller(batch))
    assert heartbeat.beat()
    assert not bench.lease.lost.is_set()
    with transaction(bench.sessions) as session:
        lose_batches(session, [batch.id], now=datetime.now(UTC))
    assert heartbeat.beat()
    assert bench.lease.lost.is_set()
    struck = time.monotonic()
    assert outcome() is Outcome.LOST
    # Its branches would take ten seconds.
    assert time.monotonic() - struck < 5


def test_a_lease_of_a_batch_that_does_not_run_here_is_left_to_end(bench: Bench) -> None:
    bench.job([[("7", 1000)] * 4])
    heartbeat = Heartbeat(
        bench.sessions,
        Identity("w1", OWNER),
        lease_s=1000.0,
        num_running_branches=lambda: 0,
        live_profile=bench.live_profile(),
        on_replaced=lambda: None,
    )
    # As after a claim whose commit was not heard.
    bench.claim(num_branches=4)
    (claimed,) = batches(bench)

    assert heartbeat.beat()

    (left,) = batches(bench)
    assert left.lease_expires_at == claimed.lease_expires_at


def test_what_was_cut_with_a_cancelled_job_is_known_as_its_cost(bench: Bench) -> None:
    bench.job([[("7", 1000)] * 4])
    batch = bench.claim(num_branches=4, max_tokens=1000)
    bench.lease = Lease(batch.deadline_at)
    outcome = run_in_thread(bench.controller(batch))
    wait_until(lambda: bench.engine is not None and bench.engine.totals().steps > 20)
    with transaction(bench.sessions) as session:
        cancel_job_batches(session, bench.job_id, now=datetime.now(UTC))
    bench.lease.lost.set()
    assert outcome() is Outcome.LOST
    with transaction(bench.sessions) as session:
        cost = job_cost(session, bench.job_id)
    assert cost.num_branches == 4
    assert cost.row_s.cancelled == cost.row_s.total > 4 * 0.1
    assert cost.tokens.cancelled == cost.tokens.total > 0
    assert problems_of(bench.sessions, bench.job_id)[0].num_branches_finished == 0


def test_kept_branches_decide_without_running_any(bench: Bench) -> None:
    bench.job([[("7", 10 + 10 * i) for i in range(5)]], rows=1)
    first = bench.claim(num_branches=5)
    outcome = run_in_thread(bench.controller(first))
    wait_until(lambda: len(branches_of(bench.sessions, bench.job_id)) >= 2)
    bench.stopping.set()
    assert outcome() is Outcome.RELEASED
    kept = branches_of(bench.sessions, bench.job_id, "stop")
    bench.stopping.clear()
    # As many branches as there are kept ones: the vote is over before it begins.
    second = bench.claim(num_branches=len(kept))
    assert bench.engine is not None
    bench.engine.close()
    assert bench.controller(second).run() is Outcome.DONE
    (problem,) = problems_of(bench.sessions, bench.job_id)
    assert (problem.state, problem.answer) == ("answered", "7")
    assert problem.num_branches_finished == len(kept)


def test_a_stop_gives_the_batch_back_and_the_rest_runs_in_the_next(bench: Bench) -> None:
    bench.job([[("7" if i % 2 else "8", 20 + i) for i in range(9)]] * 1, rows=2)
    outcome = run_in_thread(bench.controller(bench.claim(num_branches=9)))
    wait_until(lambda: len(branches_of(bench.sessions, bench.job_id)) >= 2)
    bench.stopping.set()
    assert outcome() is Outcome.RELEASED
    kept = {b.branch_index for b in branches_of(bench.sessions, bench.job_id, "stop")}
    assert 0 < len(kept) < 9
    bench.stopping.clear()
    assert bench.solve(num_branches=9) is Outcome.DONE
    (problem,) = problems_of(bench.sessions, bench.job_id)
    finished = branches_of(bench.sessions, bench.job_id, "stop")
    assert problem.num_branches_finished == len(finished) > len(kept)
    assert len({branch.branch_index for branch in finished}) == len(finished)
    with transaction(bench.sessions) as session:
        cost = job_cost(session, bench.job_id)
    # Two rows were taken by branches that the stop cut.
    assert cost.row_s.retried > 0
    assert cost.row_s.useful > cost.row_s.retried


def test_a_store_that_drops_every_connection_loses_nothing(bench: Bench) -> None:
    bench.job([[("7" if i % 2 else "8", 20 + i) for i in range(9)]] * 6, rows=8)
    outcome = run_in_thread(bench.controller(bench.claim(num_branches=9)))
    for _ in range(10):
        time.sleep(0.2)
        with transaction(bench.sessions) as session:
            session.execute(
                text(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    " WHERE datname = current_database() AND pid <> pg_backend_pid()"
                )
            )
    assert outcome() is Outcome.DONE
    assert num_open(bench.sessions, bench.job_id) == 0
    finished = branches_of(bench.sessions, bench.job_id, "stop")
    assert sum(p.num_branches_finished for p in problems_of(bench.sessions, bench.job_id)) == len(
        finished
    )


def test_a_stop_does_not_wait_for_a_store_that_is_away(bench: Bench) -> None:
    bench.job([[("7", 20)] * 3], deadline_s=60.0)
    batch = bench.claim(num_branches=3)
    nowhere = connect(f"postgresql://nobody@127.0.0.1:{free_port()}/nothing")
    bench.sessions, sessions = session_factory(nowhere), bench.sessions
    outcome = run_in_thread(bench.controller(batch))
    bench.sessions = sessions
    # Long after its three branches have ended.
    time.sleep(1.5)
    bench.stopping.set()
    asked = time.monotonic()
    assert outcome() is Outcome.LOST
    assert time.monotonic() - asked < 5


def test_a_batch_goes_by_the_deadline_that_the_heartbeat_brings(bench: Bench) -> None:
    bench.job([[("7", 20)] + [("8", 100_000)] * 3], deadline_s=600.0)
    heartbeat = heartbeat_of(bench, lease_s=60.0)
    batch = bench.claim(num_branches=4, max_tokens=100_000)
    bench.lease = heartbeat.hold(batch.id, batch.deadline_at)
    outcome = run_in_thread(bench.controller(batch))
    wait_until(lambda: len(branches_of(bench.sessions, bench.job_id, "stop")) == 1)
    sooner = datetime.now(UTC) + timedelta(seconds=2)
    with transaction(bench.sessions) as session:
        session.execute(update(Job).values(deadline_at=sooner))
    assert heartbeat.beat()

    assert outcome() is Outcome.DONE
    (problem,) = problems_of(bench.sessions, bench.job_id)
    assert (problem.state, problem.answer, problem.degraded) == ("answered", "7", True)
    assert problem.finished_at is not None
    assert problem.finished_at <= sooner
