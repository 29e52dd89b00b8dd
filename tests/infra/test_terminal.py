"""What the terminal shows of the children's logs."""

import io
from pathlib import Path

import pytest
from rich.console import Console

from infra.terminal import MAX_LINE_CHARS, MAX_LINES_PER_S, Terminal, short_line


def test_json_lines_are_shown_as_event_and_fields() -> None:
    line = '{"event": "batch claimed", "level": "info", "timestamp": "x", "batch_id": 7}'
    assert short_line(line) == "batch claimed batch_id=7"


def test_time_and_level_of_text_lines_are_left_out_unless_they_matter() -> None:
    info = "2026-11-21T08:40:00.1Z [info     ] scheduler.leads                pid=7"
    assert short_line(info) == "scheduler.leads  pid=7"
    assert short_line("INFO:     Application startup complete.") == "Application startup complete."
    assert "[error" in short_line("2026-11-21T08:40:00.1Z [error    ] store.away")


def test_long_lines_are_cut() -> None:
    assert len(short_line("x" * 1000)) == MAX_LINE_CHARS


def test_lines_that_only_look_like_json_are_shown_as_they_are() -> None:
    assert short_line("{not json") == "{not json"


def test_a_log_is_followed_by_whole_lines(tmp_path: Path) -> None:
    log = tmp_path / "api.log"
    log.write_text("old\n")
    output = io.StringIO()
    terminal = Terminal(Console(file=output))
    terminal.skip_to_end(log)
    with log.open("a") as file:
        file.write("first\nhalf of the sec")
        file.flush()
        terminal.follow("api", log)
        assert output.getvalue().split() == ["api", "first"]
        file.write("ond\n")
        file.flush()
        terminal.follow("api", log)
    assert output.getvalue().splitlines()[1].split(maxsplit=1) == ["api", "half of the second"]


def test_a_flood_of_lines_is_cut_and_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tmp_path / "worker.log"
    output = io.StringIO()
    terminal = Terminal(Console(file=output))
    now = 0.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    log.write_text("again\n" * 100)
    terminal.follow("worker", log)
    assert output.getvalue().count("again") == MAX_LINES_PER_S
    now = 2.0
    with log.open("a") as file:
        file.write("calm\n")
    terminal.follow("worker", log)
    assert f"({100 - MAX_LINES_PER_S} more lines in its log)" in output.getvalue()
    assert "calm" in output.getvalue()
