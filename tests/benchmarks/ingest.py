"""How fast does one API process take problems in, and in how much memory?

Questions: (1) What is the peak of resident memory of the API process while a file of 50,000 lines
and 200 MiB is uploaded, and while the batch made from it is validated and stored? (2) At what share
of the rate of a plain `COPY` of the same rows into the same table are 100,000 problems of a job
ingested? (3) Beside it, how many jobs per second do Procrastinate, on the same Postgres, and plain
Celery, on a Redis beside it, enqueue?

Regimes: one API process of the real command, Postgres with its defaults (`fsync` on) and an idle
worker that only exists as a row, all on this machine. Rounds alternate; rates are medians. `COPY`
gets its rows already encoded, so its rate is Postgres's own; ours includes HTTP, parsing, checks,
admission and the commit.

Falsified when: the ratio of (2) is below 0.80, or a peak of (1) exceeds what the process held
before by more than 100 MiB.

    python -m tests.benchmarks.ingest
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import procrastinate
import psycopg
from celery import Celery
from procrastinate.types import JSONValue

from db import migrate
from db.keys import LOCAL_TENANT
from db.session import connect, driver_url, session_factory, transaction
from infra.processes import Child, ChildSpec
from infra.readiness import api_is_ready
from infra.servers import Postgres, Redis, free_port
from infra.services import api_child
from tests.factories import MODEL, new_job, stored_job, stored_worker

MIB = 1 << 20
NUM_LINES = 50_000
FILE_BYTES = 200 * MIB
PROMPT = "Q: Natalia sold clips to 48 of her friends in April, and then half as many in May. "
KEY = "sk-slk-benchmark"
COLUMNS = "job_id, key, position, prompt, reference_answer, state"


def main() -> None:
    """Prints a line per measurement and, last, one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--problems", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tasks", type=int, default=20_000, help="For each of the queues.")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="slackline-ingest-") as folder:
        os.chmod(folder, 0o755)
        summary = measure(Path(folder), args.problems, args.rounds, args.tasks)
    print(json.dumps(summary))


def measure(folder: Path, num_problems: int, num_rounds: int, num_tasks: int) -> dict[str, Any]:
    """All three questions on servers of their own."""
    postgres = Postgres(folder / "postgres")
    redis = Redis(folder, free_port())
    with running(postgres.child(), folder), running(redis.child(), folder):
        migrate.upgrade(postgres.url)
        with transaction(session_factory(connect(postgres.url))) as session:
            alive_until = datetime.now(UTC) + timedelta(hours=2)
            stored_worker(session, now=alive_until, max_model_len=8_192, max_num_seqs=4_096)
        port = free_port()
        url = f"http://127.0.0.1:{port}"
        env = {"DATABASE_URL": postgres.url, "SLACKLINE_LOCAL_KEY": KEY}
        with running(api_child("127.0.0.1", port, url, env), folder) as api:
            assert api_is_ready(url)
            headers = {"Authorization": f"Bearer {KEY}"}
            with httpx.Client(base_url=url, headers=headers, timeout=300) as client:
                assert api.pid is not None
                memory = upload(client, api.pid, folder)
                rates = ingest(client, postgres.url, num_problems, num_rounds)
        rates |= {"celery_per_s": celery_rate(redis.url, num_tasks)}
        rates |= procrastinate_rates(driver_url(postgres.url), num_tasks)
    return memory | rates


@contextmanager
def running(spec: ChildSpec, folder: Path) -> Iterator[Child]:
    """Run a process until the end of the block."""
    child = Child(spec, folder / f"{spec.name}.log")
    child.start()
    try:
        while not child.check_ready():
            assert child.returncode is None, child.log_tail()
            time.sleep(0.05)
        yield child
    finally:
        child.stop()


def upload(client: httpx.Client, pid: int, folder: Path) -> dict[str, Any]:
    """Peaks of memory while a full file comes in and becomes a batch."""
    path = folder / "requests.jsonl"
    size = FILE_BYTES // NUM_LINES
    with path.open("w") as file:
        for number in range(NUM_LINES):
            line = {
                "custom_id": f"p-{number}",
                "method": "POST",
                "url": "/v1/chat/completions",
                "body": {"model": MODEL, "messages": [{"role": "user", "content": ""}]},
            }
            room = size - 1 - len(json.dumps(line))
            line["body"]["messages"][0]["content"] = (PROMPT * 60)[:room]  # type: ignore[index]
            file.write(json.dumps(line) + "\n")
    warm = client.post("/v1/files", files={"file": b"{}\n"}, data={"purpose": "batch"})
    assert warm.status_code == 200, warm.text
    before_mib = reset_peak_mib(pid)
    began_s = time.perf_counter()
    with path.open("rb") as content:
        form = {"file": ("requests.jsonl", content)}
        file_id = client.post("/v1/files", files=form, data={"purpose": "batch"}).json()["id"]
    upload_s = time.perf_counter() - began_s
    upload_mib = reset_peak_mib(pid)
    began_s = time.perf_counter()
    batch = client.post(
        "/v1/batches",
        json={
            "input_file_id": file_id,
            "endpoint": "/v1/chat/completions",
            "completion_window": "7d",
            "slackline": {"best_effort": True},
        },
    ).json()
    while batch["status"] == "validating":
        time.sleep(0.1)
        batch = client.get(f"/v1/batches/{batch['id']}").json()
    validate_s = time.perf_counter() - began_s
    assert batch["status"] == "in_progress", batch
    assert batch["request_counts"]["total"] == NUM_LINES
    record = {
        "file_mib": path.stat().st_size / MIB,
        "rss_before_mib": before_mib,
        "rss_peak_upload_mib": upload_mib,
        "rss_peak_validation_mib": reset_peak_mib(pid),
        "upload_s": round(upload_s, 2),
        "validation_s": round(validate_s, 2),
    }
    client.post(f"/v1/batches/{batch['id']}/cancel")
    print(record)
    return record


