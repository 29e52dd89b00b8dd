"""Every number of a report can be had from the tables by the query that `docs/reports.md` gives."""

import re
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from psycopg.rows import dict_row

from db.reports.rollups import due_days, roll_up_day
from db.session import SessionFactory, driver_url, transaction
from scheduler.core.sketch import ALPHA
from tests import history
from tests.factories import NOW

START, END = NOW - timedelta(days=1, hours=15, minutes=20), NOW - timedelta(hours=1)

_DOCUMENT = Path(__file__).parents[2] / "docs" / "reports.md"
QUERIES = re.findall(r"^```sql\n-- (\w+) ?(\S*)\n(.*?)^```", _DOCUMENT.read_text(), re.M | re.S)


@pytest.fixture(scope="module")
def past(database_url: str, shared_sessions: SessionFactory) -> None:
    """Two days of history, all but the last hours of it rolled up."""
    history.load(database_url, 8_000, until=NOW, days=2, seed=5)
    now = NOW - timedelta(hours=5)
    with transaction(shared_sessions) as session:
        for day in due_days(session, now=now):
            assert roll_up_day(session, day, now=now)


@pytest.fixture(scope="module")
def client(url: str, past: None) -> Iterator[httpx.Client]:  # noqa: ARG001
    """A client of the tenant that most of it belongs to."""
    headers = {"Authorization": "Bearer sk-slk-local"}
    with httpx.Client(base_url=url, headers=headers, timeout=30) as client:
        yield client


def test_the_document_has_a_query_for_every_report() -> None:
    assert {report for report, _, _ in QUERIES} == {
        "latency", "attainment", "calibration", "accuracy", "speculation", "costs",
    }  # fmt: skip


@pytest.mark.parametrize(("report", "place", "query"), QUERIES, ids=lambda part: part[:30])
def test_a_query_gives_the_numbers_of_its_report(
    client: httpx.Client, database_url: str, report: str, place: str, query: str
) -> None:
    params = {"start": START.isoformat(), "end": END.isoformat()}
    (row,) = client.get(f"/v1/reports/{report}", params=params).json()["data"]
    reported = [_flat(item) for item in _items(row, place)]

    found = _run(database_url, query)

    assert len(found) == len(reported) > 0
    for expected, actual in zip(found, reported, strict=True):
        assert {name: actual[name] for name in expected} == {
            name: _about(name, value) for name, value in expected.items()
        }


def _run(database_url: str, query: str) -> list[dict[str, Any]]:
    values = {"tenant": "ten_local", "start": START, "end": END}
    with psycopg.connect(driver_url(database_url), row_factory=dict_row) as connection:
        statement = re.sub(r":'(\w+)'", r"%(\1)s", query.replace("%", "%%"))
        return connection.execute(statement.encode(), values).fetchall()


def _items(row: dict[str, Any], place: str) -> list[dict[str, Any]]:
    """Objects at a path of lists; those inside others keep the fields of these."""
    found = [row]
    for name in filter(None, place.split(".")):
        found = [outer | inner for outer in found for inner in outer[name]]
    return found


def _flat(value: dict[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, inner in value.items():
        if isinstance(inner, dict):
            flat |= {f"{name}.{key}": number for key, number in inner.items()}
        else:
            flat[name] = inner
    return flat


def _about(name: str, value: Any) -> Any:
    if value is None:
        return None
    is_percentile = re.search(r"\.p\d\d$", name)
    return pytest.approx(float(value), rel=ALPHA if is_percentile else 1e-9, abs=2e-6)
