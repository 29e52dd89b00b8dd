"""A batch is solved by its deadline, whatever its branches, its graders or the store do."""

import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from db.claims import ClaimedBatch, FinishedBranch
from db.models import Branch
from db.session import transaction
from scheduler.core.states import BatchState
from tests.worker.bench import Bench, batches, run_in_thread
from tests.worker.recorded import (
    branches_of,
    problems_of,
    wait_until,
)
from worker.outcomes import Outcome


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


def test_a_branch_tells_how_many_rows_were_in_use(bench: Bench) -> None:
    bench.job([[("7", 10)] * 2])
    bench.rows_in_use = 5
    assert bench.solve(num_branches=2) is Outcome.DONE
    assert {branch.num_rows for branch in branches_of(bench.sessions, bench.job_id)} == {5}


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
    bench.job([one_quick, none_quick], deadline_s=3.5)
    with transaction(bench.sessions):
        started = datetime.now(UTC)
    assert bench.solve(num_branches=4, max_tokens=400, reserve_s=2.0) is Outcome.DONE
    answered, empty = problems_of(bench.sessions, bench.job_id)
    assert (answered.state, answered.answer, answered.degraded) == ("answered", "7", True)
    assert answered.finished_at is not None
    assert 1.0 < (answered.finished_at - started).total_seconds() < 3.5
    # The deadline cut its branches as their caps would have: no answer, but it is over.
    assert (empty.state, empty.answer, empty.degraded) == ("answered", None, True)
    assert empty.finished_at is not None
    assert (empty.finished_at - started).total_seconds() < 3.5
    assert 0 < empty.num_branches_finished <= 4
    (batch,) = batches(bench)
    assert batch.state == BatchState.DONE


def test_in_the_reserve_the_first_finisher_still_answers_a_problem_without_votes(
    bench: Bench,
) -> None:
    # About 1.7 seconds after the claim, which takes 0.1, into a deadline whose reserve begins at
    # 1.5 and is cut at 2.3.
    bench.job([[("7", 167), ("7", 400), ("7", 400)]], deadline_s=3.5)
    assert bench.solve(num_branches=3, max_tokens=400, reserve_s=2.0) is Outcome.DONE
    (problem,) = problems_of(bench.sessions, bench.job_id)
    assert (problem.answer, problem.degraded) == ("7", True)
    assert problem.num_branches_finished == 1


def test_the_deadline_guard_fires_on_time_while_a_grader_hangs(bench: Bench) -> None:
    hostile = [("9^{9^{9^{9}}}", 10), ("x+1", 20), ("x+1", 30)]
    bench.job([hostile, [("7", 20)] * 3], deadline_s=4.0, reference_answer="7")
    started = time.monotonic()
    assert bench.solve(num_branches=3, reserve_s=2.0) is Outcome.DONE
    assert time.monotonic() - started < 4.0
    stuck, plain = problems_of(bench.sessions, bench.job_id)
    assert (plain.answer, plain.degraded, plain.is_correct) == ("7", False, True)
    assert plain.finished_at is not None
    assert stuck.finished_at is not None
    assert (stuck.finished_at - plain.finished_at).total_seconds() > 1
    # Its class could not be compared with the reference, so the grade stays open.
    assert (stuck.state, stuck.answer) == ("answered", "x+1")


def test_a_vote_that_more_branches_would_hardly_change_ends_early(bench: Bench) -> None:
    # Undecided: seven branches still to come could overturn five. They would take ten seconds.
    bench.job([[("7", 20)] * 5 + [("8", 1000)] * 7])
    started = time.monotonic()
    assert bench.solve(num_branches=12, max_tokens=1000, stop_gain=0.01) is Outcome.DONE
    assert time.monotonic() - started < 5
    (problem,) = problems_of(bench.sessions, bench.job_id)
    assert (problem.answer, problem.degraded, problem.vote_share) == ("7", False, 1.0)


def test_a_negative_stop_gain_waits_for_all_branches_of_a_decided_vote(bench: Bench) -> None:
    bench.job([[("7", 20)] * 3 + [("8", 60)]])
    assert bench.solve(num_branches=4, stop_gain=-1.0) is Outcome.DONE
    (problem,) = problems_of(bench.sessions, bench.job_id)
    assert (problem.answer, problem.vote_share) == ("7", 0.75)
    assert problem.num_branches_finished == 4


def most_at_once(branches: Sequence[Branch]) -> int:
    return max(
        sum(one.queued_at <= branch.queued_at < one.finished_at for one in branches)
        for branch in branches
    )


def test_branches_follow_one_another_while_the_vote_is_open(bench: Bench) -> None:
    agreed, split = [("7", 20)] * 12, [("78"[i % 2], 20) for i in range(12)]
    bench.job([agreed, split], rows=8)
    outcome = bench.solve(num_branches=2, max_tokens=2000, stop_gain=0.01, max_branches=10)
    assert outcome is Outcome.DONE
    first, second = problems_of(bench.sessions, bench.job_id)
    assert (first.answer, first.degraded, second.degraded) == ("7", False, False)
    assert first.num_branches_finished is not None
    assert second.num_branches_finished is not None
    assert first.num_branches_finished < second.num_branches_finished
    assert 2 < second.num_branches_finished <= 10
    kept = branches_of(bench.sessions, bench.job_id)
    assert len({(branch.problem_id, branch.branch_index) for branch in kept}) == len(kept)
    for problem in (first, second):
        assert most_at_once([one for one in kept if one.problem_id == problem.id]) <= 2


