"""The command `slackline grade`: submit, watch, and write the grade book."""

from collections import Counter
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from api.client import shell
from api.client.client import Client
from api.client.errors import SlacklineError
from api.client.follow import follow, outcome
from api.client.screen import Screen
from api.client.tables import read_problems

_GRADES = ("right", "wrong", "ungradable")


class Method(StrEnum):
    """What makes an answer right."""

    EQUIVALENCE = "equivalence"
    NUMERIC = "numeric"
    CHOICE = "choice"
    EXACT = "exact"
    REGEX = "regex"


class BookFormat(StrEnum):
    """How the grade book is written."""

    CSV = "csv"
    PARQUET = "parquet"
    NDJSON = "ndjson"


def grade(
    client: Client,
    screen: Screen,
    file: Annotated[
        Path, typer.Argument(help="Problems with submissions: .csv, .jsonl, .json, or -.")
    ],
    deadline: Annotated[
        str, typer.Option(help='"90s", "10m", "2h", "1d", or an RFC 3339 time with an offset.')
    ],
    output: Annotated[
        Path | None, typer.Option(help="The grade book; FILE.grades.csv by default.")
    ] = None,
    layout: Annotated[
        BookFormat | None,
        typer.Option("--format", help="csv, parquet or ndjson; by the output's name by default."),
    ] = None,
    method: Annotated[
        Method | None, typer.Option(help="How to grade; equivalence by default.")
    ] = None,
    absolute: Annotated[
        float | None, typer.Option(help="Of numeric: how far a number may be off.")
    ] = None,
    relative: Annotated[
        float | None, typer.Option(help="Of numeric: the same as a share of the reference.")
    ] = None,
    pattern: Annotated[str | None, typer.Option(help="Of regex: what answers match.")] = None,
    solve: Annotated[
        bool, typer.Option(help="Let the model answer too; without it all need references.")
    ] = True,
    model: Annotated[
        str | None, typer.Option(help="Model to ask; the only one served by default.")
    ] = None,
    branches: Annotated[int | None, typer.Option(help="Most branches per problem.")] = None,
    name: Annotated[str | None, typer.Option(help="A label of your own.")] = None,
) -> None:
    """Grade the answers of others by a deadline, against references or else against ours."""
    problems: Any = file
    if str(file) == "-":
        problems = shell.standard_input()
    elif file.suffix.lower() == ".csv":
        problems = read_problems(file)
    layout = layout or _layout_of(output)
    book = output or _book_of(file, layout)
    options = {"absolute": absolute, "relative": relative, "pattern": pattern}
    given = {key: value for key, value in options.items() if value is not None}
    if given and method is None:
        raise SlacklineError(f"--{next(iter(given))} needs a --method that reads it.")
    job = client.submit(
        problems,
        model=model or shell.only_model(client),
        deadline=deadline,
        name=name,
        max_branches=branches,
        grading={"method": method.value, **given} if method else None,
        solve=None if solve else False,
    )
    ended = follow(client, screen, job["id"])
    _write(client, job["id"], layout, book)
    counts = Counter(row["grade"] for row in client.grades(job["id"]) if row["submission_id"])
    told = {key: counts[key] for key in _GRADES}
    screen.show(
        {"job_id": job["id"], "output": str(book), "submissions": told},
        lambda _: (
            f"  submissions: {', '.join(f'{count} {key}' for key, count in told.items())}\n"
            f"  grade book in {book}"
        ),
    )
    raise typer.Exit(outcome(ended))


def _layout_of(output: Path | None) -> BookFormat:
    suffix = output.suffix.lower().removeprefix(".") if output else ""
    return BookFormat(suffix) if suffix in set(BookFormat) else BookFormat.CSV


def _book_of(file: Path, layout: BookFormat) -> Path:
    return Path(f"grades.{layout}") if str(file) == "-" else file.with_suffix(f".grades.{layout}")


def _write(client: Client, job_id: str, layout: BookFormat, path: Path) -> None:
    """Write the book; the file is touched only once there is something to write."""
    pieces = client.grade_book(job_id, layout.value)
    first = next(pieces, b"")
    try:
        with path.open("wb") as file:
            file.write(first)
            file.writelines(pieces)
    except OSError as error:
        raise SlacklineError(f"Cannot write {path}: {error.strerror}.") from None
