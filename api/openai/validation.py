"""Validates the file of a batch, and sorts its lines into the jobs that will run them.

Theory of operation: the file is read twice, like a problem set: once to check and count, once to
store. What is kept in between are the ids and the lines that are refused, not the prompts. Lines
that want the same options, and the same deadline, are of one kind and share a job.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, BinaryIO

import orjson
from pydantic import ValidationError

from api.deadlines import deadline_at
from api.errors import ApiError, invalid, validation_error
from api.openai.bodies import COMPLETIONS, LineOptions
from api.openai.limits import PromptLimit, check_grading, check_lengths
from api.openai.requests import Line, LineError, lines_of
from api.schemas.batches import BatchOptions
from api.schemas.submission import SetOptions
from api.settings import ApiSettings
from db.models import OpenaiBatch
from db.openai_lines import NewRefusedLine
from db.problems import NewProblem
from scheduler.core.branch_options import PromptFormat

MAX_ERRORS = 100
"""Errors that a failed batch lists; a file of another form may have one on every line."""

_OF_PROBLEM = {"reference_answer", "grading"}
"""What a line says of its problem and not of the way to run it."""


class InvalidBatchError(Exception):
    """The batch fails; `errors` are `{code, message, param, line}`."""

    def __init__(self, errors: list[dict[str, Any]]) -> None:
        super().__init__(f"{len(errors)} errors")
        self.errors = errors


def batch_error(code: str, message: str, param: str | None = None) -> InvalidBatchError:
    """A failure that is not about a line."""
    return InvalidBatchError([LineError(None, code, message, param).data])


@dataclass(slots=True)
class Kind:
    """Lines that are run alike: the problems of one job."""

    options: SetOptions
    due_at: datetime
    num_problems: int = 0
    num_prompt_chars: int = 0


@dataclass(slots=True)
class CheckedBatch:
    """A valid file."""

    model: str
    num_lines: int = 0
    kinds: dict[str, Kind] = field(default_factory=dict)
    refused: dict[int, NewRefusedLine] = field(default_factory=dict)


LimitOf = Callable[[str], PromptLimit | None]
"""The limit of a model.

Raises:
    InvalidBatchError: Nobody ever served it.
"""


def check_batch(
    batch: OpenaiBatch, file: BinaryIO, settings: ApiSettings, limit_of: LimitOf
) -> CheckedBatch:
    """Check every line.

    Raises:
        InvalidBatchError: At least one line fails the batch.
    """
    errors: list[dict[str, Any]] = []
    first_lines: dict[str, int] = {}
    checked: CheckedBatch | None = None
    limit: PromptLimit | None = None
    for line in lines_of(file, batch.endpoint, settings):
        if isinstance(line, LineError):
            errors.append(line.data)
        elif line.custom_id in first_lines:
            errors.append(_duplicate(line))
        else:
            first_lines[line.custom_id] = line.number
            if checked is None:
                checked = CheckedBatch(line.model)
                limit = limit_of(line.model)
            if line.model != checked.model:
                errors.append(_mismatch(line))
            elif not errors:
                _sort(batch, line, checked, settings, limit)
        if len(errors) >= MAX_ERRORS:
            break
        if len(first_lines) > settings.max_batch_lines:
            raise batch_error(
                "too_many_requests",
                f"The file has more than {settings.max_batch_lines} requests. Split it into several"
                " batches.",
            )
    if errors:
        raise InvalidBatchError(errors)
    if checked is None:
        raise batch_error("empty_file", "The file has no requests.", "input_file_id")
    return checked


def problems_of(
    batch: OpenaiBatch,
    file: BinaryIO,
    settings: ApiSettings,
    checked: CheckedBatch,
    job_ids: dict[str, str],
) -> Iterator[tuple[str, int, NewProblem]]:
    """The problems of a checked file, each with its job and position."""
    common = BatchOptions.model_validate(batch.options).grading
    for line in lines_of(file, batch.endpoint, settings):
        if isinstance(line, Line) and line.position not in checked.refused:
            options = line.options()
            prompt = line.prompt(batch.endpoint)
            grading = options.grading or common
            problem = NewProblem(
                key=line.custom_id,
                prompt=prompt.text,
                reference_answer=options.reference_answer,
                messages=None
                if prompt.messages is None
                else orjson.dumps(prompt.messages).decode(),
                grading=None if grading is None else grading.grading().to_dict(),
            )
            yield job_ids[_kind_key(options)], line.position, problem


def _sort(
    batch: OpenaiBatch,
    line: Line,
    checked: CheckedBatch,
    settings: ApiSettings,
    limit: PromptLimit | None,
) -> None:
    """Count a line to its kind, or refuse it."""
    checked.num_lines += 1
    try:
        options = line.options()
        prompt = line.prompt(batch.endpoint).text
        check_lengths(prompt, options, batch.endpoint, settings, limit)
        check_grading(batch, options)
        key = _kind_key(options)
        kind = checked.kinds.get(key)
        if kind is None:
            kind = _kind(batch, options, checked.model, settings)
            if len(checked.kinds) == settings.max_batch_kinds:
                raise batch_error(
                    "too_many_kinds",
                    f"The requests differ in more than {settings.max_batch_kinds} ways in their"
                    " sampling parameters, options and deadlines. Use fewer values, or split the"
                    " file into several batches.",
                )
            checked.kinds[key] = kind
    except ApiError as error:
        checked.refused[line.position] = NewRefusedLine(
            line.position, line.custom_id, error.status, _storable(error.envelope())
        )
        return
    kind.num_problems += 1
    kind.num_prompt_chars += len(prompt)


def _storable(envelope: dict[str, Any]) -> dict[str, Any]:
    """The same without NUL characters, which Postgres has not in JSON."""
    error = envelope["error"].items()
    return {"error": {k: v.replace("\0", "") if isinstance(v, str) else v for k, v in error}}


def _kind_key(options: LineOptions) -> str:
    return options.model_dump_json(exclude_unset=True, exclude=_OF_PROBLEM)


def _kind(batch: OpenaiBatch, options: LineOptions, model: str, settings: ApiSettings) -> Kind:
    """What a line asks for, on top of what its batch does."""
    wanted = options.model_dump(exclude_unset=True, exclude=_OF_PROBLEM | {"deadline"})
    common = {name: value for name, value in batch.options.items() if name not in _OF_PROBLEM}
    # A text completion goes on from its prompt as it is.
    usual = {"prompt_format": PromptFormat.PLAIN} if batch.endpoint == COMPLETIONS else {}
    try:
        merged = SetOptions.model_validate({**usual, **common, **wanted, "model": model})
    except ValidationError as error:
        raise validation_error(error.errors(include_url=False), prefix="slackline") from None
    if merged.max_branches > settings.max_branches:
        raise invalid(
            "slackline.max_branches",
            f"Invalid value for 'slackline.max_branches': at most {settings.max_branches} are"
            " allowed.",
        )
    due_at = batch.expires_at
    if options.deadline is not None:
        own = deadline_at(options.deadline, batch.created_at, settings, "slackline.deadline")
        due_at = min(due_at, own)
    return Kind(merged, due_at)


def _duplicate(line: Line) -> dict[str, Any]:
    return LineError(
        line.number,
        "duplicate_custom_id",
        f"The custom_id '{line.custom_id}' for this request is a duplicate of another request. The"
        " custom_id parameter must be unique for each request in a batch.",
        "custom_id",
    ).data


def _mismatch(line: Line) -> dict[str, Any]:
    return LineError(
        line.number,
        "mismatched_model",
        "Each batch must contain requests for a single model.",
        "body.model",
    ).data