def test_a_second_branch_follows_only_where_the_first_gave_no_answer(bench: Bench) -> None:
    bench.job([[("7", 300), ("8", 20)], [("7", 20), ("8", 20)]], rows=8)
    plan = {"num_branches": 1, "max_tokens": 200, "stop_gain": 0.008, "max_branches": 2}
    assert bench.solve(**plan) is Outcome.DONE
    cut, answered = problems_of(bench.sessions, bench.job_id)
    assert (cut.answer, cut.num_branches_finished) == ("8", 2)
    assert (answered.answer, answered.num_branches_finished) == ("7", 1)


def rescued(batch: ClaimedBatch, *votes: tuple[str, int]) -> ClaimedBatch:
    """The batch as if the last of eight branches that started at once had ended like this."""
    finished = tuple(
        FinishedBranch(index, answer, vote_class, answer == "7", datetime.now(UTC))
        for index, (answer, vote_class) in enumerate(votes, start=8 - len(votes))
    )
    (problem,) = batch.problems
    return replace(batch, problems=(replace(problem, finished=finished),))


def test_a_rescued_problem_gets_all_branches_that_its_plan_allows(bench: Bench) -> None:
    bench.job([[("8", 40)] * 8], rows=8)
    batch = bench.claim(num_branches=2, max_tokens=2000, max_branches=8)
    # Two votes more could not change these.
    batch = rescued(batch, ("7", 0), ("7", 0), ("7", 0), ("8", 1))
    assert bench.controller(batch).run() is Outcome.DONE
    (solved,) = problems_of(bench.sessions, bench.job_id)
    assert (solved.answer, solved.degraded, solved.num_branches_finished) == ("8", False, 8)
    run = branches_of(bench.sessions, bench.job_id)
    assert {branch.branch_index for branch in run} == {0, 1, 2, 3}
    assert most_at_once(run) == 2


@pytest.mark.parametrize(("num_branches", "expected"), [(2, 3), (4, 4)])
def test_a_rescued_problem_gets_no_branch_beyond_its_plan(
    bench: Bench, num_branches: int, expected: int
) -> None:
    bench.job([[("8", 40)] * 8], rows=8)
    batch = bench.claim(num_branches=num_branches, max_tokens=2000, stop_gain=-1.0)
    assert bench.controller(rescued(batch, *[("7", 0)] * 3)).run() is Outcome.DONE
    (solved,) = problems_of(bench.sessions, bench.job_id)
    assert (solved.answer, solved.degraded) == ("7", False)
    assert solved.num_branches_finished == expected


@pytest.mark.parametrize("num_kept", [1, 2])
def test_a_rescue_half_way_through_successive_branches_goes_on_with_them(
    bench: Bench, num_kept: int
) -> None:
    # One after another: what is missing of the plan's first branches is none.
    bench.job([[("78"[i % 2], 40) for i in range(6)]], rows=8)
    plan_of = {"num_branches": 1, "max_tokens": 2000, "stop_gain": -1.0, "max_branches": 6}
    outcome = run_in_thread(bench.controller(bench.claim(**plan_of)))  # type: ignore[arg-type]
    wait_until(lambda: len(branches_of(bench.sessions, bench.job_id, "stop")) >= num_kept)
    bench.stopping.set()
    assert outcome() is Outcome.RELEASED
    bench.stopping.clear()
    assert bench.solve(**plan_of) is Outcome.DONE
    kept = branches_of(bench.sessions, bench.job_id, "stop")
    assert [branch.branch_index for branch in kept] == list(range(6))
    assert most_at_once(kept) == 1


def test_one_after_another_gives_the_answers_of_all_with_fewer_branches(bench: Bench) -> None:
    easy = [[("7", 20 + i) for i in range(8)] for _ in range(4)]
    hard = [("8", 20), ("7", 25), ("7", 30), ("8", 35), *[("7", 40)] * 4]
    bench.job([*easy, hard], rows=16)
    outcome = bench.solve(num_branches=1, max_tokens=2000, stop_gain=0.001, max_branches=8)
    assert outcome is Outcome.DONE
    problems = problems_of(bench.sessions, bench.job_id)
    # Of all eight branches of each problem most say 7.
    assert [problem.answer for problem in problems] == ["7"] * 5
    *few, many = [problem.num_branches_finished or 0 for problem in problems]
    assert max(few) < many <= 8


def test_no_branch_follows_that_would_hardly_end_before_the_deadline(bench: Bench) -> None:
    # A branch takes half a second, and most of those in the answer profile more than is left.
    bench.job([[("78"[i % 2], 50) for i in range(8)]], deadline_s=3.0)
    outcome = bench.solve(num_branches=1, max_tokens=2000, stop_gain=0.01, max_branches=8)
    assert outcome is Outcome.DONE
    (problem,) = problems_of(bench.sessions, bench.job_id)
    assert (problem.answer, problem.degraded, problem.num_branches_finished) == ("7", False, 1)


def test_branches_that_wait_in_vain_are_not_started_where_there_is_a_vote(bench: Bench) -> None:
    # One row, a second per branch. From two seconds before the end on, hardly any branch of the
    # answer profile would end in time: the second one runs and cannot win, the others never start.
    bench.job([[("7", 100), ("8", 100)] * 3], rows=1, deadline_s=4.0)
    started = time.monotonic()
    assert bench.solve(num_branches=6, max_tokens=400) is Outcome.DONE
    assert time.monotonic() - started < 3.0
    (problem,) = problems_of(bench.sessions, bench.job_id)
    assert (problem.state, problem.degraded) == ("answered", True)
    assert problem.num_branches_finished == 1
    kept = branches_of(bench.sessions, bench.job_id)
    assert [branch.finish_reason for branch in kept] == ["stop", "abort"]
