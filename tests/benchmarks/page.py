"""Does the page stay usable beside a job of a million problems?

Questions: (1) How long do the calls of a job's view take for a live job of N problems and for an
ended one? (2) How long is it in Chromium from the address to a view that shows its numbers and
problems and answers a key, when does its timeline stand, and how many elements does it have? (3)
What is that as a multiple of the same for a job of a thousand problems?

Regimes: one Slackline with a replay worker, which serves another model, so that nothing else
changes; a live and an ended job of each size, three fifths of the live one answered, with
`--branches` finished branches each. Rows are written by one SQL statement, then vacuumed, as
autovacuum would in a minute. The sizes come one after the other, the smallest first.

Falsified when: a view of the largest job takes more than 2 s to be usable, or has more elements
than that of the smallest by more than a tenth.

    python -m tests.benchmarks.page [--sizes 1000,1000000] [--branches 200000] [--rounds 7]
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import httpx
import psycopg
from playwright.sync_api import Page

from db.session import driver_url
from tests.api.page.browser import open_page, running_browser
from tests.replay_files import replay_environment
from tests.stack import Stack, open_folder, running_stack

MODEL = "served-by-nobody"

_JOB = """
INSERT INTO jobs (
    id, tenant_id, name, model, state, deadline_at, max_branches, temperature, top_p, num_problems,
    mean_prompt_tokens, verdict, admitted_finish_at, admitted_finish_p95_at, admitted_accuracy,
    created_at, started_at
)
SELECT %(id)s, 'ten_local', %(name)s, %(model)s, 'running', now() + interval '9 days', 16, 1, 1,
    %(size)s, 10, 'accepted', now() + interval '1 day', now() + interval '2 days', 0.9,
    now() - interval '1 hour', now() - interval '1 hour'
"""
_PROBLEMS = """
INSERT INTO problems (
    job_id, key, position, prompt, reference_answer, state, answer, vote_share, is_correct,
    finished_at, num_branches_finished
)
SELECT %(id)s, 'p' || n, n, 'What is ' || n || ' + 1?', n + 1, state,
    CASE state WHEN 'answered' THEN (n + 1)::text END, CASE state WHEN 'answered' THEN 0.75 END,
    CASE state WHEN 'answered' THEN n %% 10 > 0 END,
    CASE state WHEN 'answered' THEN now() - interval '1 minute' END, 4
FROM generate_series(0, %(size)s - 1) AS n
CROSS JOIN LATERAL (
    SELECT CASE WHEN n < %(size)s * %(share)s THEN 'answered' ELSE 'pending' END AS state
) AS drawn
"""
_BATCH = """
INSERT INTO batches (
    job_id, worker_name, state, num_problems, num_branches, num_speculative_tokens, max_tokens,
    wave_size, created_at, finished_at
)
SELECT %(id)s, name, 'done', 1, 4, 0, 99, 1, now(), now() FROM workers LIMIT 1
"""
_BRANCHES = """
INSERT INTO branches (
    problem_id, job_id, batch_id, branch_index, worker_name, num_speculative_tokens, finish_reason,
    text, queued_at, started_at, finished_at, queue_time_s, ttft_s, decode_time_s, prompt_tokens,
    completion_tokens, num_steps, drafted_by_position, accepted_by_position, num_rows
)
SELECT problems.id, job_id, (SELECT max(id) FROM batches WHERE job_id = %(id)s), n / %(answered)s,
    'worker-replay', 0, 'length', '', at, at + interval '1 s', at + interval '4 s', 1, 1.2, 2.8, 10,
    280, 280, '{}', '{}', 8
