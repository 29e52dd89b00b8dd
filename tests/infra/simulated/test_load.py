"""A simulated history in a real store: marked, consistent, and something for every report."""

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from api.settings import ApiSettings
from db.progress import JobProgress, jobs_progress
from db.session import SessionFactory, transaction
from infra.simulated.load import Loaded, load
from tests.api.live import client_of, served

NOW = datetime(2026, 11, 19, 12, 0, tzinfo=UTC)
REPORTS = ("attainment", "latency", "accuracy", "speculation", "calibration", "costs")
_UNMARKED = """
SELECT (SELECT count(*) FROM jobs WHERE name NOT LIKE '%(simulated)')
    + (SELECT count(*) FROM jobs WHERE model NOT LIKE '%(simulated)')
    + (SELECT count(*) FROM tenants WHERE id IN (SELECT tenant_id FROM jobs)
        AND name NOT LIKE '%(simulated)')
    + (SELECT count(*) FROM workers WHERE name NOT LIKE 'simulated-%' OR stopped_at IS NULL)
"""
# Problems whose stored answer is not what their stored branches voted for.
_WRONG_VOTES = """
SELECT count(*)
FROM problems
LEFT JOIN LATERAL (
    SELECT (array_agg(answer ORDER BY finished_at, branch_index))[1] AS answer
    FROM branches
    WHERE problem_id = problems.id AND finish_reason IN ('stop', 'length')
        AND vote_class IS NOT NULL
    GROUP BY vote_class
    ORDER BY count(*) DESC, min((finished_at, branch_index))
    LIMIT 1
) AS winner ON true
WHERE state = 'answered' AND (
    problems.answer IS DISTINCT FROM winner.answer
    OR num_branches_finished <> (
        SELECT count(*) FROM branches
        WHERE problem_id = problems.id AND finish_reason IN ('stop', 'length')
    )
)
"""


@pytest.fixture
def loaded(sessions: SessionFactory) -> Loaded:
    """Two weekdays."""
    return load(sessions, days=2, now=NOW)


def _number(session: Session, query: str) -> int:
    return int(session.execute(text(query)).scalar_one())


def test_every_row_says_that_it_is_simulated_and_agrees_with_the_others(
    loaded: Loaded, sessions: SessionFactory, database_url: str
) -> None:
    assert loaded.num_jobs > 50
    assert loaded.num_refusals
    with transaction(sessions) as session:
        assert _number(session, _UNMARKED) == 0
        assert _number(session, _WRONG_VOTES) == 0
        for table in ("jobs", "problems", "branches"):
            assert _number(session, f"SELECT count(*) FROM {table}") == getattr(
                loaded, f"num_{table}"
            )
        jobs = session.execute(text("SELECT id, final_progress FROM jobs")).all()
        session.execute(text("UPDATE jobs SET final_progress = NULL"))
        counted = jobs_progress(session, [job.id for job in jobs])
        assert {job.id: JobProgress(**job.final_progress) for job in jobs} == counted
        ids = session.execute(text("SELECT id, created_at FROM jobs")).all()
        made_ms = {job.id: int(job.id.removeprefix("job_")[:12], 16) for job in ids}
        assert all(abs(made_ms[j.id] - 1000 * j.created_at.timestamp()) < 2 for j in ids)
        late = "SELECT count(*) FROM branches JOIN jobs ON jobs.id = job_id WHERE {}"
        assert not _number(session, late.format("branches.finished_at > jobs.finished_at"))
        assert _number(session, "SELECT count(*) FROM problems WHERE degraded")
        # The last hour is summed up when it is over.
        assert _number(session, "SELECT count(*) FROM history_hours WHERE state = 'stale'") <= 1
    with served(**ApiSettings(database_url=database_url).model_dump()) as url:
        since = {"start": (NOW - timedelta(days=2)).isoformat(), "end": NOW.isoformat()}
        for party in loaded.parties:
            with client_of(url, party.api_key) as client:
                for report in REPORTS:
                    asked = {**since, "group_by": "model"}
                    rows = client.get(f"/v1/reports/{report}", params=asked).json()["data"]
                    assert len(rows) == 2, (party.name, report)
                job = client.get("/v1/jobs").json()["data"][0]
                why = client.get(f"/v1/jobs/{job['id']}/explain").json()
                assert why["admission"]["candidates"]
                assert why["history"][0]["kind"] == "job.queued"
                assert why["history"][-1]["kind"] == f"job.{job['state']}"
