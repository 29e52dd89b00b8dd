"""Runs one worker process: engine, registration, heartbeat and the Celery consumer."""

import os
import signal
import threading
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from types import FrameType

import structlog
from celery import Celery
from celery.worker import state as consumer_state
from prometheus_client import REGISTRY
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from db.session import SessionFactory, connect, session_factory, transaction
from db.wake import notify
from db.workers import register_worker, stop_worker
from worker.app import create_app
from worker.engines.apart.engine import EngineDiedError
from worker.engines.factory import Served, build_engine
from worker.equivalence import Equivalence
from worker.heartbeat import Heartbeat, Identity
from worker.live_profile import LiveProfile
from worker.metrics import EngineCollector
from worker.outbox import is_outage
from worker.runner import BatchRunner
from worker.settings import WorkerSettings

log = structlog.get_logger(__name__)

_REPLACED_EXIT_STATUS = 3
_DEAD_EXIT_STATUS = 4

_CONNECTIONS = 8
"""Kept open, and as many more in a rush: batches need one for a moment, and the heartbeat too."""

_DRAIN_LIMIT_S = 10.0
"""A batch gives itself back within one turn and one step; supervisors kill after longer."""


def run(settings: WorkerSettings) -> int:
    """Serve batches until SIGTERM or SIGINT, then give back what runs.

    Returns:
        The exit status: 0 after a clean stop, 3 when another process took the worker's name, 4 when
        the engine died and the worker is to be started anew.
    """
    stopping, dead = threading.Event(), threading.Event()

    def leave() -> None:
        """End at once: nobody knows of a worker whose engine is being loaded or measured."""
        raise SystemExit(_DEAD_EXIT_STATUS if dead.is_set() else 0)

    def stop_dead(_reason: str) -> None:
        dead.set()
        stopping.set()
        # The main thread may wait for branches that a dead engine will never end.
        os.kill(os.getpid(), signal.SIGTERM)

    _on_signals(leave)
    try:
        served = build_engine(settings, stop_dead)
    except EngineDiedError as error:
        log.error("engine.died", reason=str(error))
        return _DEAD_EXIT_STATUS
    _on_signals(stopping.set)
    database = connect(settings.database_url, pool_size=_CONNECTIONS)
    sessions = session_factory(database)
    equivalence = Equivalence(num_processes=settings.num_graders)
    try:
        status = _serve(settings, served, sessions, equivalence, stopping)
        return _DEAD_EXIT_STATUS if dead.is_set() else status
    finally:
        equivalence.close()
        served.engine.close()
        database.dispose()


def _serve(
    settings: WorkerSettings,
    served: Served,
    sessions: SessionFactory,
    equivalence: Equivalence,
    stopping: threading.Event,
) -> int:
    identity = Identity(settings.name, uuid.uuid4().hex)
    runner = BatchRunner(
        engine=served.engine,
        answers=served.answers,
        equivalence=equivalence,
        sessions=sessions,
        identity=identity,
        lease_s=settings.lease_s,
        reserve_s=settings.scheduler.reserve_s,
        stopping=stopping,
    )
    replaced = threading.Event()

    def stop_replaced() -> None:
        replaced.set()
        stopping.set()

    heartbeat = Heartbeat(
        sessions,
        identity,
        lease_s=settings.lease_s,
        num_running_branches=runner.num_running_branches,
        live_profile=LiveProfile(served.engine.totals, served.latency),
        on_replaced=stop_replaced,
    )
    runner.follow(heartbeat)
    collector = EngineCollector(
        served.engine,
        worker=identity.name,
        num_branches=runner.num_running_branches,
        num_batches=runner.num_running_batches,
    )
    app = create_app(
        settings.redis_url,
        queue=settings.name,
        num_threads=settings.scheduler.max_batches_per_worker,
        run_batch=runner.run_batch,
    )
    if not _register(sessions, identity, served, stopping):
        return 0
    heartbeat.start()
    REGISTRY.register(collector)
    log.info("worker.ready", worker=identity.name, model=served.engine.spec.model)
    _consume(app, stopping)
    REGISTRY.unregister(collector)
    heartbeat.stop()
    _deregister(sessions, identity)
    log.info("worker.stopped", worker=identity.name)
    return _REPLACED_EXIT_STATUS if replaced.is_set() else 0


def _on_signals(act: Callable[[], None]) -> None:
    def stop(_signal: int, _frame: FrameType | None) -> None:
        act()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)


def _register(
    sessions: SessionFactory, identity: Identity, served: Served, stopping: threading.Event
) -> bool:
    """Put the worker into planning, waiting for the store; False when stopped before."""
    while not stopping.is_set():
        try:
            with transaction(sessions) as session:
                register_worker(
                    session,
                    name=identity.name,
                    incarnation=identity.incarnation,
                    spec=served.engine.spec,
                    latency=served.latency,
                    answers=served.answers,
                    now=datetime.now(UTC),
                )
                notify(session)
        except DBAPIError as error:
            if not is_outage(error):
                raise
            log.warning("store.away", error=str(error.orig))
            stopping.wait(1.0)
        else:
            return True
    return False


def _deregister(sessions: SessionFactory, identity: Identity) -> None:
    """Take the worker out of planning; a store that is away will miss its heartbeat instead."""
    try:
        with transaction(sessions) as session:
            stop_worker(
                session,
                name=identity.name,
                incarnation=identity.incarnation,
                now=datetime.now(UTC),
            )
            notify(session)
    except SQLAlchemyError as error:
        log.warning("worker.not_deregistered", error=str(error).splitlines()[0])


def _consume(app: Celery, stopping: threading.Event) -> None:
    """Take messages until asked to stop; batches that run give themselves back meanwhile.

    Celery's own signal handlers are not installed (they belong to its command line), so its flag
    is set here. The consumer runs in a thread of its own: Python delivers signals to the main
    thread, which must not be inside a broker call that takes its time.
    """

    def consume() -> None:
        try:
            while not stopping.is_set():
                # A controller that stopped cannot start again, so each attempt has its own.
                app.WorkController().start()
                stopping.wait(1.0)
        finally:
            # Without a consumer the heart must not beat on: a supervisor starts another worker.
            stopping.set()

    consumer = threading.Thread(target=consume, name="consumer", daemon=True)
    consumer.start()
    stopping.wait()
    consumer_state.should_stop = 0
    consumer.join(_DRAIN_LIMIT_S)