FROM generate_series(0, %(branches)s - 1) AS n
JOIN problems ON job_id = %(id)s AND position = n %% %(answered)s
CROSS JOIN LATERAL (
    SELECT now() - interval '3590 s' * (1 - n::float8 / %(branches)s) AS at
) AS times
"""
_USABLE = """() => new Promise((resolve) => {
    const began = performance.now();
    document.body.dispatchEvent(new KeyboardEvent("keydown", {key: "j", bubbles: true}));
    requestAnimationFrame(() => setTimeout(() => resolve(performance.now() - began), 0));
})"""


def make_job(stack: Stack, size: int, branches: int, *, ended: bool) -> str:
    """Store a job; returns its id."""
    job_id = f"job_{size:031x}{int(ended)}"
    share = 1.0 if ended else 0.6
    values = {
        "id": job_id,
        "name": f"{size:,} problems, {'ended' if ended else 'live'}",
        "model": MODEL,
        "size": size,
        "share": share,
        "answered": max(1, int(size * share)),
        "branches": branches,
    }
    with psycopg.connect(driver_url(stack.running.database_url), autocommit=True) as connection:
        for statement in (_JOB, _PROBLEMS, _BATCH, _BRANCHES):
            connection.execute(statement, values)
        for table in ("problems", "branches"):
            connection.execute(f"VACUUM ANALYZE {table}")
    if ended:  # By the scheduler, which finds that nothing is open.
        with stack.client() as client:
            client.wait(job_id)
    return job_id


def median_ms(rounds: int, measure: Callable[[], object]) -> float:
    """Median milliseconds of a call that is repeated; the first one warms up."""
    taken = []
    for _ in range(rounds + 1):
        began = time.perf_counter()
        measure()
        taken.append(1000 * (time.perf_counter() - began))
    return round(statistics.median(taken[1:]), 1)


def api_ms(stack: Stack, job_id: str, rounds: int) -> dict[str, float]:
    """Median milliseconds of each call of a job's view and of the overview."""
    headers = {"Authorization": f"Bearer {stack.running.api_key}"}
    with httpx.Client(base_url=stack.running.api_url, headers=headers, timeout=120) as client:
        calls = {
            "job": f"/v1/jobs/{job_id}",
            "results, first page": f"/v1/jobs/{job_id}/results?limit=25",
            "results, in the middle": f"/v1/jobs/{job_id}/results?limit=25&after=599",
            "timeline": f"/v1/jobs/{job_id}/timeline?bins=400",
            "explain": f"/v1/jobs/{job_id}/explain",
        }
        return {
            name: median_ms(rounds, lambda path=path: client.get(path).raise_for_status())  # type: ignore[misc]
            for name, path in calls.items()
        }


def view_ms(page: Page, path: str, shown: str, rounds: int) -> dict[str, float]:
    """Milliseconds from an address to its view, to the frame after a key, and to the timeline."""
    ready, keys, drawn = [], [], []
    for _ in range(rounds + 1):
        began = time.perf_counter()
        page.goto(path)
        page.locator(shown).first.wait_for()
        ready.append(1000 * (time.perf_counter() - began))
        keys.append(float(page.evaluate(_USABLE)))
        if page.locator(".timeline").count():
            page.locator(".timeline[data-mode]").wait_for()
        drawn.append(1000 * (time.perf_counter() - began))
    elements = page.evaluate("() => document.querySelectorAll('*').length")
    return {
        "usable_ms": round(statistics.median(ready[1:]), 1),
        "key_ms": round(statistics.median(keys[1:]), 1),
        "timeline_ms": round(statistics.median(drawn[1:]), 1),
        "elements": elements,
    }


def bench(stack: Stack, sizes: Sequence[int], branches: int, rounds: int) -> dict[str, Any]:
    """Everything, by size."""
    with running_browser() as browser, open_page(browser, stack.running.api_url) as page:
        found: dict[str, Any] = {}
        for size in sizes:
            own: dict[str, Any] = {}
            for ended in (True, False):
                began = time.perf_counter()
                job_id = make_job(stack, size, branches, ended=ended)
                label = "ended" if ended else "live"
                print(f"{size:,} {label}: stored in {time.perf_counter() - began:.0f} s")
                own[label] = {
                    "api_ms": api_ms(stack, job_id, rounds),
                    "view": view_ms(
                        page, f"/jobs/{job_id}", "[data-keep=problems] tbody tr", rounds
                    ),
                }
                print(json.dumps(own[label]))
            own["overview"] = view_ms(page, "/", ".tiles", rounds)
            print(f"overview: {json.dumps(own['overview'])}")
            found[f"{size}"] = own
    return found


def main() -> int:
    """Run the command; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.page")
    parser.add_argument("--sizes", default="1000,1000000")
    parser.add_argument("--branches", type=int, default=200_000)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    sizes = sorted(int(size) for size in options.sizes.split(","))
    with open_folder() as folder:
        env = replay_environment(folder / "replay")
        with running_stack(folder / "data", "replay", env=env) as stack:
            with stack.client() as client:
                list(client.jobs(limit=1))  # Makes the local tenant.
            found = bench(stack, sizes, options.branches, options.rounds)
    small, large = found[f"{sizes[0]}"], found[f"{sizes[-1]}"]
    ratios = {
        label: round(large[label]["view"]["usable_ms"] / small[label]["view"]["usable_ms"], 2)
        for label in ("ended", "live")
    }
    print(json.dumps({"benchmark": "page", "sizes": found, "usable_ratio": ratios}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
