"""The page in headless Chromium, on the embedded default with a replay worker."""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.api.live import client_of
from tests.api.page.browser import (
    CHROMIUM,
    check_accessibility,
    open_page,
    picture,
    running_browser,
)
from tests.replay_files import MODEL, problem_set, replay_environment
from tests.stack import Stack, open_folder, running_stack

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed"),
]

NUM_PROBLEMS = 6
HOSTILE = "<script>window.hacked = 1</script><img src=x onerror='window.hacked = 1'>"


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    with open_folder() as folder:
        env = replay_environment(folder / "replay")
        with running_stack(folder / "data", "replay", env=env) as running:
            yield running


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with running_browser() as started:
        yield started


@pytest.fixture(scope="module")
def ended(stack: Stack) -> str:
    """A job that ended."""
    with stack.client() as client:
        job = client.submit(problem_set(NUM_PROBLEMS), model=MODEL, deadline="30s", name="ended")
        client.wait(job["id"])
        return job["id"]


@pytest.fixture
def page(browser: Browser, stack: Stack) -> Iterator[Page]:
    with open_page(browser, stack.running.api_url) as opened:
        yield opened


def api(stack: Stack, path: str) -> Any:
    """A document of the API."""
    with client_of(stack.running.api_url, stack.running.api_key) as client:
        return client.get(path).raise_for_status().json()


def test_a_deadline_is_dragged_and_the_job_submitted_with_it_is_watched_to_its_end(
    page: Page,
) -> None:
    page.goto("/quote?num=40&chars=8")
    accuracy = page.locator("[data-name=accuracy]")
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
        values = [float(each.get_attribute("value") or "nan") for each in shown.all()]
        assert values == [vote[field] for vote in problem["votes"]]
    rows = page.get_by_role("region", name="Problems in the order of submission").locator(
        "tbody tr"
    )
    results = api(stack, f"/v1/jobs/{ended}/results")["data"]
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


def test_ranges_and_groups_are_in_the_address(page: Page, ended: str) -> None:
    assert ended
    page.goto("/history")
    expect(page.get_by_role("button", name="7 days")).to_have_attribute("aria-pressed", "true")
    page.get_by_role("button", name="Hour", exact=True).click()
    page.wait_for_url(re.compile("range=1h"))
    page.get_by_label("Group by").select_option("model")
    page.wait_for_url(re.compile("group=model"))
    numbers = page.get_by_role("region", name="Numbers of the charts")
    expect(numbers.locator("tbody td").first).to_have_text(MODEL)
    expect(page.locator(".chart .main-svg").first).to_be_visible()
    page.reload()
    expect(page.get_by_role("button", name="Hour", exact=True)).to_have_attribute(
        "aria-pressed", "true"
    )
    expect(page.get_by_label("Group by")).to_have_value("model")
    page.go_back()
    expect(page.get_by_label("Group by")).to_have_value("hour")


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
    with stack.client() as client:
        client.cancel(job["id"])


def test_a_refused_key_is_asked_for_and_kept_for_the_tab(browser: Browser, stack: Stack) -> None:
    with open_page(browser, stack.running.api_url, expected="401") as page:
        page.add_init_script(
            "sessionStorage.getItem('slackline-key') ||"
            " sessionStorage.setItem('slackline-key', 'sk-slk-wrong')"
        )
        page.goto("/")
        expect(page.locator("#key-error")).to_contain_text("unknown or revoked")
        expect(page.locator("#key")).to_have_value(stack.running.api_key)
        page.get_by_role("button", name="Use this key").click()
        expect(page.locator(".tiles")).to_be_visible()
        page.reload()
        expect(page.locator(".tiles")).to_be_visible()
        expect(page.locator("#key-dialog")).to_be_hidden()


def test_an_error_is_told_in_the_words_of_the_api(browser: Browser, stack: Stack) -> None:
    with open_page(browser, stack.running.api_url, expected="404") as page:
        page.goto("/jobs/job_unknown")
        expect(page.locator("#notice")).to_have_text("No job found with id 'job_unknown'.")


def test_everything_is_reached_by_keys(page: Page, ended: str) -> None:
    page.goto("/")
    page.keyboard.press("Tab")
    expect(page.get_by_text("Skip to content")).to_be_focused()
    page.keyboard.press("Enter")
    page.keyboard.press("g")
    page.keyboard.press("h")
    page.wait_for_url(re.compile("/history$"))
    page.keyboard.press("g")
    page.keyboard.press("o")
    expect(page.get_by_role("link", name="ended").first).to_be_visible()
    page.keyboard.press("j")
    expect(page.locator("a.row-link:focus")).to_have_count(1)
    page.get_by_role("link", name="ended").first.focus()
    page.keyboard.press("Enter")
    page.wait_for_url(re.compile(ended))
    page.keyboard.press("?")
    expect(page.get_by_role("heading", name="Shortcuts")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("heading", name="Shortcuts")).to_be_hidden()


@pytest.mark.parametrize("color_scheme", ["light", "dark"])
def test_every_view_can_be_read_by_everyone(
    browser: Browser, stack: Stack, ended: str, color_scheme: str
) -> None:
    views = {
        "overview": ("/", ".tiles"),
        "job": (f"/jobs/{ended}?problem=1", "article.opened"),
        "history": ("/history?range=1d", ".chart .main-svg"),
        "calibration": ("/calibration", "h1"),
        "quote": ("/quote?num=40&chars=8", ".chart .main-svg"),
    }
    with open_page(browser, stack.running.api_url, color_scheme=color_scheme) as page:
        for name, (path, shown) in views.items():
            page.goto(path)
            page.locator(shown).first.wait_for()
            page.wait_for_load_state("networkidle") if name != "overview" else None
            picture(page, f"{name}-{color_scheme}")
            check_accessibility(page)
