"""What a simulation returns: outcomes of jobs, problems and engines."""

from dataclasses import dataclass

from scheduler.core.plan import Forecast, Plan


@dataclass(frozen=True, slots=True)
class BranchOutcome:
    """How one branch ended. Instants are seconds of virtual time.

    Attributes:
        index: Among the branches of its problem; it replayed that sample.
        is_finished: It counted in the vote, with or without an answer; any other was aborted.
        vote_class: Of the recording, 0 being right; None without an answer.
        tokens: Completion tokens decoded.
        num_steps: Steps that it took part in.
        started_s: When it got a row; None when it never did.
        first_token_s: When its prefill was over; None when it ended before.
        num_rows: Rows that were busy when it ended, its own included.
    """

    index: int
    num_speculative_tokens: int
    is_finished: bool
    vote_class: int | None
    tokens: float
    num_steps: float
    queued_s: float
    started_s: float | None
    first_token_s: float | None
    finished_s: float
    num_rows: int


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
        branches: All its branches by index, where the simulation was asked to keep them.
    """

    is_answered: bool
    has_vote: bool
    is_right: bool
    is_degraded: bool
    num_branches: int
    tokens: float
    finish_s: float
    branches: tuple[BranchOutcome, ...] = ()


@dataclass(frozen=True, slots=True)
class BatchOutcome:
    """The next `num_problems` of a job, given to one worker."""

    worker_name: str
    plan: Plan
    num_problems: int
    created_s: float


@dataclass(frozen=True, slots=True)
class JobOutcome:
    """How one job ended.

    Attributes:
        is_admitted: It was not refused; a refused job has no problem outcomes.
        forecast: What was promised at admission, in seconds from the arrival; None when refused.
        is_promised: It was not accepted as a best effort.
        batches: In order of creation and of the problems' positions.
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
    is_promised: bool
    batches: tuple[BatchOutcome, ...]
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
