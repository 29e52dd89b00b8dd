"""Reads a request for a quote and answers it; nothing is stored."""

from dataclasses import asdict, dataclass
from datetime import datetime, timedelta

from api.admission import check_model
from api.body import Body
from api.deadlines import check_form, deadline_at
from api.errors import invalid
from api.new_jobs import new_job, view_of
from api.problem_set import ProblemSet, check
from api.prompts import check_fit, check_mean_fits, prompt_tokens
from api.refusals import no_capacity
from api.schemas.forecasts import ForecastBasisOut
from api.schemas.quotes import QuotedDeadlineOut, QuoteOptions, QuoteOut
from api.settings import ApiSettings
from api.submission import read_options, read_parts
from db.session import SessionFactory, transaction
from db.snapshot import read_snapshot
from scheduler.core.basis import basis_of, fleet_of
from scheduler.core.decisions import Rejected, Verdict
from scheduler.core.quotes import QuotedDeadline, quote


@dataclass(frozen=True, slots=True)
class QuoteRequest:
    """A checked request.

    Attributes:
        mean_prompt_chars: None when the options give `mean_prompt_tokens`.
        problems: None when the options tell only how many there are.
    """

    options: QuoteOptions
    num_problems: int
    mean_prompt_chars: float | None
    problems: ProblemSet | None = None


def read_quote_request(body: Body, settings: ApiSettings) -> QuoteRequest:
    """Check all that does not depend on the time or on the store.

    Raises:
        ApiError: 4xx that says what to change.
    """
    fields, source = read_parts(body, settings)
    options = read_options(QuoteOptions, fields, settings)
    if len(options.deadlines) > settings.max_quoted_deadlines:
        raise invalid(
            "deadlines",
            f"Invalid value for 'deadlines': at most {settings.max_quoted_deadlines} are quoted at"
            " a time.",
        )
    for param, text in _asked(options):
        check_form(text, param)
    if source is None:
        return _of_size(options, settings)
    for name in ("num_problems", "mean_prompt_tokens", "prompt_chars"):
        if getattr(options, name) is not None:
            raise invalid(name, f"Give either the problems or '{name}', not both.")
    problems = check(source, settings)
    problems.deadlines.refuse("a quote is for one deadline; leave it out here.")
    mean_chars = problems.num_prompt_chars / problems.num_problems
    return QuoteRequest(options, problems.num_problems, mean_chars, problems)


def make_quote(
    sessions: SessionFactory,
    request: QuoteRequest,
    *,
    tenant_id: str,
    now: datetime,
    settings: ApiSettings,
) -> QuoteOut:
    """Quote on the fleet and the load of `now`.

    Raises:
        ApiError: 400 for a deadline or model that cannot be, 503 when nobody serves the model.
    """
    options = request.options
    due_at = {deadline_at(text, now, settings, param) for param, text in _asked(options)}
    with transaction(sessions) as session:
        session.connection(execution_options={"isolation_level": "REPEATABLE READ"})
        check_model(session, options.model)
        snapshot = read_snapshot(session, now)
    mean_tokens = options.mean_prompt_tokens
    if request.mean_prompt_chars is not None:
        mean_tokens = prompt_tokens(snapshot, options, request.mean_prompt_chars)
    assert mean_tokens is not None
    fleet = fleet_of(snapshot, options.model, settings.scheduler)
    if fleet is None:
        raise no_capacity(options.model)
    if request.problems is not None:
        check_fit(request.problems, fleet, snapshot)
    param = "mean_prompt_tokens" if request.mean_prompt_chars is None else "prompt_chars"
    check_mean_fits(mean_tokens, fleet, param=param)
    job = new_job(
        options,
        tenant_id=tenant_id,
        due_at=now,
        num_problems=request.num_problems,
        mean_prompt_tokens=mean_tokens,
        now=now,
    )
    view = view_of(job, snapshot)
    quoted = quote(
        snapshot,
        view,
        settings.scheduler,
        longest_s=settings.max_deadline_s,
        deadlines_s=[(at - now).total_seconds() for at in due_at],
        with_grid=not options.deadlines,
    )
    if isinstance(quoted, Rejected):
        raise no_capacity(options.model)
    return QuoteOut(
        model=options.model,
        quoted_at=now,
        num_problems=request.num_problems,
        mean_prompt_tokens=mean_tokens,
        earliest_finish_at=now + timedelta(seconds=quoted.earliest_finish_s),
        earliest_finish_s=quoted.earliest_finish_s,
        min_accuracy=options.min_accuracy,
        shortest_deadline_s=quoted.shortest_s,
        forecast_basis=ForecastBasisOut.model_validate(
            asdict(basis_of(fleet.informed(view.answers)))
        ),
        deadlines=[_deadline_view(point, now) for point in quoted.deadlines],
    )


def _asked(options: QuoteOptions) -> list[tuple[str, str]]:
    """The deadlines asked for, each with what to call it."""
    asked = [(f"deadlines[{index}]", text) for index, text in enumerate(options.deadlines)]
    return asked if options.deadline is None else [("deadline", options.deadline), *asked]


def _of_size(options: QuoteOptions, settings: ApiSettings) -> QuoteRequest:
    """A request that tells of its problems only how many and how long they are."""
    if options.num_problems is None:
        raise invalid(
            "problems",
            "Missing required parameter: 'problems', or 'num_problems' in place of them.",
            code="missing_required_parameter",
        )
    if options.num_problems > settings.max_problems:
        raise invalid(
            "num_problems",
            f"Invalid value for 'num_problems': a job has at most {settings.max_problems:,}.",
        )
    if (options.mean_prompt_tokens is None) == (options.prompt_chars is None):
        raise invalid(
            "mean_prompt_tokens",
            "Give either 'mean_prompt_tokens' or 'prompt_chars' with 'num_problems'.",
        )
    if options.prompt_chars is not None and options.prompt_chars > settings.max_prompt_chars:
        raise invalid(
            "prompt_chars",
            "Invalid value for 'prompt_chars': a prompt has at most"
            f" {settings.max_prompt_chars:,} characters.",
        )
    return QuoteRequest(options, options.num_problems, options.prompt_chars)


def _deadline_view(point: QuotedDeadline, now: datetime) -> QuotedDeadlineOut:
    admitted = point.admitted
    plan = admitted.plan if admitted else None
    forecast = admitted.forecast if admitted else None
    return QuotedDeadlineOut(
        deadline_at=now + timedelta(seconds=point.deadline_s),
        deadline_s=point.deadline_s,
        feasible=admitted is not None,
        verdict=admitted.verdict if admitted else Verdict.REFUSED,
        submit_deadline_s=point.submit_deadline_s,
        num_branches=plan.num_branches if plan else None,
        max_branches=plan.max_branches if plan else None,
        num_speculative_tokens=plan.num_speculative_tokens if plan else None,
        max_tokens=plan.max_tokens if plan else None,
        finish_p50_s=forecast.finish_p50_s if forecast else None,
        finish_p95_s=forecast.finish_p95_s if forecast else None,
        accuracy=forecast.accuracy if forecast else None,
        row_seconds=forecast.row_seconds if forecast else None,
    )
