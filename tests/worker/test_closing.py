"""Branches that the deadline would cut off say what they think by then, if their job asks."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from db.claims import ClaimedProblem
from scheduler.core.branch_options import AnswerFormat, BranchOptions
from tests.worker.bench import Bench
from tests.worker.engines.checkpoints import write_checkpoint
from tests.worker.recorded import branches_of, problems_of, store_job
from worker.deadline import Deadline, Phase
from worker.engines.torch.engine import TorchEngine
from worker.lease import Lease
from worker.outcomes import Outcome
from worker.requests import CLOSING_TOKENS, branch_request

NUM_PROBLEMS, NUM_BRANCHES = 2, 3
MAX_TOKENS = 60_000
"""More than any machine decodes by the deadline."""
CLOSING = "#### "


@pytest.fixture
def endless(bench: Bench, tmp_path: Path) -> Bench:
    """An engine whose branches never end by themselves and never say an answer."""
    target = write_checkpoint(
        tmp_path / "target", seed=1, vocab="0123456789abcdef", max_position_embeddings=2**16
    )
    bench.engine = TorchEngine.load(target, None, model="tiny", max_num_seqs=4)
    bench.job_id = store_job(bench.sessions, NUM_PROBLEMS, deadline_s=4.0)
    return bench


def solve(bench: Bench, options: BranchOptions) -> Outcome:
    batch = bench.claim(num_branches=NUM_BRANCHES, max_tokens=MAX_TOKENS, num_speculative_tokens=0)
    return bench.controller(replace(batch, options=options)).run()


def test_without_a_closing_text_they_are_cut_and_give_no_answer(endless: Bench) -> None:
    assert solve(endless, BranchOptions(answer_format=AnswerFormat.HASHES)) is Outcome.DONE
    for problem in problems_of(endless.sessions, endless.job_id):
        assert (problem.state, problem.answer) == ("answered", None)


def test_with_one_they_give_an_answer_by_the_deadline(endless: Bench) -> None:
    options = BranchOptions(answer_format=AnswerFormat.HASHES, closing_text=CLOSING)
    assert solve(endless, options) is Outcome.DONE
    for problem in problems_of(endless.sessions, endless.job_id):
        assert (problem.state, problem.degraded) == ("answered", True)
        assert problem.answer
        assert problem.finished_at is not None
    closed = branches_of(endless.sessions, endless.job_id, "length")
    assert closed
    for row in closed:
        # A slow machine may cut some before they say a token.
        begun, _, said = row.text.partition(CLOSING)
        assert row.answer == (said or None)
        # One token per character; the closing text is not decoded.
        assert row.completion_tokens == len(begun) + len(said)
        assert len(said) <= CLOSING_TOKENS


def test_an_engine_that_cannot_go_on_from_a_text_loses_nothing(bench: Bench) -> None:
    bench.job([[("7", 20)] + [("8", 5000)] * 3, [("8", 5000)] * 4], deadline_s=2.0)
    batch = bench.claim(num_branches=4, max_tokens=5000)
    closing = replace(batch, options=BranchOptions(closing_text=CLOSING))
    assert bench.controller(closing).run() is Outcome.DONE
    voted, silent = problems_of(bench.sessions, bench.job_id)
    assert (voted.state, voted.answer, voted.degraded) == ("answered", "7", True)
    assert (silent.state, silent.answer) == ("answered", None)


def test_what_is_cut_at_the_last_moment_is_not_closed(endless: Bench) -> None:
    batch = endless.claim(
        num_branches=NUM_BRANCHES, max_tokens=MAX_TOKENS, num_speculative_tokens=0
    )
    options = BranchOptions(answer_format=AnswerFormat.HASHES, closing_text=CLOSING)
    # It begins within the reserve: the first thing that it is time for is the vote.
    late = replace(batch, options=options, deadline_at=datetime.now(UTC) + timedelta(seconds=1.9))
    assert endless.controller(late, reserve_s=2.0).run() is Outcome.DONE
    cut = branches_of(endless.sessions, endless.job_id, "length")
    assert cut
    assert not any(CLOSING in row.text for row in cut)
    for problem in problems_of(endless.sessions, endless.job_id):
        assert (problem.state, problem.answer) == ("answered", None)


def _deadline(left_s: float, closing_text: str | None = CLOSING) -> tuple[Lease, Deadline]:
    """One that leaves ten seconds for decoding, most of which have passed."""
    lease = Lease(datetime.now(UTC) + timedelta(seconds=left_s))
    began_at = lease.deadline_at - timedelta(seconds=10.5)
    return lease, Deadline(lease, 0.5, closing_text=closing_text, began_at=began_at)


def test_the_phases_of_a_deadline_follow_each_other() -> None:
    def phase(left_s: float, closing: str | None = CLOSING, tpot_s: float | None = 0.01) -> Phase:
        return _deadline(left_s, closing)[1].phase(tpot_s)

    assert phase(9.0) is Phase.DECODING
    assert phase(1.3) is Phase.CLOSING
    assert phase(1.3, closing=None) is Phase.DECODING
    # Slow branches are closed earlier, but most of the time stays theirs.
    assert phase(3.0, tpot_s=0.1) is Phase.CLOSING
    assert phase(4.0, tpot_s=9.0) is Phase.DECODING
    assert phase(0.45) is Phase.VOTING
    assert phase(0.2) is Phase.CUTTING
    assert phase(-1.0) is Phase.CUTTING


def test_a_phase_is_left_for_an_earlier_one_only_when_the_deadline_is_put_off() -> None:
    lease, deadline = _deadline(1.3)
    assert deadline.phase(0.01) is Phase.CLOSING
    assert deadline.phase(0.0001) is Phase.CLOSING
    lease.deadline_at += timedelta(seconds=60)
    assert deadline.phase(0.01) is Phase.DECODING
    lease.deadline_at -= timedelta(seconds=61)
    assert deadline.phase(0.01) >= Phase.VOTING


def test_each_branch_has_a_seed_of_its_own_which_is_the_same_in_every_job(bench: Bench) -> None:
    bench.job([[("7", 20)] * 4])
    batch = replace(bench.claim(), options=BranchOptions(seed=7))
    problem = batch.problems[0]

    def seed(problem: ClaimedProblem, index: int, seed: int | None = 7) -> int | None:
        options = BranchOptions(seed=seed)
        return branch_request(replace(batch, options=options), problem, index).sampling.seed

    other = replace(problem, key="another")
    seeds = [seed(problem, 0), seed(problem, 1), seed(other, 0), seed(problem, 0, 8)]
    assert len(set(seeds)) == 4
    assert all(value is not None and 0 <= value < 2**63 for value in seeds)
    assert seed(replace(problem, id=99), 0) == seeds[0]
    assert seed(problem, 0, None) is None