def reset_peak_mib(pid: int) -> float:
    """Peak of resident memory since the last call, as the kernel counts it."""
    status = Path(f"/proc/{pid}/status").read_text()
    peak_kib = int(status.partition("VmHWM:")[2].split()[0])
    Path(f"/proc/{pid}/clear_refs").write_text("5")
    return round(peak_kib / 1024, 1)


def ingest(
    client: httpx.Client, database_url: str, num_problems: int, num_rounds: int
) -> dict[str, Any]:
    """Rates of a submission over HTTP and of `COPY`, in problems per second."""
    problems = [
        (f"p-{number}", f"{PROMPT * 3}{number}?", str(number)) for number in range(num_problems)
    ]
    lines = b"".join(
        json.dumps({"id": key, "prompt": prompt, "reference_answer": answer}).encode() + b"\n"
        for key, prompt, answer in problems
    )
    rates: dict[str, list[float]] = {"http": [], "copy": []}
    for number in range(-1, num_rounds):  # round -1 warms both up
        taken = {
            "copy": copy_s(database_url, problems),
            "http": submit_s(client, lines),
        }
        for way, seconds in taken.items():
            print({"round": number, "way": way, "problems_per_s": round(num_problems / seconds)})
            if number >= 0:
                rates[way].append(num_problems / seconds)
    ours, copied = (statistics.median(rates[way]) for way in ("http", "copy"))
    return {
        "num_problems": num_problems,
        "http_problems_per_s": round(ours),
        "copy_problems_per_s": round(copied),
        "ratio": round(ours / copied, 3),
    }


def submit_s(client: httpx.Client, lines: bytes) -> float:
    """Seconds from the first byte of a submission to the answer that it is stored."""
    options = {"model": MODEL, "deadline": "7d", "best_effort": "true"}
    headers = {"Content-Type": "application/x-ndjson"}
    began_s = time.perf_counter()
    response = client.post("/v1/jobs", content=lines, params=options, headers=headers)
    taken_s = time.perf_counter() - began_s
    assert response.status_code == 201, response.text
    client.post(f"/v1/jobs/{response.json()['id']}/cancel")
    return taken_s


def copy_s(database_url: str, problems: list[tuple[str, str, str]]) -> float:
    """Seconds of a `COPY` of the same rows for a job of their own, commit included."""
    engine = connect(database_url)
    job_id = new_job().id
    with transaction(session_factory(engine)) as session:
        stored_job(session, id=job_id, num_problems=len(problems), tenant_id=LOCAL_TENANT)
        session.connection().exec_driver_sql("DELETE FROM problems WHERE job_id = %s", (job_id,))
    engine.dispose()
    rows = [
        f"{job_id}\t{key}\t{position}\t{prompt}\t{answer}\tpending\n"
        for position, (key, prompt, answer) in enumerate(problems)
    ]
    blocks = ["".join(rows[i : i + 1000]).encode() for i in range(0, len(rows), 1000)]
    with psycopg.connect(driver_url(database_url)) as connection, connection.cursor() as cursor:
        began_s = time.perf_counter()
        with cursor.copy(f"COPY problems ({COLUMNS}) FROM STDIN") as copy:
            for block in blocks:
                copy.write(block)
        connection.commit()
        taken_s = time.perf_counter() - began_s
        cursor.execute("UPDATE jobs SET state = 'cancelling' WHERE id = %s", (job_id,))
    return taken_s


def celery_rate(redis_url: str, num_tasks: int) -> int:
    """Tasks per second that one process sends, one message each."""
    app = Celery("benchmark", broker=redis_url, set_as_current=False)
    prompt = PROMPT * 3
    with app.connection_for_write() as connection, app.amqp.Producer(connection) as producer:
        app.send_task("solve", args=[prompt], producer=producer)
        began_s = time.perf_counter()
        for _ in range(num_tasks):
            app.send_task("solve", args=[prompt], producer=producer)
        rate = round(num_tasks / (time.perf_counter() - began_s))
    print({"celery_per_s": rate})
    return rate


def procrastinate_rates(database_url: str, num_tasks: int) -> dict[str, Any]:
    """Jobs per second that one process defers, one by one and in batches of a thousand."""
    prompt = PROMPT * 3
    app = procrastinate.App(connector=procrastinate.SyncPsycopgConnector(conninfo=database_url))
    with app.open():
        app.schema_manager.apply_schema()
        task = app.configure_task("solve")
        began_s = time.perf_counter()
        for _ in range(num_tasks // 10):
            task.defer(prompt=prompt)
        single = num_tasks // 10 / (time.perf_counter() - began_s)
        began_s = time.perf_counter()
        batch: list[dict[str, JSONValue]] = [{"prompt": prompt} for _ in range(1_000)]
        for _ in range(num_tasks // 1_000):
            task.batch_defer(*batch)
        batched = num_tasks // 1_000 * 1_000 / (time.perf_counter() - began_s)
    rates = {
        "procrastinate_per_s": round(single),
        "procrastinate_batched_per_s": round(batched),
    }
    print(rates)
    return rates


if __name__ == "__main__":
    main()
