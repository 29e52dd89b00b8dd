"""Reading deadlines, at the edges of what is allowed."""

from datetime import timedelta

import pytest

from api.deadlines import deadline_at
from api.errors import ApiError
from api.settings import ApiSettings
from tests.factories import NOW, after

SETTINGS = ApiSettings(database_url="")


@pytest.mark.parametrize(
    ("text", "time_left"),
    [
        ("1s", timedelta(seconds=1)),
        ("1.5s", timedelta(seconds=1.5)),
        ("90s", timedelta(seconds=90)),
        (" 10m ", timedelta(minutes=10)),
        ("2h", timedelta(hours=2)),
        ("0.5d", timedelta(hours=12)),
        ("7d", timedelta(days=7)),
        ("2026-01-05T12:01:00Z", timedelta(minutes=1)),
        ("2026-01-05t14:01:00.5+02:00", timedelta(seconds=60.5)),
        ("2026-01-12 12:00:00Z", timedelta(days=7)),
    ],
)
def test_durations_count_from_now_and_instants_are_themselves(
    text: str, time_left: timedelta
) -> None:
    assert deadline_at(text, NOW, SETTINGS) == NOW + time_left


@pytest.mark.parametrize(
    "text",
    [
        "",
        "90",
        "90 s",
        "1e3s",
        "s",
        "nans",
        "٣s",
        "1s1s",
        "0.999s",
        "604800.1s",
        "2026-01-05T12:00:00Z",
        "2026-01-12T12:00:01Z",
        "2026-01-05T12:01:60Z",
        "2026-01-05T24:01:00Z",
        "2026-01-05T12:01:00+25:00",
        "0001-01-01T00:00:00+23:59",
        "9999-12-31T23:59:59-23:59",
        "2026-W02-1T12:01:00Z",
        "20260105T120100Z",
    ],
)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(ApiError) as caught:
        deadline_at(text, NOW, SETTINGS)

    assert (caught.value.status, caught.value.code) == (400, "invalid_deadline")
    assert caught.value.param == "deadline"


def test_the_range_is_a_setting() -> None:
    settings = ApiSettings(database_url="", min_deadline_s=10, max_deadline_s=20)

    assert deadline_at("10s", NOW, settings) == after(10)
    assert deadline_at("20s", NOW, settings) == after(20)
    for text in ("9s", "21s"):
        with pytest.raises(ApiError):
            deadline_at(text, NOW, settings)
