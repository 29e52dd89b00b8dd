"""Shows that the worker lives, keeps its leases and tells how fast it is, once a second.

One transaction a beat. A latency profile that is no longer true is replaced with the beat; when
the engine drifted the scheduler is woken, since its plans rest on the old one.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

import structlog
from sqlalchemy.exc import SQLAlchemyError

from db import workers
from db.leases import renew_leases
from db.session import SessionFactory, transaction
from db.wake import notify
from worker.lease import Lease
from worker.live_profile import LiveProfile

log = structlog.get_logger(__name__)

HEARTBEAT_INTERVAL_S = 1.0


@dataclass(frozen=True, slots=True)
class Identity:
    """Who holds leases: a name, which is also a queue, and the process behind it."""

    name: str
    incarnation: str


class Heartbeat:
    """Renews the leases of the batches that run here, from a thread of its own.

    A renewal brings the deadline as it stands. One that does not return a batch means that it was
    rescued, cancelled or expired; it is lost and the controller drops it. While the store is away
    nothing is decided: every write is guarded by the epoch anyway.

    Args:
        num_running_branches: Called for each beat.
        live_profile: The engine's latency profile over time.
        on_replaced: Called once, when another process took the name.
    """

    def __init__(
        self,
        sessions: SessionFactory,
        identity: Identity,
        *,
        lease_s: float,
        num_running_branches: Callable[[], int],
        live_profile: LiveProfile,
        on_replaced: Callable[[], None],
    ) -> None:
        self._sessions = sessions
        self._identity = identity
        self._lease_s = lease_s
        self._num_running_branches = num_running_branches
        self._live_profile = live_profile
        self._on_replaced = on_replaced
        self._lock = threading.Lock()
        self._held: dict[int, Lease] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)

    def start(self) -> None:
        """Beat from now on."""
        self._thread.start()

    def stop(self) -> None:
        """Stop beating; waits for a beat in progress. Idempotent."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def hold(self, batch_id: int, deadline_at: datetime) -> Lease:
        """Renew the batch from the next beat on."""
        lease = Lease(deadline_at)
        with self._lock:
            self._held[batch_id] = lease
        return lease

    def drop(self, batch_id: int) -> None:
        """The batch is closed."""
        with self._lock:
            self._held.pop(batch_id, None)

    def beat(self) -> bool:
        """Beat once; False when another process took the name.

        Raises:
            SQLAlchemyError: The store is away.
        """
        # Taken before the query: a batch that is claimed meanwhile is not missed by it.
        with self._lock:
            before = dict(self._held)
        now = datetime.now(UTC)
        due = self._live_profile.due()
        with transaction(self._sessions) as session:
            alive = workers.heartbeat(
                session,
                name=self._identity.name,
                incarnation=self._identity.incarnation,
                num_running_branches=self._num_running_branches(),
                now=now,
            )
            if due is not None:
                identity = {"name": self._identity.name, "incarnation": self._identity.incarnation}
                workers.refresh_latency(session, **identity, latency=due.profile)
                if due.has_drifted:
                    notify(session)
            # Only of batches that run: one whose claim was committed unheard, or that could not be
            # given back, is rescued when its lease ends.
            held = renew_leases(
                session,
                list(before),
                owner=self._identity.incarnation,
                lease_s=self._lease_s,
                now=now,
            )
        if due is not None:
            self._live_profile.told(due)
        for batch_id, lease in before.items():
            if batch_id in held:
                lease.deadline_at = held[batch_id]
            else:
                lease.lost.set()
        return alive

    def _run(self) -> None:
        while not self._stop.wait(HEARTBEAT_INTERVAL_S):
            try:
                alive = self.beat()
            except SQLAlchemyError as error:
                log.warning("heartbeat.missed", error=str(error).splitlines()[0])
                continue
            if not alive:
                log.error("worker.replaced", worker=self._identity.name)
                self._on_replaced()
                return
