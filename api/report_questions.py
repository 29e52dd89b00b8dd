"""What is asked of a report: a range, filters, groups and a layout, as parameters of a request."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, Literal, TypeAlias

from fastapi import Depends, Query
from pydantic import AwareDatetime, Field

from api.auth import Caller
from api.dependencies import utc_now
from api.errors import invalid
from api.schemas.text import SomeText
from db.reports import Every, GroupBy, Selection

MAX_BUCKETS = 10_000
"""Hours or days of one report: a year of hours fits."""

_DEFAULT_SPAN = timedelta(days=7)

Layout: TypeAlias = Literal["json", "csv", "parquet"]
DeadlineClass: TypeAlias = Literal["10s", "1m", "10m", "1h", "1d", "longer"]

Instant: TypeAlias = Annotated[
    AwareDatetime,
    Field(ge=datetime(2000, 1, 1, tzinfo=UTC), lt=datetime(2200, 1, 1, tzinfo=UTC)),
]
"""Leaves room to count from."""

_Name = Annotated[SomeText | None, Query(max_length=256)]


def selected(
    caller: Caller,
    start: Annotated[
        Instant | None, Query(description="By default the full hour seven days before `end`.")
    ] = None,
    end: Annotated[Instant | None, Query(description="Now by default; exclusive.")] = None,
    model: Annotated[_Name, Query(description="Only this model.")] = None,
    engine: Annotated[_Name, Query(description="Only this engine.")] = None,
    family: Annotated[_Name, Query(description="Only this kind of problems.")] = None,
    deadline_class: Annotated[
        DeadlineClass | None,
        Query(description="Only jobs due within so long of their submission, but not sooner."),
    ] = None,
    split: Annotated[
        str | None,
        Query(
            pattern=r"^\d{1,6}x\d{1,6}$",
            description="Only this split, as branches x draft length: `8x2`.",
        ),
    ] = None,
) -> Selection:
    """The range and the filters, on the caller's own history."""
    until = end or utc_now()
    since = start or Every.HOUR.begin(until - _DEFAULT_SPAN)
    check_range(since, until, "start", "end")
    filters = {
        "model": model,
        "engine": engine,
        "family": family,
        "deadline_class": deadline_class,
        "split": split,
    }
    wanted = {name: value for name, value in filters.items() if value is not None}
    return Selection(since, until, caller, wanted)


Selected = Annotated[Selection, Depends(selected)]


def check_range(since: datetime, until: datetime, first: str, last: str) -> None:
    """Refuse a range that holds nothing.

    Raises:
        ApiError: 400, about the parameter `first`.
    """
    if since >= until:
        raise invalid(first, f"The report is empty: give a '{first}' before '{last}'.")


@dataclass(frozen=True, slots=True)
class Question:
    """What a report is to tell, and how it is to be written."""

    selection: Selection
    group_by: GroupBy | None
    every: Every | None
    layout: Layout


def _question(
    selection: Selected,
    group_by: Annotated[GroupBy | None, Query(description="One row for each of these.")] = None,
    every: Annotated[
        Every | None, Query(description="One row for each hour or day, within each group.")
    ] = None,
    layout: Annotated[
        Layout,
        Query(alias="format", description="In tables, nested numbers have dotted names."),
    ] = "json",
) -> Question:
    by_time = None if group_by is None else group_by.bucket
    if by_time is not None and every is not None:
        raise invalid("every", f"The report is by {group_by} already: leave out 'every'.")
    bucket = by_time or every
    if bucket is not None:
        num_buckets = (selection.until - selection.since) / bucket.length
        if num_buckets > MAX_BUCKETS:
            raise invalid(
                "start",
                f"The range has more than {MAX_BUCKETS:,} {bucket}s. Ask for a shorter one, or for"
                " longer buckets.",
            )
    return Question(selection, group_by, every, layout)


Asked = Annotated[Question, Depends(_question)]
