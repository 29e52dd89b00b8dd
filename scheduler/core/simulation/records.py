"""What a simulation returns: outcomes of jobs, problems and engines."""

from dataclasses import dataclass

from scheduler.core.plan import Forecast, Plan


@dataclass(frozen=True, slots=True)
class ProblemOutcome:
    """How one problem ended.

    Attributes:
        is_answered: It was answered at or before the deadline: a branch of it finished.
        has_vote: A branch of it finished with an answer.
        is_right: It was, and with the right answer.
        is_degraded: The deadline, not the plan, ended it.
        num_branches: Branches that finished and voted or gave no answer.
        tokens: Completion tokens decoded for it, those of aborted branches included.
        finish_s: When it ended; the deadline for a problem that got no answer.
    """

    is_answered: bool
    has_vote: bool
    is_right: bool
    is_degraded: bool
    num_branches: int
    tokens: float
    finish_s: float


@dataclass(frozen=True, slots=True)
class JobOutcome:
    """How one job ended.

    Attributes:
        is_admitted: It was not refused; a refused job has no problem outcomes.
        forecast: What was promised at admission, in seconds from the arrival; None when refused.
        plans: Plans of its batches in order of creation, with the number of problems of each.
        finish_s: When its last problem ended.
        met_deadline: Every problem was answered by the deadline.
    """

    id: str
    tenant: str
    arrival_s: float
    deadline_s: float
    num_problems: int
    is_admitted: bool
    forecast: Forecast | None
    plans: tuple[tuple[Plan, int], ...]
    problems: tuple[ProblemOutcome, ...]
    finish_s: float
    met_deadline: bool

    @property
    def num_answered(self) -> int:
        """Problems answered in time."""
        return sum(problem.is_answered for problem in self.problems)

    @property
    def num_right(self) -> int:
        """Problems answered right in time."""
        return sum(problem.is_right for problem in self.problems)

    @property
    def tokens(self) -> float:
        """Completion tokens decoded for all problems."""
        return sum(problem.tokens for problem in self.problems)


@dataclass(frozen=True, slots=True)
class EngineOutcome:
    """What one engine did.

    Attributes:
        row_seconds: Integral of the busy rows over time.
        gpu_seconds: Seconds with at least one busy row, times its devices.
        tokens: Completion tokens decoded.
        most_rows: Most rows that were busy at once.
        most_kv_tokens: Most tokens of KV cache that were in use at once.
    """

    name: str
    row_seconds: float
    gpu_seconds: float
    tokens: float
    most_rows: int
    most_kv_tokens: float


@dataclass(frozen=True, slots=True)
class Outcome:
    """Everything that a simulation recorded, jobs in order of arrival."""

    policy: str
    jobs: tuple[JobOutcome, ...]
    engines: tuple[EngineOutcome, ...]
    num_ticks: int
