"""The command `slackline report`: what happened, in tables."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated

import typer

from api.client import shell
from api.client.client import Client
from api.client.report_tables import comparison_table, report_table
from api.client.screen import Screen


class Kind(StrEnum):
    """What a report is about."""

    LATENCY = "latency"
    ATTAINMENT = "attainment"
    CALIBRATION = "calibration"
    ACCURACY = "accuracy"
    SPECULATION = "speculation"
    COSTS = "costs"
    COMPARE = "compare"


class Grouping(StrEnum):
    """What a report is split by."""

    MODEL = "model"
    ENGINE = "engine"
    TENANT = "tenant"
    FAMILY = "family"
    DEADLINE_CLASS = "deadline_class"
    SPLIT = "split"
    HOUR = "hour"
    DAY = "day"


class Bucket(StrEnum):
    """How a report is split over time."""

    HOUR = "hour"
    DAY = "day"


def report(
    client: Client,
    screen: Screen,
    kind: Annotated[Kind, typer.Argument(help="What to tell of.")] = Kind.LATENCY,
    by: Annotated[Grouping | None, typer.Option(help="One row for each of these.")] = None,
    every: Annotated[Bucket | None, typer.Option(help="One row for each hour or day.")] = None,
    start: Annotated[datetime | None, typer.Option(help="From this time on, UTC.")] = None,
    end: Annotated[datetime | None, typer.Option(help="Up to this time, UTC.")] = None,
    model: Annotated[str | None, typer.Option(help="Only this model.")] = None,
    engine: Annotated[str | None, typer.Option(help="Only this engine.")] = None,
    family: Annotated[str | None, typer.Option(help="Only this kind of problems.")] = None,
    deadline_class: Annotated[
        str | None, typer.Option(help="Only jobs due within 10s, 1m, 10m, 1h, 1d, or longer.")
    ] = None,
    split: Annotated[
        str | None, typer.Option(help="Only this split: branches x draft length, as in 8x2.")
    ] = None,
    of: Annotated[Kind, typer.Option(help="Of compare: what to compare.")] = Kind.LATENCY,
    before_start: Annotated[
        datetime | None, typer.Option(help="Of compare: the other range; by default before START.")
    ] = None,
    before_end: Annotated[
        datetime | None, typer.Option(help="Of compare: its end, by default START.")
    ] = None,
) -> None:
    """What happened in the last seven days or another range, from latency to forecasts."""
    filters = {
        "model": model,
        "engine": engine,
        "family": family,
        "deadline_class": deadline_class,
        "split": split,
    }
    group_by = by.value if by else None
    since, until = shell.utc(start), shell.utc(end)
    if kind is Kind.COMPARE:
        if every is not None:
            raise typer.BadParameter("two ranges have no hours in common", param_hint="--every")
        compared = client.comparison(
            of.value,
            group_by=group_by,
            start=since,
            end=until,
            before_start=shell.utc(before_start),
            before_end=shell.utc(before_end),
            **filters,
        )
        screen.show(compared, comparison_table)
    else:
        found = client.report(
            kind.value,
            group_by=group_by,
            every=every.value if every else None,
            start=since,
            end=until,
            **filters,
        )
        screen.show(found, report_table)
