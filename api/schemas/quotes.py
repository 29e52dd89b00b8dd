"""What a client sends for a quote and gets back."""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, Field

from api.schemas.forecasts import ForecastBasisOut
from api.schemas.submission import ProblemIn, SetOptions, openapi_bodies
from scheduler.core.decisions import Verdict


def _listed(value: Any) -> Any:
    """A list written as text, as query parameters and form fields are."""
    return [part.strip() for part in value.split(",")] if isinstance(value, str) else value


class QuoteOptions(SetOptions):
    """Everything about a quote but its problems."""

    deadline: str | None = Field(
        None, description="As of a submission: quoted beside the default deadlines."
    )
    deadlines: Annotated[list[str], BeforeValidator(_listed)] = Field(
        default=[],
        description="Deadlines to quote, each as in a submission, in a list or with commas between"
        " them; by default from the earliest feasible finish to where accuracy stops to grow.",
    )
    num_problems: int | None = Field(
        None, ge=1, description="In place of `problems`: how many there will be."
    )
    mean_prompt_tokens: float | None = Field(
        None, gt=0, le=1_000_000, description="With `num_problems`: mean length of a prompt."
    )
    prompt_chars: float | None = Field(
        None,
        gt=0,
        description="With `num_problems`, in place of `mean_prompt_tokens`: mean characters of a"
        " prompt.",
    )


class QuoteRequest(QuoteOptions):
    """A quote as one JSON document."""

    problems: list[ProblemIn] | None = Field(None, min_length=1)


class QuotedDeadlineOut(BaseModel):
    """What one deadline buys; all but the first four fields are null when it cannot be met."""

    deadline_at: datetime
    deadline_s: float = Field(description="Seconds from `quoted_at`.")
    feasible: bool
    verdict: Verdict = Field(description="What a submission would be told.")
    submit_deadline_s: float | None = Field(
        description="The deadline to submit with, in seconds from `quoted_at`: `deadline_s`, or an"
        " earlier one when a job that is due later would stand behind other work and get less."
    )
    num_branches: int | None
    max_branches: int | None = Field(
        description="Where it is more than `num_branches`, another branch follows whenever one ends"
        " and the vote is open, up to so many in all."
    )
    num_speculative_tokens: int | None
    max_tokens: int | None
    finish_p50_s: float | None = Field(description="Median seconds from `quoted_at` to the end.")
    finish_p95_s: float | None = Field(description="95th percentile of the same.")
    accuracy: float | None = Field(description="Expected fraction of right answers.")
    row_seconds: float | None = Field(
        description="Expected cost if no deadline cuts it: seconds times rows."
    )


class QuoteOut(BaseModel):
    """The frontier of a problem set on the fleet and the load of this moment. Nothing is stored."""

    object: Literal["quote"] = "quote"
    model: str
    quoted_at: datetime
    num_problems: int
    mean_prompt_tokens: float
    earliest_finish_at: datetime
    earliest_finish_s: float = Field(description="The nearest deadline that can be met.")
    min_accuracy: float | None
    shortest_deadline_s: float | None = Field(
        description="The shortest deadline found that reaches `min_accuracy`; null without one, or"
        " when no deadline reaches it."
    )
    forecast_basis: ForecastBasisOut
    deadlines: list[QuotedDeadlineOut] = Field(
        description="Ascending; accuracy never falls from one to the next."
    )

    model_config = {
        "json_schema_extra": {
            "examples": [
                {
                    "object": "quote",
                    "model": "slackline-demo",
                    "quoted_at": "2026-01-05T12:00:00Z",
                    "num_problems": 200,
                    "mean_prompt_tokens": 41.5,
                    "earliest_finish_at": "2026-01-05T12:00:24.2Z",
                    "earliest_finish_s": 24.2,
                    "min_accuracy": 0.85,
                    "shortest_deadline_s": 61.3,
                    "forecast_basis": {
                        "source": "branches recorded in recordings.jsonl.gz",
                        "num_problems_seen": 200,
                        "num_branches_seen": 6400,
                        "note": None,
                        "latency": [
                            {
                                "num_workers": 1,
                                "device": "cpu",
                                "method": "measured on this machine",
                                "measured_at": "2026-01-05T11:00:00+00:00",
                            }
                        ],
                    },
                    "deadlines": [
                        {
                            "deadline_at": "2026-01-05T12:01:30Z",
                            "deadline_s": 90.0,
                            "feasible": True,
                            "verdict": "accepted",
                            "submit_deadline_s": 90.0,
                            "num_branches": 8,
                            "num_speculative_tokens": 2,
                            "max_tokens": 224,
                            "finish_p50_s": 78.1,
                            "finish_p95_s": 88.9,
                            "accuracy": 0.87,
                            "row_seconds": 1250.4,
                        }
                    ],
                }
            ]
        }
    }


def openapi_request() -> dict[str, Any]:
    """The ways to ask for a quote, for the OpenAPI document."""
    request = openapi_bodies(QuoteOptions, QuoteRequest)
    content = request["requestBody"]["content"]["application/json"]
    content["examples"] = {
        "problems": {
            "summary": "With the problems",
            "value": {
                "model": "slackline-demo",
                "deadlines": ["30s", "1m", "5m"],
                "problems": [{"prompt": "What is 2 + 3?"}],
            },
        },
        "size": {
            "summary": "With their number and length only",
            "value": {
                "model": "slackline-demo",
                "num_problems": 200,
                "prompt_chars": 145,
                "min_accuracy": 0.85,
            },
        },
    }
    return request
