"""Timelines, and one problem with its votes."""

import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import httpx
import pytest

from db.branches import BranchRow, insert_branches
from db.session import SessionFactory, transaction
from tests.api.live import error_of
from tests.factories import (
    NOW,
    after,
    branch_row,
    claimed_batch,
    stored_job,
    unfinished_row,
    votes,
)


def _stored(sessions: SessionFactory, rows_of: list[list[BranchRow]]) -> str:
    """A job whose problems have these branches; the rows' problem ids are filled in."""
    with transaction(sessions) as session:
        job_id = stored_job(session, num_problems=len(rows_of) + 1)
        batch = claimed_batch(session, job_id, num_problems=len(rows_of))
        rows = [
            replace(row, problem_id=problem.id)
            for problem, branches in zip(batch.problems, rows_of, strict=True)
            for row in branches
        ]
        assert insert_branches(session, batch_id=batch.id, epoch=batch.epoch, rows=rows)
    return job_id


def _iso(seconds: float) -> str:
    return after(seconds).isoformat()


def test_a_timeline_lists_branches_between_their_moments(
    api: httpx.Client, sessions: SessionFactory
) -> None:
    never_began = unfinished_row(0, 1, started_at=None, ttft_s=None, decode_time_s=None)
    job_id = _stored(sessions, [[branch_row(0), never_began]])

    document = api.get(
        f"/v1/jobs/{job_id}/timeline", params={"start": _iso(0), "end": _iso(1), "bins": 10}
    ).json()

    assert (document["num_branches"], document["bin_s"]) == (2, 0.1)
    (worker,) = document["workers"]
    assert worker["name"] == "w1"
    # Queued at 0, one started at 0.1, first token at 0.2, both ended at 0.5.
    assert worker["waiting"] == pytest.approx([2, 1, 1, 1, 1, 0, 0, 0, 0, 0])
    assert worker["prefill"] == pytest.approx([0, 1, 0, 0, 0, 0, 0, 0, 0, 0])
    assert worker["decode"] == pytest.approx([0, 0, 1, 1, 1, 0, 0, 0, 0, 0])
    first, second = document["branches"]
    assert (first["problem_id"], first["position"], first["branch_index"]) == ("p0", 0, 0)
    assert datetime.fromisoformat(first["first_token_at"]) == after(0.2)
    assert (second["started_at"], second["first_token_at"]) == (None, None)


def test_bins_hold_the_exact_mean_however_they_cut_the_branches(
    api: httpx.Client, sessions: SessionFactory
) -> None:
    rng = random.Random(7)
    rows = []
    for index in range(60):
        queued, waited, prefill, decode = (rng.random() * size for size in (8, 2, 0.3, 3))
        rows.append(
            branch_row(
                0,
                index,
                queued_at=after(queued),
                started_at=after(queued + waited),
                ttft_s=waited + prefill,
                finished_at=after(queued + waited + prefill + decode),
            )
        )
    job_id = _stored(sessions, [rows])
    first, last, bins = 2.3, 7.1, 17

    document = api.get(
        f"/v1/jobs/{job_id}/timeline",
        params={"start": _iso(first), "end": _iso(last), "bins": bins, "limit": 5},
    ).json()

    assert document["branches"] is None
    width = (last - first) / bins
    (worker,) = document["workers"]
    for number in range(bins):
        low, high = first + number * width, first + (number + 1) * width
        expected = [0.0, 0.0, 0.0]
        for row in rows:
            moments = [_seconds(row.queued_at), _seconds(row.started_at)]
            moments += [moments[0] + (row.ttft_s or 0), _seconds(row.finished_at)]
            for phase in range(3):
                overlap = min(moments[phase + 1], high) - max(moments[phase], low)
                expected[phase] += max(overlap, 0.0) / width
        measured = [worker[name][number] for name in ("waiting", "prefill", "decode")]
        assert measured == pytest.approx(expected, abs=1e-3)


def _seconds(at: datetime | None) -> float:
    assert at is not None
    return (at - NOW).total_seconds()


def test_a_timeline_spans_the_job_by_default(api: httpx.Client, sessions: SessionFactory) -> None:
    job_id = _stored(sessions, [[branch_row(0)]])

    document = api.get(f"/v1/jobs/{job_id}/timeline").json()

    assert datetime.fromisoformat(document["start_at"]) == NOW
    now = datetime.now(UTC)
    assert now - timedelta(minutes=5) < datetime.fromisoformat(document["end_at"]) <= now


def test_votes_are_counted_by_class_and_a_tie_goes_to_the_first(
    api: httpx.Client, sessions: SessionFactory
) -> None:
    job_id = _stored(sessions, [[*votes(0, [1, 0, 0, 1, None]), unfinished_row(0, 5)]])

    document = api.get(f"/v1/jobs/{job_id}/problems/0").json()

    assert [(vote["answer"], vote["num_votes"], vote["wins"]) for vote in document["votes"]] == [
        ("answer 1", 2, True),
        ("answer 0", 2, False),
    ]
    assert [vote["share"] for vote in document["votes"]] == [0.4, 0.4]
    assert (document["prompt"], document["reference_answer"]) == ("3+4+0*0=", "7")
    assert len(document["branches"]) == 6


def test_an_open_problem_has_no_votes_yet(api: httpx.Client, sessions: SessionFactory) -> None:
    job_id = _stored(sessions, [[branch_row(0)]])

    document = api.get(f"/v1/jobs/{job_id}/problems/1").json()

    assert (document["id"], document["votes"], document["branches"]) == ("p1", [], [])


@pytest.mark.parametrize("path", ["problems/9", "problems/x", "problems/-1"])
def test_an_unknown_problem_is_refused(
    api: httpx.Client, sessions: SessionFactory, path: str
) -> None:
    job_id = _stored(sessions, [[branch_row(0)]])

    response = api.get(f"/v1/jobs/{job_id}/{path}")

    assert response.status_code in (400, 404)
    assert error_of(response)["message"]


@pytest.mark.parametrize(
    "params",
    [
        {"start": _iso(1), "end": _iso(1)},
        {"bins": "0"},
        {"bins": "2001"},
        {"limit": "10001"},
        {"start": "yesterday"},
    ],
)
def test_a_bad_stretch_is_named(
    api: httpx.Client, sessions: SessionFactory, params: dict[str, str]
) -> None:
    job_id = _stored(sessions, [[branch_row(0)]])

    response = api.get(f"/v1/jobs/{job_id}/timeline", params=params)

    assert response.status_code == 400
    assert error_of(response)["param"] == next(iter(params))


def test_a_stranger_sees_neither(stranger: httpx.Client, sessions: SessionFactory) -> None:
    job_id = _stored(sessions, [[branch_row(0)]])

    for path in ("timeline", "problems/0"):
        assert stranger.get(f"/v1/jobs/{job_id}/{path}").status_code == 404
