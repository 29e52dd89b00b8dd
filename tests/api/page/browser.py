"""Headless Chromium for the tests of the page."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, ConsoleMessage, Page, expect, sync_playwright

CHROMIUM = os.environ.get("SLACKLINE_TEST_CHROMIUM") or shutil.which("chromium")
"""The browser of the system; Playwright's own is not downloaded."""

SCREENSHOTS = os.environ.get("SLACKLINE_TEST_SCREENSHOTS")
"""A folder that gets a picture of every view; none are taken without it."""

_ARGUMENTS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
_BAD = {"serious", "critical"}
_PATIENCE_MS = 30_000


@contextmanager
def running_browser() -> Iterator[Browser]:
    """Chromium, until the end of the block."""
    expect.set_options(timeout=_PATIENCE_MS)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=_ARGUMENTS)
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def open_page(
    browser: Browser, url: str, *, color_scheme: str = "light", expected: str | None = None
) -> Iterator[Page]:
    """A tab of its own that may not complain: no error on the console, none uncaught.

    Args:
        expected: What the console may say all the same contains this.
    """
    context = browser.new_context(
        base_url=url,
        viewport={"width": 1360, "height": 900},
        color_scheme="dark" if color_scheme == "dark" else "light",
        timezone_id="UTC",
        locale="en-US",
    )
    context.set_default_timeout(_PATIENCE_MS)
    page = context.new_page()
    complaints: list[str] = []

    def listen(message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            complaints.append(f"{message.text} ({message.location.get('url')})")

    page.on("console", listen)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    try:
        yield page
        unexpected = [text for text in complaints if expected is None or expected not in text]
        assert not unexpected, unexpected
    finally:
        context.close()


def check_accessibility(page: Page) -> None:
    """axe-core finds nothing serious."""
    found = Axe().run(page).response["violations"]
    bad = [
        (violation["id"], [node["html"][:200] for node in violation["nodes"][:5]])
        for violation in found
        if violation["impact"] in _BAD
    ]
    assert not bad, bad


def picture(page: Page, name: str) -> None:
    """Keep a picture of the whole page where the environment names a folder."""
    if SCREENSHOTS:
        Path(SCREENSHOTS).mkdir(parents=True, exist_ok=True)
        page.screenshot(path=f"{SCREENSHOTS}/{name}.png", full_page=True)
