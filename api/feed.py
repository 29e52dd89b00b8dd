"""Tells open streams what is new: one thread and one read of the store for all of them.

Theory of operation: a follower is told `BEHIND` when it is to read the stored events that it has
not seen, and from then on each event as it commits. Ids of events grow in the order of commits
(`db.events`), so what it reads and what it is told overlap but leave no gap, and ids tell what was
seen. A follower that does not keep up is told `BEHIND` again instead of being kept a growing queue.

How far jobs are is streamed only. It is read at most every `_PROGRESS_S`, more seldom where the
read takes long, and told to those for whom it changed.

The thread listens for notifications while there are followers, on a connection of its own, and
looks every `_POLL_S` anyway, for what no message announces.
"""

import threading
import time
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager

import psycopg
import structlog
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from api.dependencies import utc_now
from api.errors import ApiError
from api.followers import BEHIND, Follower, Told
from api.progress import progress_told
from db.events import last_event_id, list_new_events
from db.models import JobEvent
from db.session import SessionFactory, transaction
from db.wake import listen
from scheduler.core.messages import EVENT_CHANNEL, WAKE_CHANNEL

_log = structlog.get_logger(__name__)

_POLL_S = 0.5
_MIN_INTERVAL_S = 0.05
"""News within this time share a read."""

_PROGRESS_S = 0.25
_PROGRESS_SHARE = 0.1
"""Share of the time that reading progress may take: counts of large jobs are not free."""

_STORE_AWAY_S = 1.0
_STOP_S = 5.0
"""Bounds how long a stop waits for a read under way."""

_MAX_NEWS = 500
"""Events that followers are told at once; beyond that each reads for itself."""


class Feed:
    """The followers of an API process.

    Args:
        max_followers: Most streams of one tenant.
    """

    def __init__(self, sessions: SessionFactory, database_url: str, *, max_followers: int) -> None:
        self._sessions = sessions
        self._database_url = database_url
        self._max_followers = max_followers
        self._changed = threading.Condition()
        self._followers: set[Follower] = set()
        self._position: int | None = None
        self._progress_due_s = 0.0
        self._stop = threading.Event()

    @property
    def num_followers(self) -> int:
        """Open streams."""
        return len(self._followers)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Work until the end of the block."""
        thread = threading.Thread(target=self._run, name="feed", daemon=True)
        thread.start()
        try:
            yield
        finally:
            with self._changed:
                self._stop.set()
                self._changed.notify_all()
            thread.join(_STOP_S)

    def join(self, follower: Follower) -> None:
        """Tell the follower what is new from now on, `BEHIND` first.

        Raises:
            ApiError: 429, the tenant has as many streams as it may.
        """
        with self._changed:
            tenant_id = follower.tenant_id
            if sum(f.tenant_id == tenant_id for f in self._followers) >= self._max_followers:
                raise ApiError(
                    429,
                    "too_many_streams",
                    f"{self._max_followers} streams of events are open already, the most that are"
                    " allowed. Close one, or read events as pages without 'Accept:"
                    " text/event-stream'.",
                    headers={"Retry-After": "5"},
                )
            self._followers.add(follower)
            if self._position is not None:
                follower.tell([BEHIND])
            self._changed.notify_all()

    def leave(self, follower: Follower) -> None:
        """Forget the follower."""
        with self._changed:
            self._followers.discard(follower)

    def _run(self) -> None:
        while not self._stop.is_set():
            with self._changed:
                self._changed.wait_for(lambda: self._followers or self._stop.is_set())
            try:
                with listen(self._database_url, (EVENT_CHANNEL, WAKE_CHANNEL)) as listener:
                    while self._followers and not self._stop.is_set():
                        self._turn()
                        self._stop.wait(_MIN_INTERVAL_S)
                        listener.wait(_POLL_S)
            except (psycopg.Error, DBAPIError, PoolTimeoutError) as error:
                _log.warning("store.away", waiting="streams", error=str(error))
                self._stop.wait(_STORE_AWAY_S)
            except Exception:
                _log.exception("streams.not_told")
                self._stop.wait(_STORE_AWAY_S)
            with self._changed:
                if not self._followers:
                    self._position = None

    def _turn(self) -> None:
        """Read what is new and tell it."""
        with self._changed:
            present = set(self._followers)
        job_ids = {f.job_id for f in present if f.job_id is not None}
        tenant_ids = {f.tenant_id for f in present if f.job_id is None}
        before = self._position
        with transaction(self._sessions) as session:
            last = last_event_id(session)
            news: list[JobEvent] = []
            if before is not None and before < last:
                news = list_new_events(
                    session,
                    after=before,
                    until=last,
                    job_ids=job_ids,
                    tenant_ids=tenant_ids,
                    limit=_MAX_NEWS + 1,
                )
        told = [BEHIND]
        if before is not None and len(news) <= _MAX_NEWS:
            told = [Told.of(event) for event in news]
        with self._changed:
            self._position = last
            late = self._followers - present
        _tell(present, told)
        # Who joined during the read may have read the store before it, and was not asked for.
        _tell(late, [BEHIND])
        if time.monotonic() >= self._progress_due_s:
            self._tell_progress(present, job_ids, tenant_ids)

    def _tell_progress(
        self, followers: Iterable[Follower], job_ids: Collection[str], tenant_ids: Collection[str]
    ) -> None:
        began_s = time.monotonic()
        with transaction(self._sessions) as session:
            told = progress_told(session, job_ids=job_ids, tenant_ids=tenant_ids, now=utc_now())
        for follower in followers:
            follower.tell_progress([each for each in told if follower.is_for(each)])
        took_s = time.monotonic() - began_s
        self._progress_due_s = time.monotonic() + max(_PROGRESS_S, took_s / _PROGRESS_SHARE)


def _tell(followers: Iterable[Follower], told: list[Told]) -> None:
    if told:
        for follower in followers:
            follower.tell([each for each in told if each is BEHIND or follower.is_for(each)])
