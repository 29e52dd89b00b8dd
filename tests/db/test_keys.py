"""API keys are known by hash; an idempotency key belongs to one job."""

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from threading import Barrier

import pytest
from sqlalchemy import func, select
from sqlalchemy.exc import IntegrityError

from db.keys import (
    LOCAL_TENANT,
    claim_idempotency_key,
    create_tenant,
    ensure_local_tenant,
    find_idempotency_key,
    find_tenant,
    hash_secret,
    insert_api_key,
    new_secret,
    revoke_api_key,
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
        assert find_tenant(session, key_sha256=hash_secret(secret)) == tenant_id
        assert find_tenant(session, key_sha256=hash_secret(new_secret())) is None
        assert revoke_api_key(session, key_id, now=after(1))
        assert not revoke_api_key(session, key_id, now=after(2))
        assert find_tenant(session, key_sha256=hash_secret(secret)) is None


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
