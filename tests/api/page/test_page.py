"""The page in headless Chromium, on the embedded default with a replay worker."""

import json
import re
from typing import Any

import psycopg
import pytest
from playwright.sync_api import Page, expect

from db.session import driver_url
from tests.api.live import client_of
from tests.api.page.browser import CHROMIUM, picture
from tests.api.page.conftest import NUM_PROBLEMS
from tests.replay_files import MODEL, problem_set
from tests.stack import Stack

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed"),
]

HOSTILE = "<script>window.hacked = 1</script><img src=x onerror='window.hacked = 1'>"


EARLIER = "UPDATE jobs SET created_at = created_at - interval '1004 seconds' WHERE id = %(job_id)s"
# Branch n of a job of 40 problems was queued n/20 s behind the submission and ran for 3 s.
MANY_BRANCHES = """
INSERT INTO branches (
    problem_id, job_id, batch_id, branch_index, worker_name, num_speculative_tokens, finish_reason,
    text, queued_at, started_at, finished_at, queue_time_s, ttft_s, decode_time_s, prompt_tokens,
    completion_tokens, num_steps, drafted_by_position, accepted_by_position
)
SELECT
    problems.id, problems.job_id, (SELECT min(id) FROM batches), 100 + round, 'worker-replay', 0,
    'length', '', queued_at, queued_at + interval '1 second', queued_at + interval '4 seconds', 1,
    1.2, 2.8, 10, 280, 280, '{}', '{}'
FROM problems
JOIN jobs ON jobs.id = problems.job_id
CROSS JOIN generate_series(0, %(per_problem)s - 1) AS round
CROSS JOIN LATERAL (
    SELECT jobs.created_at + interval '50 ms' * (round * jobs.num_problems + problems.position)
) AS times (queued_at)
WHERE problems.job_id = %(job_id)s
"""


def api(stack: Stack, path: str) -> Any:
    """A document of the API."""
    with client_of(stack.running.api_url, stack.running.api_key) as client:
        return client.get(path).raise_for_status().json()


def test_a_deadline_is_dragged_and_the_job_submitted_with_it_is_watched_to_its_end(
    page: Page,
) -> None:
    page.goto("/quote?num=40&chars=8")
    accuracy = page.locator(".quoted [data-name=accuracy]")
    slider = page.get_by_label("Deadline", exact=True)
    slider.focus()
    page.keyboard.press("Home")
    page.keyboard.press("ArrowRight")
    expect(page.locator(".quoted")).to_contain_text("cannot be met")
    page.keyboard.press("End")
    best = float(accuracy.get_attribute("value") or "nan")
    expect(accuracy).to_have_text(f"{best:.1%}")
    page.wait_for_url(re.compile(r"deadline=[\d.]+"))
    expect(page.locator(".chart .main-svg").first).to_be_visible()

    page.get_by_text("With the problems themselves").click()
    lines = "\n".join(json.dumps(problem) for problem in problem_set(NUM_PROBLEMS))
    page.get_by_label("One prompt per line").fill(lines)
    page.get_by_role("button", name="Quote").click()
    page.get_by_role("button", name=f"Submit {NUM_PROBLEMS} problems").click()

    page.wait_for_url(re.compile("/jobs/job_"))
    expect(page.locator("main .chip").first).to_have_text("running")
    expect(page.locator(".facts .of")).not_to_have_text(f"0 / {NUM_PROBLEMS}")
    expect(page.locator("main .chip").first).to_have_text("completed", timeout=60_000)
    expect(page.locator(".facts .of")).to_have_text(f"{NUM_PROBLEMS} / {NUM_PROBLEMS}")


def test_the_timeline_goes_down_to_a_branch_and_its_problem(
    stack: Stack, page: Page, ended: str
) -> None:
    page.goto(f"/jobs/{ended}")
    timeline = page.locator(".timeline")
    expect(timeline).to_have_attribute("data-mode", "branches")
    whole = api(stack, f"/v1/jobs/{ended}/timeline")
    summary = page.get_by_text("finished branches in view")
    expect(summary).to_contain_text(f"{whole['num_branches']} finished")
    timeline.focus()
    page.keyboard.press("+")
    page.wait_for_url(re.compile(r"from=[\d.]+&to=[\d.]+"))
    first, last = (float(value) for value in re.findall(r"(?:from|to)=([\d.]+)", page.url))
    expect(timeline).not_to_have_attribute("data-from", "0")
    page.reload()
    expect(timeline).to_have_attribute("data-from", str(first).removesuffix(".0"))
    assert float(timeline.get_attribute("data-to") or "nan") == pytest.approx(last)
    timeline.focus()
    page.keyboard.press("0")
    expect(timeline).to_have_attribute("data-from", "0")

    # Somewhere along the first row of the first worker is a branch.
    page.locator(".timeline canvas").scroll_into_view_if_needed()
    box = page.locator(".timeline canvas").bounding_box()
    assert box is not None
    for share in range(5, 100, 5):
        page.mouse.move(box["x"] + box["width"] * share / 100, box["y"] + 22 + 18 + 46 + 4 + 3)
        if page.locator(".tip").is_visible():
            break
    expect(page.locator(".tip")).to_contain_text("branch")
    page.mouse.down()
    page.mouse.up()
    page.wait_for_url(re.compile(r"problem=\d+"))
    expect(page.locator("article.opened")).to_contain_text("Votes")


