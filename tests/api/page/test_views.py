"""The page for everyone: keys, errors, addresses, light and dark, in headless Chromium."""

import re

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.api.page.browser import CHROMIUM, check_accessibility, open_page, picture
from tests.replay_files import MODEL
from tests.stack import Stack

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed"),
]


def test_ranges_and_groups_are_in_the_address(page: Page, ended: str) -> None:
    assert ended
    page.goto("/history")
    expect(page.get_by_role("button", name="7 days")).to_have_attribute("aria-pressed", "true")
    page.get_by_role("button", name="Hour", exact=True).click()
    page.wait_for_url(re.compile("range=1h"))
    page.get_by_label("Group by").select_option("model")
    page.wait_for_url(re.compile("group=model"))
    numbers = page.get_by_role("region", name="Latency", exact=True)
    expect(numbers.locator("tbody td").first).to_have_text(MODEL)
    expect(page.locator(".chart .main-svg").first).to_be_visible()
    page.reload()
    expect(page.get_by_role("button", name="Hour", exact=True)).to_have_attribute(
        "aria-pressed", "true"
    )
    expect(page.get_by_label("Group by")).to_have_value("model")
    page.go_back()
    expect(page.get_by_label("Group by")).to_have_value("")


def test_a_refused_key_is_asked_for_and_kept_for_the_tab(browser: Browser, stack: Stack) -> None:
    with open_page(browser, stack.running.api_url, expected="401") as page:
        page.add_init_script(
            "sessionStorage.getItem('slackline-key') ||"
            " sessionStorage.setItem('slackline-key', 'sk-slk-wrong')"
        )
        page.goto("/")
        expect(page.locator("#key-error")).to_contain_text("This API key is unknown")
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
        "calibration": ("/calibration?range=1d", ".chart .main-svg"),
        "quote": ("/quote?num=40&chars=8", ".chart .main-svg"),
    }
    with open_page(browser, stack.running.api_url, color_scheme=color_scheme) as page:
        for name, (path, shown) in views.items():
            page.goto(path)
            page.locator(shown).first.wait_for()
            page.wait_for_load_state("networkidle") if name != "overview" else None
            picture(page, f"{name}-{color_scheme}")
            check_accessibility(page)
