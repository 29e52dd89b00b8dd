"""A made-up history: jobs that ended over some days, with all their problems and branches.

The rows are what the system would have stored, loaded by COPY in chunks of jobs. Numbers are drawn,
from one seed, around a simple model of the latency, so that reports have something to tell.
"""

import io
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import psycopg
import pyarrow as pa
from pyarrow.csv import WriteOptions, write_csv

from db.session import driver_url

Array: TypeAlias = npt.NDArray[Any]

TENANTS = np.array(["ten_local", "ten_school", "ten_lab"])
MODELS = np.array(["small", "small", "large", "large"])
ENGINES = np.array(["torch", "replay", "vllm", "openai"])
"""By worker, as the models are: each engine serves one model."""

_WORKERS = np.array([f"w-{engine}" for engine in ENGINES])
_FAMILIES = np.array(["any", "algebra", "geometry"])
_SPLITS = np.array([(1, 4), (2, 4), (4, 2), (8, 0), (8, 2), (16, 0)])
_DEADLINES_S = np.array([8.0, 45.0, 300.0, 1800.0, 20_000.0])
_NUM_PROBLEMS = 20
_ACCEPTANCE = np.array([0.8, 0.7, 0.6, 0.5])
_ANSWERS = np.array(["7", "8", "9", "10", ""])
_CHUNK = 500


