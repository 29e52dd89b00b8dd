"""One engine, one job and the controllers of its batches, for the tests of the controller."""

import threading
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from db.claims import ClaimedBatch, claim_batch
from db.models import Batch
from db.session import SessionFactory, transaction
from tests.factories import answer_profile, engine_spec, latency_profile, stored_worker
from tests.worker.recorded import (
    Samples,
    plan_batch,
    store_job,
    write_recordings,
)
from worker.controller import BatchController
from worker.engines.base import Engine
from worker.engines.replay import ReplayEngine, load_recordings
from worker.equivalence import Equivalence
from worker.lease import Lease
from worker.live_profile import LiveProfile
from worker.outbox import Outbox
from worker.outcomes import Outcome
from worker.spans import BatchSpans

OWNER = "w1-1"


class Bench:
    """One engine, one job and the controllers of its batches."""

    def __init__(self, sessions: SessionFactory, folder: Path) -> None:
        self.sessions = sessions
        self.equivalence = Equivalence(limit_s=30)
        self.engine: Engine | None = None
        self.lease: Lease | None = None
        self.stopping = threading.Event()
        self.rows_in_use = 1
        self.job_id = ""
        self._folder = folder
        with transaction(sessions) as session:
            stored_worker(session, now=datetime.now(UTC))

    def job(
        self,
        samples: Sequence[Samples],
        *,
        num_problems: int | None = None,
        rows: int = 64,
        deadline_s: float = 60.0,
        reference_answer: str | None = "7",
    ) -> None:
        path = write_recordings(self._folder, samples)
        recordings = load_recordings(path, path.with_name("problems.jsonl"))
        self.engine = ReplayEngine(
            engine_spec(max_num_seqs=rows, kv_capacity_tokens=10**6),
            latency_profile(),
            recordings,
        )
        self.job_id = store_job(
            self.sessions,
            num_problems or len(samples),
            deadline_s=deadline_s,
            reference_answer=reference_answer,
        )

    def claim(self, num_problems: int = 100, **plan_of: object) -> ClaimedBatch:
        batch_id = plan_batch(self.sessions, self.job_id, "w1", num_problems, **plan_of)
        now = datetime.now(UTC)
        with transaction(self.sessions) as session:
            batch = claim_batch(session, batch_id=batch_id, owner=OWNER, lease_s=60.0, now=now)
        assert batch is not None
        return batch

    def controller(self, batch: ClaimedBatch, *, reserve_s: float = 0.5) -> BatchController:
        assert self.engine is not None
        lease = self.lease or Lease(batch.deadline_at)
        return BatchController(
            batch,
            engine=self.engine,
            answers=answer_profile(),
            equivalence=self.equivalence,
            outbox=Outbox(batch, self.sessions, lease.lost, BatchSpans(batch)),
            lease=lease,
            stopping=self.stopping,
            reserve_s=reserve_s,
            rows_in_use=lambda: self.rows_in_use,
        )

    def solve(self, *, reserve_s: float = 0.5, **plan_of: object) -> Outcome:
        batch = self.claim(**plan_of)  # type: ignore[arg-type]
        return self.controller(batch, reserve_s=reserve_s).run()

    def live_profile(self) -> LiveProfile:
        """The profile of the engine over time, at first what it replays."""
        assert self.engine is not None
        return LiveProfile(self.engine.totals, latency_profile())

    def close(self) -> None:
        self.equivalence.close()
        if self.engine is not None:
            self.engine.close()


def run_in_thread(controller: BatchController) -> Callable[[], Outcome]:
    """Start a controller; the result waits for its outcome."""
    outcomes: list[Outcome] = []
    thread = threading.Thread(target=lambda: outcomes.append(controller.run()))
    thread.start()

    def outcome() -> Outcome:
        thread.join(30)
        return outcomes[0]

    return outcome


def batches(bench: Bench) -> list[Batch]:
    with transaction(bench.sessions) as session:
        return session.query(Batch).filter(Batch.job_id == bench.job_id).all()
