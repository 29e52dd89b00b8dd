"""What tables show when the terminal is narrow."""

from typing import cast

import pytest
from rich.console import Console
from rich.table import Table

from api.client import quotes
from api.client.display import jobs_table, results_table, workers_table
from api.client.shapes import Job, Result, Worker

JOB_ID = "job_01a1fd62cd99753aba226bfef6382534"


def shown(table: Table, width: int) -> str:
    console = Console(width=width)
    with console.capture() as capture:
        console.print(table)
    return capture.get()


@pytest.mark.parametrize("width", [40, 80, 120])
def test_a_job_id_is_whole_at_any_width(width: int) -> None:
    job = cast(
        Job,
        {
            "id": JOB_ID,
            "name": "a name of some length",
            "model": "slackline-demo",
            "state": "running",
            "progress": {"answered": 120},
            "num_problems": 200,
            "deadline_at": "2026-01-05T12:00:00Z",
            "slack_s": 12.5,
        },
    )

    assert JOB_ID in shown(jobs_table([job]), width)


def test_long_ids_and_answers_are_folded_and_not_cut() -> None:
    result = cast(
        Result,
        {
            "id": "i" * 60,
            "state": "answered",
            "answer": "a" * 60,
            "vote_share": 1.0,
            "is_correct": None,
            "degraded": False,
            "num_branches_finished": 4,
            "num_branches_planned": 4,
        },
    )

    text = shown(results_table([result]), 80)

    assert "\N{HORIZONTAL ELLIPSIS}" not in text
    assert text.count("i") >= 60
    assert text.count("a") >= 60


def test_a_model_is_in_one_piece_on_an_ordinary_terminal() -> None:
    worker = cast(
        Worker,
        {
            "name": "worker-torch",
            "model": "slackline-demo",
            "engine": "torch",
            "status": "alive",
            "max_num_seqs": 64,
            "num_running_branches": 0,
            "draft_lengths": list(range(9)),
        },
    )
    assert "slackline-demo" in shown(workers_table([worker]), 80)


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, ""), (9.96, "10.0 s"), (99.9, "99.9 s"), (120, "2.0 min"), (9_000, "2.5 h")],
)
def test_durations_are_read_at_a_glance(value: float | None, text: str) -> None:
    assert quotes.seconds(value) == text


def test_a_bar_has_the_same_width_for_every_accuracy() -> None:
    assert {len(quotes.bar(share)) for share in (0.0, 0.5, 1.0)} == {10}
    assert quotes.bar(0.5).count("\N{FULL BLOCK}") == 5
