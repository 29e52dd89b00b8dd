"""Reads one submission out of a received body.

The options are checked here, before a transaction opens. The problems are checked when they are
read, which is when they are stored; a bad one ends the transaction, which leaves nothing behind.
"""

import hashlib
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import orjson
from pydantic import ValidationError

from api.body import Body
from api.deadlines import check_form
from api.errors import ApiError, invalid, validation_error
from api.grading import check_gradable
from api.problem_set import Reading
from api.problem_source import JsonList, ProblemSource, lines_of
from api.schemas.submission import JobOptions, SetOptions
from api.settings import ApiSettings

Options = TypeVar("Options", bound=SetOptions)


@dataclass(frozen=True, slots=True)
class Submission:
    """A submission with checked options, whose problems are still to be read."""

    options: JobOptions
    problems: Reading

    def sha256(self) -> str:
        """Digest of options and problems, which were read; tells a retry from another request."""
        problems = self.problems.checked.sha256
        return hashlib.sha256(
            self.options.model_dump_json().encode() + problems.encode()
        ).hexdigest()


def read_submission(body: Body, settings: ApiSettings) -> Submission:
    """Check the options, as far as they do not depend on the time or on the store.

    Raises:
        ApiError: 4xx that says what to change.
    """
    fields, source = read_parts(body, settings)
    if source is None:
        raise invalid(
            "problems",
            "Missing required parameter: 'problems'.",
            code="missing_required_parameter",
        )
    options = read_options(JobOptions, fields, settings)
    check_form(options.deadline)
    return Submission(options, Reading(source, settings, partial(check_gradable, options=options)))


def read_options(kind: type[Options], fields: dict[str, Any], settings: ApiSettings) -> Options:
    """Options of a problem set.

    Raises:
        ApiError: 400 that names the first bad one.
    """
    try:
        options = kind.model_validate(fields)
    except ValidationError as error:
        raise validation_error(error.errors(include_url=False)) from None
    if options.max_branches > settings.max_branches:
        raise invalid(
            "max_branches",
            f"Invalid value for 'max_branches': at most {settings.max_branches} are allowed.",
        )
    return options


def read_parts(body: Body, settings: ApiSettings) -> tuple[dict[str, Any], ProblemSource | None]:
    """The options of a body, and its problems when it has any.

    Raises:
        ApiError: 400 for what is neither JSON of this form nor JSON Lines.
    """
    if body.is_lines:
        return body.options, lines_of(body.file, settings)
    if body.options:
        name = next(iter(body.options))
        raise invalid(
            name,
            f"Unknown query parameter: '{name}'. With application/json the options stand in the"
            " body.",
            code="unknown_parameter",
        )
    try:
        document = orjson.loads(body.file.read())
    except orjson.JSONDecodeError as error:
        raise ApiError(
            400,
            "invalid_json",
            f"The body is not valid JSON: {error.msg} at line {error.lineno}, column"
            f" {error.colno}. For one problem per line use Content-Type: application/x-ndjson.",
            extra={"line": error.lineno},
        ) from None
    if not isinstance(document, dict):
        raise invalid(
            None, 'The body must be an object such as {"model": ..., "deadline": ..., "problems":'
            " [...]}.", code="invalid_type",
        )  # fmt: skip
    problems = document.pop("problems", None)
    if problems is None:
        return document, None
    if not isinstance(problems, list):
        raise invalid(
            "problems",
            "Invalid type for 'problems': a list of problems is expected.",
            code="invalid_type",
        )
    return document, JsonList(problems)
