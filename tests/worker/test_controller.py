"""A batch is solved by its deadline, whatever its branches, its graders or the store do."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import text

from db.batches import ClaimedBatch, claim_batch, lose_batches
from db.models import Batch
from db.session import SessionFactory, connect, session_factory, transaction
from infra.servers import free_port
from scheduler.core.states import BatchState
from tests.factories import engine_spec, latency_profile, stored_worker
from tests.worker.recorded import (
    Samples,
    branches_of,
    num_open,
    plan_batch,
    problems_of,
    store_job,
    wait_until,
    write_recordings,
)
from worker.controller import BatchController, Outcome
from worker.engines.replay import ReplayEngine, load_recordings
from worker.equivalence import Equivalence
from worker.heartbeat import Heartbeat, Identity

OWNER = "w1-1"
STEP_S = 0.0101
"""Time of a step of one row by the profile of the factories."""


class Bench:
    """One engine, one job and the controllers of its batches."""

    def __init__(self, sessions: SessionFactory, folder: Path) -> None:
        self.sessions = sessions
        self.equivalence = Equivalence(limit_s=30)
        self.engine: ReplayEngine | None = None
        self.lost, self.stopping = threading.Event(), threading.Event()
        self.job_id = ""
        self._folder = folder
        with transaction(sessions) as session:
            stored_worker(session, now=datetime.now(UTC))

    def job(
        self,
        samples: Sequence[Samples],
        *,
        num_problems: int | None = None,
        rows: int = 64,
        deadline_s: float = 60.0,
        reference_answer: str | None = "7",
    ) -> None:
        path = write_recordings(self._folder, samples)
        recordings = load_recordings(path, path.with_name("problems.jsonl"))
        self.engine = ReplayEngine(
            engine_spec(max_num_seqs=rows, kv_capacity_tokens=10**6),
            latency_profile(),
            recordings,
        )
        self.job_id = store_job(
            self.sessions,
            num_problems or len(samples),
            deadline_s=deadline_s,
            reference_answer=reference_answer,
        )

    def claim(self, num_problems: int = 100, **plan_of: object) -> ClaimedBatch:
        batch_id = plan_batch(self.sessions, self.job_id, "w1", num_problems, **plan_of)
        now = datetime.now(UTC)
        with transaction(self.sessions) as session:
            batch = claim_batch(session, batch_id=batch_id, owner=OWNER, lease_s=60.0, now=now)
        assert batch is not None
        return batch

    def controller(self, batch: ClaimedBatch) -> BatchController:
        assert self.engine is not None
        return BatchController(
            batch,
            engine=self.engine,
            equivalence=self.equivalence,
            sessions=self.sessions,
            lost=self.lost,
            stopping=self.stopping,
            reserve_s=0.5,
        )

    def solve(self, **plan_of: object) -> Outcome:
        return self.controller(self.claim(**plan_of)).run()  # type: ignore[arg-type]

    def close(self) -> None:
        self.equivalence.close()
        if self.engine is not None:
            self.engine.close()


@pytest.fixture
def bench(sessions: SessionFactory, tmp_path: Path) -> Iterator[Bench]:
    made = Bench(sessions, tmp_path)
    yield made
    made.close()


def run_in_thread(controller: BatchController) -> Callable[[], Outcome]:
    """Start a controller; the result waits for its outcome."""
    outcomes: list[Outcome] = []
    thread = threading.Thread(target=lambda: outcomes.append(controller.run()))
    thread.start()

    def outcome() -> Outcome:
        thread.join(30)
        return outcomes[0]

    return outcome


def test_a_decided_problem_is_answered_without_its_slow_branches(bench: Bench) -> None:
    # Half of eight branches agree at once; the others would take ten seconds.
    bench.job([[("7", 20)] * 5 + [("8", 1000)] * 3])
    started = time.monotonic()
    assert bench.solve(num_branches=8, max_tokens=1000) is Outcome.DONE
    assert time.monotonic() - started < 5
    (problem,) = problems_of(bench.sessions, bench.job_id)
    assert (problem.state, problem.answer, problem.is_correct) == ("answered", "7", True)
    assert not problem.degraded
    assert problem.vote_share == 1.0
    aborted = branches_of(bench.sessions, bench.job_id, "abort")
    assert len(aborted) >= 3
    assert all(0 < branch.completion_tokens < 1000 for branch in aborted)


def test_equal_votes_go_to_the_earliest_finisher(bench: Bench) -> None:
    bench.job([[("8", 10), ("7", 20), ("7", 30), ("8", 40)]])
    assert bench.solve(num_branches=4) is Outcome.DONE
    (problem,) = problems_of(bench.sessions, bench.job_id)
    assert (problem.answer, problem.vote_share, problem.is_correct) == ("8", 0.5, False)


def test_equivalent_answers_vote_together(bench: Bench) -> None:
    samples = [("\\frac{1}{2}", 10), ("0.5", 20), ("1/2", 30), ("3", 5), ("3", 6)]
    bench.job([samples], reference_answer="\\frac{2}{4}")
    assert bench.solve(num_branches=5) is Outcome.DONE
    (problem,) = problems_of(bench.sessions, bench.job_id)
    assert (problem.answer, problem.vote_share) == ("\\frac{1}{2}", 0.6)
    assert problem.is_correct
    votes = [
        (b.answer, b.vote_class, b.is_correct) for b in branches_of(bench.sessions, bench.job_id)
    ]
    assert votes == [
        ("3", 0, False),
        ("3", 0, False),
        ("\\frac{1}{2}", 1, True),
        ("0.5", 1, True),
        ("1/2", 1, True),
    ]


def test_branches_that_all_end_without_an_answer_give_an_empty_wrong_answer(bench: Bench) -> None:
    bench.job([[("7", 100)] * 3])
    assert bench.solve(num_branches=3, max_tokens=10) is Outcome.DONE
    (problem,) = problems_of(bench.sessions, bench.job_id)
    assert (problem.state, problem.answer, problem.vote_share) == ("answered", None, 0.0)
    assert problem.is_correct is False
    assert problem.num_branches_finished == 3
    assert not problem.degraded


def test_a_problem_whose_branches_all_fail_is_failed_and_harms_no_other(bench: Bench) -> None:
    bench.job([[("7", 20)] * 4], num_problems=2)
    assert bench.solve(num_branches=4) is Outcome.DONE
    solved, failed = problems_of(bench.sessions, bench.job_id)
    assert (solved.state, solved.answer) == ("answered", "7")
    assert failed.state == "failed"
    assert failed.error is not None
    assert "recordings" in failed.error


def test_at_the_deadline_problems_are_answered_from_the_votes_that_they_have(bench: Bench) -> None:
    one_quick = [("7", 20)] + [("8", 5000)] * 3
    none_quick = [("8", 5000)] * 4
    bench.job([one_quick, none_quick], deadline_s=2.0)
    with transaction(bench.sessions):
        started = datetime.now(UTC)
    assert bench.solve(num_branches=4, max_tokens=400) is Outcome.DONE
    answered, empty = problems_of(bench.sessions, bench.job_id)
    assert (answered.state, answered.answer, answered.degraded) == ("answered", "7", True)
    assert answered.finished_at is not None
    assert 1.0 < (answered.finished_at - started).total_seconds() < 2.0
    # Nothing to answer with: it is open for the scheduler to expire.
    assert (empty.state, empty.batch_id) == ("pending", None)
    (batch,) = batches(bench)
    assert batch.state == BatchState.DONE


def test_in_the_reserve_the_first_finisher_still_answers_a_problem_without_votes(
    bench: Bench,
) -> None:
    # About 1.7 seconds into a deadline of two, whose reserve begins at 1.5.
    bench.job([[("7", 168), ("7", 400), ("7", 400)]], deadline_s=2.0)
    assert bench.solve(num_branches=3, max_tokens=400) is Outcome.DONE
    (problem,) = problems_of(bench.sessions, bench.job_id)
    assert (problem.answer, problem.degraded) == ("7", True)
    assert problem.num_branches_finished == 1


def test_the_deadline_guard_fires_on_time_while_a_grader_hangs(bench: Bench) -> None:
    hostile = [("9^{9^{9^{9}}}", 10), ("x+1", 20), ("x+1", 30)]
    bench.job([hostile, [("7", 20)] * 3], deadline_s=4.0, reference_answer="7")
    started = time.monotonic()
    assert bench.solve(num_branches=3) is Outcome.DONE
    assert time.monotonic() - started < 4.0
    stuck, plain = problems_of(bench.sessions, bench.job_id)
    assert (plain.answer, plain.degraded, plain.is_correct) == ("7", False, True)
    assert plain.finished_at is not None
    assert stuck.finished_at is not None
    assert (stuck.finished_at - plain.finished_at).total_seconds() > 1
    # Its class could not be compared with the reference, so the grade stays open.
    assert (stuck.state, stuck.answer) == ("answered", "x+1")


def test_a_batch_that_was_rescued_writes_nothing_more_and_frees_its_rows(bench: Bench) -> None:
    bench.job([[("7", 20 + 20 * i) for i in range(8)]] * 1, rows=1)
    batch = bench.claim(num_branches=8, max_tokens=1000)
    outcome = run_in_thread(bench.controller(batch))
    wait_until(lambda: len(branches_of(bench.sessions, bench.job_id)) >= 1)
    with transaction(bench.sessions) as session:
        lose_batches(session, [batch.id], now=datetime.now(UTC))
    kept = {branch.id for branch in branches_of(bench.sessions, bench.job_id)}
    assert outcome() is Outcome.LOST
    assert {branch.id for branch in branches_of(bench.sessions, bench.job_id)} == kept
    (problem,) = problems_of(bench.sessions, bench.job_id)
    assert problem.state == "pending"


def test_a_lease_that_is_not_renewed_aborts_the_batch_within_a_second(bench: Bench) -> None:
    bench.job([[("7", 1000)] * 4])
    heartbeat = Heartbeat(
        bench.sessions,
        Identity("w1", OWNER),
        lease_s=4.0,
        num_running_branches=lambda: 4,
        on_replaced=lambda: None,
    )
    batch = bench.claim(num_branches=4, max_tokens=1000)
    bench.lost = heartbeat.hold(batch.id)
    outcome = run_in_thread(bench.controller(batch))
    assert heartbeat.beat()
    assert not bench.lost.is_set()
    with transaction(bench.sessions) as session:
        lose_batches(session, [batch.id], now=datetime.now(UTC))
    assert heartbeat.beat()
    assert bench.lost.is_set()
    struck = time.monotonic()
    assert outcome() is Outcome.LOST
    assert time.monotonic() - struck < 1


def test_a_lease_of_a_batch_that_does_not_run_here_is_left_to_end(bench: Bench) -> None:
    bench.job([[("7", 1000)] * 4])
    heartbeat = Heartbeat(
        bench.sessions,
        Identity("w1", OWNER),
        lease_s=1000.0,
        num_running_branches=lambda: 0,
        on_replaced=lambda: None,
    )
    # As after a claim whose commit was not heard.
    bench.claim(num_branches=4)
    (claimed,) = batches(bench)

    assert heartbeat.beat()

    (left,) = batches(bench)
    assert left.lease_expires_at == claimed.lease_expires_at


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


def batches(bench: Bench) -> list[Batch]:
    with transaction(bench.sessions) as session:
        return session.query(Batch).filter(Batch.job_id == bench.job_id).all()