def test_a_timeline_of_many_branches_is_summed_up_until_it_is_zoomed_into(
    stack: Stack, page: Page
) -> None:
    with stack.client() as client:
        job = client.submit(problem_set(), model=MODEL, deadline="300s", name="large")
        client.cancel(job["id"])
        client.wait(job["id"])
    with psycopg.connect(driver_url(stack.running.database_url)) as connection:
        connection.execute(EARLIER, {"job_id": job["id"]})
        connection.execute(MANY_BRANCHES, {"job_id": job["id"], "per_problem": 500})
    page.goto(f"/jobs/{job['id']}")
    timeline = page.locator(".timeline")
    expect(timeline).to_have_attribute("data-mode", "bins")
    expect(page.get_by_text("finished branches in view")).to_contain_text("20,000 finished")
    page.goto(f"/jobs/{job['id']}?from=500&to=510")
    expect(timeline).to_have_attribute("data-mode", "branches")
    picture(page, "large")


def test_numbers_of_the_page_are_those_of_the_api(stack: Stack, page: Page, ended: str) -> None:
    job = api(stack, f"/v1/jobs/{ended}")
    expected = {
        "num_branches": job["plan"]["num_branches"],
        "num_speculative_tokens": job["plan"]["num_speculative_tokens"],
        "max_tokens": job["plan"]["max_tokens"],
        "mean_acceptance_length": job["mean_acceptance_length"],
        "degraded": job["degraded"],
        "admitted_accuracy": job["admitted"]["accuracy"],
        "predicted_accuracy": job["predicted"]["accuracy"],
        "accuracy": job["accuracy"],
    }
    page.goto(f"/jobs/{ended}?problem=0")
    for name, value in expected.items():
        shown = page.locator(f"main data[data-name={name}]").first
        assert float(shown.get_attribute("value") or "nan") == value
        if "accuracy" in name:
            expect(shown).to_have_text(f"{value:.1%}")

    problem = api(stack, f"/v1/jobs/{ended}/problems/0")
    opened = page.locator("article.opened")
    for field in ("num_votes", "share"):
        shown = opened.locator(f"data[data-name={field}]")
        expect(shown).to_have_count(len(problem["votes"]))
        values = [float(each.get_attribute("value") or "nan") for each in shown.all()]
        assert values == [vote[field] for vote in problem["votes"]]
    rows = page.get_by_role("region", name="Problems in the order of submission").locator(
        "tbody tr"
    )
    results = api(stack, f"/v1/jobs/{ended}/results")["data"]
    expect(rows).to_have_count(len(results))
    assert [row.locator("td").nth(0).inner_text() for row in rows.all()] == [
        result["id"] for result in results
    ]
    assert [row.locator("td").nth(2).inner_text() for row in rows.all()] == [
        result["answer"] for result in results
    ]


def test_a_job_is_cancelled_after_a_question(stack: Stack, page: Page) -> None:
    with stack.client() as client:
        job = client.submit(problem_set(), model=MODEL, deadline="300s", name="long")
    page.goto("/")
    page.get_by_role("link", name="long").first.click()
    page.get_by_role("button", name="Cancel job").click()
    page.get_by_role("button", name="Keep it running").click()
    assert api(stack, f"/v1/jobs/{job['id']}")["state"] in ("queued", "running")
    page.get_by_role("button", name="Cancel job").click()
    page.get_by_role("button", name="Cancel the job").click()
    expect(page.locator("main .chip").first).to_have_text("cancelled")


def test_what_clients_send_is_shown_as_text(stack: Stack, page: Page) -> None:
    with stack.client() as client:
        job = client.submit(
            [{"id": HOSTILE, "prompt": HOSTILE, "reference_answer": HOSTILE}],
            model=MODEL,
            deadline="60s",
            name=HOSTILE,
        )
    page.goto(f"/jobs/{job['id']}?problem=0")
    expect(page.locator(".prompt")).to_have_text(HOSTILE)
    expect(page.locator("h1")).to_have_text(HOSTILE)
    page.goto("/")
    expect(page.get_by_role("link", name=HOSTILE).first).to_be_visible()
    assert page.locator("main script, main img").count() == 0
    assert page.evaluate("() => window.hacked") is None
