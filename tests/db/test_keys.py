"""API keys are known by hash; an idempotency key belongs to one job."""

from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from functools import partial
from threading import Barrier
from typing import Any

import pytest
from sqlalchemy import func, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from db.keys import (
    LOCAL_TENANT,
    claim_idempotency_key,
    create_tenant,
    ensure_local_tenant,
    find_idempotency_key,
    find_key,
    hash_secret,
    insert_api_key,
    new_secret,
    revoke_api_key,
    rotate_key,
)
from db.models import ApiKey, Job, Tenant
from db.session import SessionFactory
from tests.factories import NOW, after, stored_job


def test_a_secret_opens_its_tenant_until_it_is_revoked(sessions: SessionFactory) -> None:
    secret = new_secret()
    assert secret.startswith("sk-slk-")
    assert len(secret.removeprefix("sk-slk-")) == 43
    with sessions.begin() as session:
        tenant_id = create_tenant(session, name="school", weight=2.0, now=NOW)
        key_id = insert_api_key(
            session, tenant_id=tenant_id, key_sha256=hash_secret(secret), label="ci", now=NOW
        )
        key = find_key(session, key_sha256=hash_secret(secret), now=NOW)
        assert key is not None
        assert (key.tenant_id, key.scopes) == (tenant_id, ["submit", "read"])
        assert find_key(session, key_sha256=hash_secret(new_secret()), now=NOW) is None
        assert revoke_api_key(session, key_id, now=after(1))
        assert not revoke_api_key(session, key_id, now=after(2))
        assert find_key(session, key_sha256=hash_secret(secret), now=after(1)) is None


def stored_key(session: Session, secret: str, **values: Any) -> str:
    tenant_id = create_tenant(session, name="school", now=NOW)
    digest = hash_secret(secret)
    return insert_api_key(
        session, tenant_id=tenant_id, key_sha256=digest, label="ci", now=NOW, **values
    )


def opens(session: Session, secret: str, now: datetime) -> bool:
    return find_key(session, key_sha256=hash_secret(secret), now=now) is not None


def test_a_key_ends_when_it_expires(sessions: SessionFactory) -> None:
    with sessions.begin() as session:
        key_id = stored_key(session, "a", expires_at=after(10))
        assert opens(session, "a", after(9))
        assert not opens(session, "a", after(10))
        assert rotate(session, key_id, "b", at=after(10)) is None


def rotate(session: Session, key_id: str, secret: str, *, at: datetime) -> ApiKey | None:
    grace = timedelta(seconds=60)
    return rotate_key(session, key_id, key_sha256=hash_secret(secret), grace=grace, now=at)


def test_a_rotated_key_opens_with_both_secrets_until_the_grace_is_over(
    sessions: SessionFactory,
) -> None:
    with sessions.begin() as session:
        key_id = stored_key(session, "a")
        assert rotate(session, key_id, "b", at=NOW) is not None
        assert [opens(session, each, after(59)) for each in "ab"] == [True, True]
        assert [opens(session, each, after(60)) for each in "ab"] == [False, True]
        # A second rotation within the grace ends the first secret at once.
        assert rotate(session, key_id, "c", at=after(1)) is not None
        assert [opens(session, each, after(2)) for each in "abc"] == [False, True, True]
        assert revoke_api_key(session, key_id, now=after(3))
        assert not any(opens(session, each, after(3)) for each in "abc")
        assert rotate(session, key_id, "d", at=after(3)) is None


def test_uses_of_a_key_are_noted_at_most_once_a_minute(sessions: SessionFactory) -> None:
    with sessions.begin() as session:
        key_id = stored_key(session, "a")
    noted = []
    for at in (after(0), after(59), after(61), after(62)):
        with sessions.begin() as session:
            assert opens(session, "a", at)
        with sessions() as session:
            noted.append(session.get_one(ApiKey, key_id).last_used_at)
    assert noted == [after(0), after(0), after(61), after(61)]


def test_the_secret_itself_is_not_stored(sessions: SessionFactory) -> None:
    secret = new_secret()
    with sessions.begin() as session:
        tenant_id = create_tenant(session, name="school", now=NOW)
        insert_api_key(
            session, tenant_id=tenant_id, key_sha256=hash_secret(secret), label="ci", now=NOW
        )
        stored = session.scalars(select(ApiKey)).one()
    assert secret not in {stored.id, stored.key_sha256, stored.label}


def test_the_local_tenant_is_added_once(sessions: SessionFactory) -> None:
    with sessions.begin() as session:
        assert ensure_local_tenant(session, now=NOW) == LOCAL_TENANT
        assert ensure_local_tenant(session, now=after(1)) == LOCAL_TENANT
        assert session.scalars(select(Tenant.created_at)).all() == [NOW]


def test_an_idempotency_key_remembers_its_first_job(sessions: SessionFactory) -> None:
    with sessions.begin() as session:
        first, second = stored_job(session), stored_job(session)
        claim = partial(claim_idempotency_key, session, tenant_id=LOCAL_TENANT, key="k", now=NOW)
        assert find_idempotency_key(session, tenant_id=LOCAL_TENANT, key="k") is None
        assert claim(request_sha256="a", job_id=first) is None
        earlier = claim(request_sha256="b", job_id=second)
    assert earlier is not None
    assert (earlier.job_id, earlier.request_sha256) == (first, "a")


def test_an_idempotency_key_needs_a_stored_job(sessions: SessionFactory) -> None:
    with sessions.begin() as session:
        ensure_local_tenant(session, now=NOW)
    with pytest.raises(IntegrityError), sessions.begin() as session:
        claim_idempotency_key(
            session,
            tenant_id=LOCAL_TENANT,
            key="k",
            request_sha256="a",
            job_id="job_none",
            now=NOW,
        )


def test_concurrent_retries_submit_one_job(sessions: SessionFactory) -> None:
    with sessions.begin() as session:
        ensure_local_tenant(session, now=NOW)
    barrier = Barrier(6)

    def submit(_: int) -> str:
        barrier.wait()
        with sessions() as session:
            job_id = stored_job(session, num_problems=2)
            earlier = claim_idempotency_key(
                session,
                tenant_id=LOCAL_TENANT,
                key="retry",
                request_sha256="a",
                job_id=job_id,
                now=NOW,
            )
            if earlier is not None:
                session.rollback()
                return earlier.job_id
            session.commit()
            return job_id

    with ThreadPoolExecutor(6) as threads:
        answered = set(threads.map(submit, range(6)))
    with sessions() as session:
        assert session.scalars(select(func.count()).select_from(Job)).one() == 1
        assert answered == set(session.scalars(select(Job.id)))
