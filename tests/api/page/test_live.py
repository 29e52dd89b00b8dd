"""How views stay live: streams that break and come back, and no stream at all."""

import pytest
from playwright.sync_api import Browser, Page, Route, expect

from tests.api.page.browser import CHROMIUM, open_page
from tests.replay_files import MODEL, problem_set
from tests.stack import Stack

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed"),
]


# Every body breaks off as it does when the API is killed while it sends.
BREAK_BODIES = """() => {
  const { fetch } = window;
  const broken = { start: (body) => body.error(new TypeError("network error")) };
  window.fetch = async (...request) => new Response(
    new ReadableStream(broken), { status: (await fetch(...request)).status });
}"""


def submit(stack: Stack, name: str) -> None:
    with stack.client() as client:
        client.submit(problem_set(2), model=MODEL, deadline="60s", name=name)


def live(page: Page, *, is_streamed: bool) -> None:
    expect(page.locator("#live")).to_have_attribute("data-streamed", str(is_streamed).lower())


def test_a_stream_that_breaks_is_opened_again_and_nothing_is_missed(
    browser: Browser, stack: Stack
) -> None:
    # What the browser itself notes of a server that is away.
    with open_page(browser, stack.running.api_url, expected="net::ERR_") as page:
        page.goto("/")
        live(page, is_streamed=True)
        stack.kill("api")
        expect(page.locator("#notice")).to_contain_text("The API does not answer")
        live(page, is_streamed=False)
        submit(stack, "while it was away")
        expect(page.get_by_role("link", name="while it was away").first).to_be_visible()
        expect(page.locator("#notice")).to_be_hidden()
        live(page, is_streamed=True)
        submit(stack, "after it came back")
        expect(page.get_by_role("link", name="after it came back").first).to_be_visible()


def test_an_answer_that_breaks_in_the_middle_is_one_that_did_not_come(
    browser: Browser, stack: Stack
) -> None:
    with open_page(browser, stack.running.api_url) as page:
        page.goto("/")
        live(page, is_streamed=True)
        page.evaluate(BREAK_BODIES)
        submit(stack, "it makes the page read again")
        expect(page.locator("#notice")).to_contain_text("The API does not answer")


def test_without_a_stream_views_are_read_at_intervals(browser: Browser, stack: Stack) -> None:
    def refuse(route: Route) -> None:
        route.abort()

    with open_page(browser, stack.running.api_url, expected="net::ERR_FAILED") as page:
        page.route("**/v1/events", refuse)
        page.goto("/")
        expect(page.locator("#live")).to_have_text("every 1 s")
        submit(stack, "without a stream")
        expect(page.get_by_role("link", name="without a stream").first).to_be_visible()
        live(page, is_streamed=False)
