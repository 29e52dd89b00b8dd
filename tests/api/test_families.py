"""Task families: what was learned of one is promised to its jobs."""

from dataclasses import replace
from datetime import UTC, datetime

import httpx
import numpy as np
import pytest

from db.learning import store_profile
from db.models import Job
from db.session import SessionFactory, transaction
from scheduler.core.accuracy import AnswerProfile
from tests.api.live import job_body
from tests.factories import answer_profile


def always(right: bool, family: str) -> AnswerProfile:
    """A profile learned from problems that were all right, or all wrong, in few tokens."""
    profile = answer_profile(family=family, num_problems_seen=50, num_branches_seen=400)
    weights = np.zeros((len(profile.difficulty), len(profile.concentrations)))
    weights[-1 if right else 0, 0] = 1.0
    return replace(
        profile,
        weights=tuple(tuple(row) for row in weights.tolist()),
        length_quantiles=tuple(0.02 * tokens for tokens in profile.length_quantiles),
    )


def test_a_job_is_promised_what_was_learned_of_its_family(
    api: httpx.Client, sessions: SessionFactory
) -> None:
    with transaction(sessions) as session:
        for profile in (always(True, "easy"), always(False, "hard")):
            store_profile(session, profile, now=datetime.now(UTC))
    promised = {}
    for family in ("easy", "hard"):
        body = job_body(family=family, max_branches=1)
        response = api.post("/v1/jobs", json=body)
        assert response.status_code == 201, response.text
        with transaction(sessions) as session:
            job = session.get_one(Job, response.json()["id"])
            assert job.family == family
            promised[family] = job.admitted_accuracy
    assert promised["easy"] > 0.9
    assert promised["hard"] < 0.01


def test_a_quote_says_what_it_was_learned_from(api: httpx.Client, sessions: SessionFactory) -> None:
    with transaction(sessions) as session:
        profile = replace(always(True, "easy"), source="learned from 50 problems")
        store_profile(session, profile, now=datetime.now(UTC))
    quoted = api.post("/v1/quotes", json=job_body(family="easy") | {"deadline": "1h"}).json()
    assert quoted["forecast_basis"]["source"] == "learned from 50 problems"
    assert quoted["forecast_basis"]["num_problems_seen"] == 50


@pytest.mark.parametrize("family", ["", "x" * 257, 7])
def test_a_bad_family_is_refused(api: httpx.Client, family: object) -> None:
    assert api.post("/v1/jobs", json=job_body(family=family)).status_code == 400


def test_without_a_family_a_job_is_of_any(api: httpx.Client, sessions: SessionFactory) -> None:
    job_id = api.post("/v1/jobs", json=job_body()).json()["id"]
    with transaction(sessions) as session:
        assert session.get_one(Job, job_id).family == "any"