def load(
    database_url: str, num_branches: int, *, until: datetime, days: float = 30.0, seed: int = 0
) -> None:
    """Load so many branches, and up to a job more, that ended in the days before `until`."""
    rng = np.random.default_rng(seed)
    begin = until - timedelta(days=days)
    with psycopg.connect(driver_url(database_url)) as connection:
        # The rows refer to each other as they should: there is no need to look.
        connection.execute("SET session_replication_role = replica")
        connection.execute("SET timezone = 'UTC'")
        _store_parties(connection, begin)
        hours = _store_refusals(connection, rng, begin, days, 1 + num_branches // 2_600)
        num_jobs = num_stored = 0
        while num_stored < num_branches:
            missing = 1 + (num_branches - num_stored) // (16 * _NUM_PROBLEMS)
            jobs = _Jobs(rng, begin, days * 86_400, num_jobs, min(_CHUNK, missing))
            num_stored += jobs.store(connection, hours)
            num_jobs += min(_CHUNK, missing)
        for table in ("problems", "batches"):
            connection.execute(
                f"SELECT setval(pg_get_serial_sequence('{table}', 'id'), max(id)) FROM {table}"
            )
        connection.execute(
            "INSERT INTO history_hours SELECT unnest(%s::timestamptz[]), 'stale'",
            ([hour.replace(tzinfo=UTC) for hour in sorted(hours)],),
        )


def _store_parties(connection: psycopg.Connection, at: datetime) -> None:
    for tenant in TENANTS.tolist():
        connection.execute(
            "INSERT INTO tenants (id, name, created_at) VALUES (%s, %s, %s) ON CONFLICT DO NOTHING",
            (tenant, tenant, at),
        )
    for worker, model, engine in zip(
        *map(np.ndarray.tolist, (_WORKERS, MODELS, ENGINES)), strict=True
    ):
        connection.execute(
            "INSERT INTO workers (name, incarnation, model, engine, spec, latency_profile,"
            " answer_profile, started_at, heartbeat_at, stopped_at)"
            " VALUES (%s, '1', %s, %s, '{}', '{}', '{}', %s, %s, %s)",
            (worker, model, engine, at, at, at),
        )


def _store_refusals(
    connection: psycopg.Connection, rng: np.random.Generator, begin: datetime, days: float, num: int
) -> set[datetime]:
    """Returns the hours that have any."""
    at_s = rng.uniform(0, days * 86_400, num)
    _copy(
        connection,
        "refusals",
        {
            "tenant_id": rng.choice(TENANTS, num),
            "at": _instants(begin, at_s),
            "reason": "deadline_infeasible",
            "model": rng.choice(MODELS, num),
            "num_problems": _NUM_PROBLEMS,
            "mean_prompt_tokens": 40,
            "max_branches": 16,
            "deadline_at": _instants(begin, at_s + rng.choice(_DEADLINES_S, num)),
        },
        num,
    )
    return _hours(_instants(begin, at_s))


class _Jobs:
    """A chunk of drawn jobs with their rows."""

    def __init__(
        self, rng: np.random.Generator, begin: datetime, range_s: float, first: int, num: int
    ) -> None:
        self.rng, self.begin, self.num = rng, begin, num
        self.numbers = first + 1 + np.arange(num)
        self.workers = rng.integers(len(_WORKERS), size=num)
        self.widths, self.drafts = rng.choice(_SPLITS, num).T
        self.deadlines_s = rng.choice(_DEADLINES_S, num)
        self.runs_s = self.deadlines_s * rng.lognormal(-0.45, 0.35, num)
        self.created_s = rng.uniform(0, 1, num) * (range_s - self.runs_s - 1)
        made_ms = int(begin.timestamp() * 1000) + (self.created_s * 1000).astype(int)
        self.ids = np.array(
            [
                f"job_{ms:012x}{number:020x}"
                for ms, number in zip(made_ms.tolist(), self.numbers.tolist(), strict=True)
            ]
        )
        self.is_late = self.runs_s > self.deadlines_s
        self.accuracy = rng.uniform(0.25, 0.95, num)

    def store(self, connection: psycopg.Connection, hours: set[datetime]) -> int:
        """Copy everything in and add the hours of all ends; returns how many branches it is."""
        created, ended = self._at(self.created_s), self._at(self.created_s + self.runs_s)
        median_s = self.runs_s * self.rng.lognormal(0.0, 0.2, self.num)
        predicted = np.clip(self.accuracy + self.rng.normal(0.02, 0.05, self.num), 0, 1).round(6)
        _copy(
            connection,
            "jobs",
            {
                "id": self.ids,
                "tenant_id": self.rng.choice(TENANTS, self.num, p=[0.6, 0.3, 0.1]),
                "name": "made up",
                "model": MODELS[self.workers],
                "family": self.rng.choice(_FAMILIES, self.num),
                "state": np.where(self.is_late, "expired", "completed"),
                "deadline_at": self._at(self.created_s + self.deadlines_s),
                "max_branches": 16,
                "temperature": 0.8,
                "top_p": 1,
                "num_problems": _NUM_PROBLEMS,
                "mean_prompt_tokens": 40,
                "verdict": "accepted",
                "admitted_finish_at": self._at(self.created_s + median_s),
                "admitted_finish_p95_at": self._at(self.created_s + 1.4 * median_s),
                "admitted_accuracy": predicted,
                "is_promised": self.rng.random(self.num) < 0.9,
                "num_branches": self.widths,
                "num_speculative_tokens": self.drafts,
                "plan_max_tokens": 2000,
                "wave_size": 8,
                "predicted_accuracy": predicted,
                "created_at": created,
                "started_at": created,
                "finished_at": ended,
                "met_deadline": ~self.is_late,
            },
            self.num,
        )
        _copy(
            connection,
            "batches",
            {
                "id": self.numbers,
                "job_id": self.ids,
                "worker_name": _WORKERS[self.workers],
                "state": "done",
                "num_problems": _NUM_PROBLEMS,
                "num_branches": self.widths,
                "num_speculative_tokens": self.drafts,
                "max_tokens": 2000,
                "wave_size": 8,
                "created_at": created,
                "finished_at": ended,
            },
            self.num,
        )
        hours |= _hours(ended)
        return self._store_problems(connection, ended, hours)

    def _store_problems(
        self, connection: psycopg.Connection, ended: Array, hours: set[datetime]
    ) -> int:
        job = np.repeat(np.arange(self.num), _NUM_PROBLEMS)  # of each problem
        place = np.tile(np.arange(_NUM_PROBLEMS), self.num)
        ids = self.numbers[job] * _NUM_PROBLEMS + place
        expired = self.is_late[job] & (place == 0)
        problem = np.repeat(np.arange(len(job)), self.widths[job])  # of each branch
        accuracy = self.accuracy[job]
        easiness = self.rng.beta(3 * accuracy, 3 * (1 - accuracy))
        wrong = self.rng.choice(4, len(problem), p=[0.5, 0.25, 0.15, 0.1]) + 1
        votes = np.where(self.rng.random(len(problem)) < easiness[problem], 0, wrong)
        aborted = expired[problem] | (self.rng.random(len(problem)) < 0.03)
        cells = np.bincount((5 * problem + votes)[~aborted], minlength=5 * len(job))
        counts = cells.reshape(len(job), 5)
        finished = counts.sum(axis=1)
        expired |= finished == 0
        winner = np.where(counts[:, :4].any(axis=1), counts[:, :4].argmax(axis=1), 4)
        share = counts[:, :4].max(axis=1) / np.maximum(finished, 1)
        _copy(
            connection,
            "problems",
            {
                "id": ids,
                "job_id": self.ids[job],
                "key": place,
                "position": place,
                "prompt": "3+4=",
                "reference_answer": 7,
                "state": np.where(expired, "expired", "answered"),
                "batch_id": self.numbers[job],
                "num_branches_finished": finished,
                "answer": np.ma.array(_ANSWERS[winner], mask=expired | (winner == 4)),
                "vote_share": np.ma.array(share.round(6), mask=expired),
                "is_correct": np.ma.array(winner == 0, mask=expired),
                "finished_at": ended[job],
            },
            len(job),
        )
        hours |= self._store_branches(connection, job[problem], ids[problem], votes, aborted)
        return len(problem)

    def _store_branches(
        self,
        connection: psycopg.Connection,
        job: Array,
        problem_ids: Array,
        votes: Array,
        aborted: Array,
    ) -> set[datetime]:
        num = len(job)
        begins = np.flatnonzero(np.r_[True, problem_ids[1:] != problem_ids[:-1]])
        index = np.arange(num) - np.repeat(begins, np.diff(np.r_[begins, num]))
        drafts = self.drafts[job]
        rows = self.rng.integers(1, 65, num)
        tokens = np.clip(self.rng.lognormal(5.5, 0.6, num), 2, 2000).astype(int)
        length = np.array([1 + _ACCEPTANCE[:k].cumprod().sum() for k in range(5)])[drafts]
        steps = np.maximum(1, ((tokens - 1) / length)).astype(int)
        step_s = (0.010 + 0.0001 * rows * (drafts + 1)) * self.rng.lognormal(0, 0.1, num)
        queue_s = self.rng.exponential(0.2, num)
        ttft_s = queue_s + self.rng.lognormal(-3, 0.5, num)
        decode_s = step_s * steps
        ended_s = self.created_s[job] + self.runs_s[job] * self.rng.uniform(0.1, 1, num)
        # From the end back, so that no branch ends after its job.
        queued_s = ended_s - ttft_s - decode_s
        is_silent = aborted | (votes == 4)
        # Few kinds of branches: each array is written once.
        kinds, kind = np.unique(5 * steps + drafts, return_inverse=True)
        drafted = [
            [count] * draft
            for count, draft in zip(*(n.tolist() for n in np.divmod(kinds, 5)), strict=True)
        ]
        kept = [
            [int(n * _ACCEPTANCE[: place + 1].prod()) for place, n in enumerate(row)]
            for row in drafted
        ]
        _copy(
            connection,
            "branches",
            {
                "problem_id": problem_ids,
                "job_id": self.ids[job],
                "batch_id": self.numbers[job],
                "branch_index": index,
                "worker_name": _WORKERS[self.workers[job]],
                "num_speculative_tokens": drafts,
                "finish_reason": np.where(aborted, "abort", "stop"),
                "text": "3+4=7",
                "answer": np.ma.array(_ANSWERS[votes], mask=is_silent),
                "vote_class": np.ma.array(votes, mask=is_silent),
                "is_correct": np.ma.array(votes == 0, mask=is_silent),
                "queued_at": self._at(queued_s),
                "started_at": self._at(queued_s + queue_s),
                "finished_at": self._at(ended_s),
                "queue_time_s": queue_s.round(6),
                "ttft_s": ttft_s.round(6),
                "decode_time_s": decode_s.round(6),
                "prompt_tokens": 40,
                "completion_tokens": tokens,
                "num_steps": steps,
                "drafted_by_position": _arrays(drafted)[kind],
                "accepted_by_position": _arrays(kept)[kind],
                "num_rows": rows,
            },
            num,
        )
        return _hours(self._at(ended_s))

    def _at(self, seconds: Array) -> Array:
        return _instants(self.begin, seconds)


def _instants(begin: datetime, seconds: Array) -> Array:
    """Instants of UTC, without a zone."""
    first = np.datetime64(begin.replace(tzinfo=None), "us")
    return first + (seconds * 1e6).astype("timedelta64[us]")


def _hours(instants: Array) -> set[datetime]:
    return set(np.unique(instants.astype("datetime64[h]")).tolist())


def _arrays(rows: Sequence[Sequence[int]]) -> Array:
    """Arrays as Postgres writes them."""
    return np.array(["{" + ",".join(map(str, row)) + "}" for row in rows])


def _copy(connection: psycopg.Connection, table: str, columns: Mapping[str, Any], num: int) -> None:
    """Copy columns into a table; one value stands for all rows, what is masked is NULL."""
    arrays = {
        name: pa.array(column) if isinstance(column, np.ndarray) else pa.repeat(column, num)
        for name, column in columns.items()
    }
    lines = io.BytesIO()
    write_csv(pa.table(arrays), lines, WriteOptions(include_header=False))
    statement = f"COPY {table} ({', '.join(columns)}) FROM STDIN (FORMAT csv)"
    with connection.cursor().copy(statement) as copy:
        copy.write(lines.getbuffer())
