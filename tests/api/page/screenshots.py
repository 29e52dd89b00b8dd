"""Takes the pictures of README: a simulated history of 30 days and a few live jobs, light and dark.

    python -m tests.api.page.screenshots [--out docs/figures] [--days 30]

Everything runs: `slackline up` with a replay worker, jobs submitted to it, and the history that
`slackline demo-history` stores. All of it says that it is simulated.
"""

import argparse
import io
import json
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import cycle, islice
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import Browser, Page

from api.client import Client
from db.session import connect, session_factory
from infra.demo_engines import DEMO_DATA_DIR
from infra.simulated.fleets import MARK
from infra.simulated.load import load
from tests.api.page.browser import open_page, running_browser
from tests.stack import open_folder, running_stack

MODEL = f"EXAONE-Deep-32B{MARK}"
MAX_BYTES = 300_000
HEIGHTS = {"overview": 860, "job": 1010, "history": 1270, "calibration": 900, "quote": 760}
"""Pixels of each view, from the top, in which it shows what it is for."""
_LIVE = (
    ("tutoring", 3, "40s"),
    ("homework", 24, "4m"),
    ("exam", 60, "20m"),
    ("ablation", 40, "1h"),
)


def submit_live(client: Client) -> None:
    """Submit jobs that run for a while."""
    lines = (DEMO_DATA_DIR / "math500_40.jsonl").read_text(encoding="utf-8").splitlines()
    asked = cycle({k: v for k, v in json.loads(line).items() if k != "id"} for line in lines)
    for name, num, deadline in _LIVE:
        problems: list[Any] = list(islice(asked, num))
        client.submit(problems, model=MODEL, deadline=deadline, name=name + MARK)


def ended_job(client: Client) -> str:
    """A job of the history whose timeline has something to show."""
    return next(
        job["id"]
        for job in client.jobs(limit=1000)
        if job["name"].startswith("homework")
        and job["state"] == "completed"
        and 14 <= job["num_problems"] <= 20
        and job["degraded"] == 0
    )


def views(page: Page, job_id: str) -> Iterator[str]:
    """Open one view after the other, and wait for what it is for."""
    paths = {
        "job": (f"/jobs/{job_id}?problem=0", "article.opened"),
        "history": ("/history?range=30d&group=model", ".chart .main-svg"),
        "calibration": ("/calibration?range=30d&group=model", ".chart .main-svg"),
        "quote": (f"/quote?model={MODEL}&num=60&chars=230&deadline=150", ".chart .main-svg"),
        "overview": ("/", ".tiles"),
    }
    for name, (path, shown) in paths.items():
        page.goto(path)
        page.locator(shown).first.wait_for()
        page.wait_for_timeout(1500)  # Charts settle, streams open.
        yield name


def keep(page: Page, path: Path, height: int) -> None:
    """Store the upper part of the page in a palette of 256 colors."""
    page.set_viewport_size({"width": 1280, "height": height})
    page.wait_for_timeout(500)
    taken = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    taken.quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)
    size = path.stat().st_size
    print(f"{path}  {size / 1000:.0f} kB")
    assert size < MAX_BYTES, f"{path} is too large for README"


def take(browser: Browser, url: str, key: str, out: Path) -> None:
    """Take all pictures, light and dark."""
    with Client(url, key) as client:
        submit_live(client)
        job_id = ended_job(client)
    for scheme in ("light", "dark"):
        with open_page(browser, url, color_scheme=scheme) as page:
            page.add_init_script(f"sessionStorage.setItem('slackline-key', '{key}')")
            for name in views(page, job_id):
                keep(page, out / f"page-{name}-{scheme}.png", HEIGHTS[name])


def main() -> int:
    """Run the command; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.api.page.screenshots")
    parser.add_argument("--out", type=Path, default=Path("docs/figures"))
    parser.add_argument("--days", type=float, default=30.0)
    options = parser.parse_args()
    with open_folder() as folder:
        env = {"SLACKLINE_MODEL": MODEL}
        with running_stack(folder / "data", "replay", env=env) as stack:
            engine = connect(stack.running.database_url, pool_size=1)
            loaded = load(session_factory(engine), days=options.days, now=datetime.now(UTC))
            engine.dispose()
            with running_browser() as browser:
                take(browser, stack.running.api_url, loaded.parties[0].api_key, options.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
