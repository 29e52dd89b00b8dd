"""CHECK constraints tie columns to states: an inconsistent row cannot be stored."""

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from db.branches import insert_branches
from db.session import SessionFactory
from tests.factories import branch_row, claimed_batch, stored_job


@pytest.mark.parametrize(
    ("statement", "constraint"),
    [
        ("UPDATE tenants SET weight = 0", "weight_positive"),
        ("UPDATE jobs SET state = 'done'", "state_known"),
        ("UPDATE jobs SET state = 'completed'", "finished_at_iff_terminal"),
        ("UPDATE jobs SET finished_at = created_at", "finished_at_iff_terminal"),
        ("UPDATE jobs SET started_at = NULL", "started_at_when_running"),
        ("UPDATE jobs SET max_branches = 0", "max_branches_positive"),
        ("UPDATE jobs SET num_problems = 0", "has_problems"),
        ("UPDATE jobs SET num_branches = NULL", "plan_has_forecast"),
        ("UPDATE batches SET state = 'sent'", "state_known"),
        ("UPDATE batches SET lease_owner = NULL", "claimed_has_lease"),
        ("UPDATE batches SET state = 'lost'", "finished_at_iff_terminal"),
        ("UPDATE problems SET state = 'solved'", "state_known"),
        ("UPDATE problems SET batch_id = NULL", "in_flight_has_batch"),
        ("UPDATE problems SET state = 'pending'", "pending_has_no_batch"),
        ("UPDATE problems SET state = 'expired'", "finished_at_iff_terminal"),
        ("UPDATE problems SET vote_share = 1", "answered_has_vote"),
        (
            "UPDATE problems SET state = 'answered', finished_at = dispatched_at",
            "answered_has_vote",
        ),
        ("UPDATE problems SET state = 'failed', finished_at = dispatched_at", "failed_has_error"),
        ("UPDATE problems SET degraded = true", "degraded_is_answered"),
        ("UPDATE branches SET finish_reason = 'timeout'", "finish_reason_known"),
        ("UPDATE branches SET finish_reason = 'abort'", "vote_class_of_finished"),
        ("UPDATE branches SET vote_class = NULL", "vote_class_iff_answer"),
        ("UPDATE branches SET accepted_by_position = '{1}'", "positions_match"),
    ],
)
def test_an_inconsistent_row_is_refused(
    sessions: SessionFactory, statement: str, constraint: str
) -> None:
    with sessions.begin() as session:
        claimed = claimed_batch(session, stored_job(session, num_problems=1))
        rows = [branch_row(claimed.problems[0].id)]
        insert_branches(session, batch_id=claimed.id, epoch=1, rows=rows)
    with pytest.raises(IntegrityError, match=constraint), sessions.begin() as session:
        session.execute(text(statement))
