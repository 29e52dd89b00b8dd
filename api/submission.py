"""Reads one submission out of a received body.

Everything that does not depend on the time or on the store is checked here, before a transaction
opens, so bad input never touches the store.
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
from api.problem_set import ProblemSet, check
from api.problem_source import JsonList, ProblemSource, lines_of
from api.schemas.submission import JobOptions, SetOptions
from api.settings import ApiSettings

Options = TypeVar("Options", bound=SetOptions)


@dataclass(frozen=True, slots=True)
class Submission:
    """A checked submission.

    Attributes:
        sha256: Digest of options and problems; tells a retry from another request.
    """

    options: JobOptions
    problems: ProblemSet
    sha256: str


def read_submission(body: Body, settings: ApiSettings) -> Submission:
    """Check all that does not depend on the time or on the store.

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
    problems = check(source, settings, partial(check_gradable, options=options))
    digest = hashlib.sha256(options.model_dump_json().encode() + problems.sha256.encode())
    return Submission(options, problems, digest.hexdigest())


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
