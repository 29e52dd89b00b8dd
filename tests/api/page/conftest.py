"""One Slackline with a replay worker and one Chromium for all tests of the page."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page

from tests.api.page.browser import open_page, running_browser
from tests.replay_files import MODEL, problem_set, replay_stack
from tests.stack import Stack

NUM_PROBLEMS = 6


@pytest.fixture(scope="package")
def stack() -> Iterator[Stack]:
    with replay_stack() as running:
        yield running


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    with running_browser() as started:
        yield started


@pytest.fixture(scope="package")
def ended(stack: Stack) -> str:
    """A job that ended."""
    with stack.client() as client:
        problems = problem_set(NUM_PROBLEMS)
        problems[0]["deadline"] = "20s"
        job = client.submit(problems, model=MODEL, deadline="30s", name="ended")
        client.wait(job["id"])
        return job["id"]


@pytest.fixture
def page(browser: Browser, stack: Stack) -> Iterator[Page]:
    with open_page(browser, stack.running.api_url) as opened:
        yield opened
