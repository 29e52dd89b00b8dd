"""The cost of stored branches agrees with a count by hand over every try that was made."""

from collections import defaultdict
from typing import Any

import numpy as np
import pytest

from db.batches import cancel_job_batches, finish_batch, lose_batches
from db.branches import COUNTED_REASONS, BranchRow, insert_branches, write_off_branches
from db.costs import job_cost, num_lost_batches
from db.session import SessionFactory
from scheduler.core.costs import Parts
from tests.factories import after, branch_row, claimed_batch, stored_job, unfinished_row


def held_s(row: BranchRow) -> float:
    return (row.finished_at - row.started_at).total_seconds() if row.started_at else 0.0


def rejected(row: BranchRow) -> int:
    return sum(row.drafted_by_position) - sum(row.accepted_by_position)


def drawn_row(rng: np.random.Generator, problem_id: int, index: int, reason: str) -> BranchRow:
    """A branch of any length, with any acceptance, that may never have left the queue."""
    drafted = rng.integers(0, 30, size=int(rng.integers(0, 4)))
    queued, waited, ran = rng.exponential(5.0, size=3)
    overrides: dict[str, Any] = {
        "queued_at": after(float(queued)),
        "started_at": None if rng.random() < 0.1 else after(float(queued + waited)),
        "finished_at": after(float(queued + waited + ran)),
        "completion_tokens": int(rng.integers(0, 100)),
        "drafted_by_position": [int(n) for n in drafted],
        "accepted_by_position": [int(rng.integers(0, n + 1)) for n in drafted],
        "finish_reason": reason,
    }
    make = branch_row if reason in COUNTED_REASONS else unfinished_row
    return make(problem_id, index, **overrides)


def expected(tries: list[tuple[BranchRow, str]], of: str) -> dict[str, float]:
    """Row-seconds or tokens by part, try by try."""
    parts = defaultdict[str, float](float)
    for row, part in tries:
        tokens = row.completion_tokens + rejected(row)
        whole = held_s(row) if of == "row_s" else tokens
        share = rejected(row) / tokens if tokens and part == "useful" else 0.0
        parts[part] += whole * (1 - share)
        parts["rejected_drafts"] += whole * share
    return parts


def matches(parts: Parts[Any], tries: list[tuple[BranchRow, str]], of: str) -> None:
    by_hand = expected(tries, of)
    for part in ("useful", "cancelled", "rejected_drafts", "retried"):
        assert getattr(parts, part) == pytest.approx(by_hand[part], abs=1e-4), part
    assert parts.total == pytest.approx(sum(by_hand.values()), abs=1e-4)


@pytest.mark.parametrize("seed", range(5))
def test_every_try_is_in_one_part(sessions: SessionFactory, seed: int) -> None:
    rng = np.random.default_rng(seed)
    tries: list[tuple[BranchRow, str]] = []
    with sessions.begin() as session:
        job_id = stored_job(session, num_problems=3)
        # Two batches are lost in turn; what they did not finish runs again in the next.
        done: set[tuple[int, int]] = set()
        for turn in range(3):
            batch = claimed_batch(session, job_id)
            is_last = turn == 2
            rows = []
            for problem in batch.problems:
                for index in range(6):
                    if (problem.id, index) in done:
                        continue
                    reason = str(rng.choice(["stop", "length", "abort", "error"]))
                    rows.append(drawn_row(rng, problem.id, index, reason))
                    if reason in COUNTED_REASONS:
                        done.add((problem.id, index))
                        tries.append((rows[-1], "useful"))
                    elif is_last and reason == "abort":
                        tries.append((rows[-1], "cancelled"))
                    else:
                        tries.append((rows[-1], "retried"))
            # Sent twice, as after an answer of the store that was not heard.
            for _ in range(2):
                assert insert_branches(session, batch_id=batch.id, epoch=batch.epoch, rows=rows)
            if is_last:
                assert finish_batch(session, batch_id=batch.id, epoch=batch.epoch, now=after(60))
            else:
                assert lose_batches(session, [batch.id], now=after(60))
        cost = job_cost(session, job_id)
        assert num_lost_batches(session, job_id) == 2
        assert job_cost(session, stored_job(session)).row_s.total == 0
    matches(cost.row_s, tries, "row_s")
    matches(cost.tokens, tries, "tokens")


def test_branches_of_a_batch_that_is_gone_cost_and_never_vote(sessions: SessionFactory) -> None:
    with sessions.begin() as session:
        job_id = stored_job(session, num_problems=1)
        lost = claimed_batch(session, job_id)
        problem_id = lost.problems[0].id
        late = [branch_row(problem_id, 0), unfinished_row(problem_id, 1)]
        assert lose_batches(session, [lost.id], now=after(1))
        write_off_branches(session, batch_id=lost.id, rows=late)

        again = claimed_batch(session, job_id)
        assert again.problems[0].finished == ()
        # Indexes 0 and 2 run again; the old worker comes late with a try of 2, that has finished.
        voted = [
            branch_row(problem_id, i, queued_at=after(2), started_at=after(3), finished_at=after(7))
            for i in (0, 2)
        ]
        assert insert_branches(session, batch_id=again.id, epoch=again.epoch, rows=voted)
        write_off_branches(session, batch_id=lost.id, rows=[unfinished_row(problem_id, 2)])
        # Index 1 runs again and is cut by a cancel.
        cut = unfinished_row(
            problem_id, 1, queued_at=after(2), started_at=after(3), finished_at=after(5)
        )
        cancel_job_batches(session, job_id, now=after(8))
        write_off_branches(session, batch_id=again.id, rows=[cut])
        cost = job_cost(session, job_id)

    assert cost.row_s.useful + cost.row_s.rejected_drafts == pytest.approx(8.0)
    assert cost.row_s.cancelled == pytest.approx(2.0)
    # Each of the first tries held its row for 0.4 seconds.
    assert cost.row_s.retried == pytest.approx(3 * 0.4)
    assert cost.num_branches == 3
