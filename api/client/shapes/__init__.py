"""JSON objects of the API as typed dictionaries; a newer server may add keys.

Instants are RFC 3339 strings, durations seconds.
"""

from api.client.shapes.costs import CostParts, JobCost
from api.client.shapes.explanations import (
    Candidate,
    Decision,
    Explanation,
    HistoryEntry,
    Outcome,
    Quote,
    QuotedDeadline,
    Seconds,
    Stops,
)
from api.client.shapes.jobs import (
    END_KINDS,
    TERMINAL_STATES,
    AtRisk,
    Event,
    Forecast,
    ForecastBasis,
    Job,
    JobState,
    LatencySource,
    Part,
    Plan,
    Progress,
)
from api.client.shapes.problems import (
    JobOptions,
    Problem,
    Submission,
)
from api.client.shapes.reports import (
    Change,
    Comparison,
    Percentiles,
    Report,
    ReportFilters,
)
from api.client.shapes.results import (
    Branch,
    GradedSubmission,
    GradeRow,
    Result,
)
from api.client.shapes.webhooks import (
    Delivery,
    DeliveryState,
    EventType,
    Webhook,
)
from api.client.shapes.workers import (
    Worker,
)

__all__ = [
    "END_KINDS",
    "TERMINAL_STATES",
    "AtRisk",
    "Branch",
    "Candidate",
    "Change",
    "Comparison",
    "CostParts",
    "Decision",
    "Delivery",
    "DeliveryState",
    "Event",
    "EventType",
    "Explanation",
    "Forecast",
    "ForecastBasis",
    "GradeRow",
    "GradedSubmission",
    "HistoryEntry",
    "Job",
    "JobCost",
    "JobOptions",
    "JobState",
    "LatencySource",
    "Outcome",
    "Part",
    "Percentiles",
    "Plan",
    "Problem",
    "Progress",
    "Quote",
    "QuotedDeadline",
    "Report",
    "ReportFilters",
    "Result",
    "Seconds",
    "Stops",
    "Submission",
    "Webhook",
    "Worker",
]
