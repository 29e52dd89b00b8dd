"""Policy constants of `decide`; each line says why it has its value."""

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SchedulerConfig:
    """Knobs of the scheduler. Durations are in seconds.

    Attributes:
        branch_grid: Candidate values of `num_branches`.
        successive_grid: Candidates of branches at once and in all that follow one another while a
            vote is open; the few of `grid.SPARING` are offered besides.
        worker_timeout_s: A worker silent this long is gone (heartbeats come every second).
        resend_after_s: A sent but unclaimed batch is sent again after this long.
        reserve_s: Kept free before a deadline for voting, grading and committing.
        dispatch_s: From a decision to the first decoded token: tick, commit, broker, claim.
        queue_depth: Most open branches committed to a worker, as a multiple of its rows; as few
            as keep its rows busy until the next batch comes, since those have their plan for good.
        max_batches_per_worker: Bound on live batches of one worker, which run one thread each, 1
            to 64. A batch lasts as long as its slowest branch, so few of them leave rows idle.
        min_answered: Share of problems that get at least one vote under a plan that is promised
            and runs to the deadline, which is more than it counts on. The least that was tried:
            with more of it tight jobs take several branches for each problem, and others wait.
        min_answered_queued: The same where problems wait for rows of the job itself, so that its
            caps end branches with time left.
        row_price: What a row-second is worth to problems that arrive later, as a multiple of what
            it earns at best, if arrivals want all rows; little when they leave rows free. An
            upgrade must earn more.
        branch_price: What the row-seconds of a whole branch must be worth at least, also on idle
            engines: a rise of the probability that an answer is right. Three times as much saved
            few tokens more and cost a lone job with time a point.
        stop_gain: A problem ends when its branches still to come would raise the probability that
            its answer is right by less than this; see `Plan`. As near as a tie by the next
            number; on recordings it took less than half of the branches of deciding at width 16.
        branch_gain: The same for each single branch that follows others. Twice as much saved a
            tenth of the tokens without haste, but a lone problem on an idle engine lost half a
            point to four branches at once.
        accuracy_tie: Accuracies this close count as equal, and the cheaper plan wins: below what
            a fitted profile can tell apart.
        replan_gain: A stored plan that still fits is kept unless another is this much more
            accurate, so that plans do not flicker with every tick.
        raise_share: A job gets a better plan only while this share of its open problems is still
            to be handed out, so that its last problems are not treated better than its first.
        num_reviewed: Stored plans that a tick holds against others, on average; see `placing`. So
            many take few milliseconds; of ten thousand jobs half have their turn within 40 s.
        refresh_s: A stored P95 finish is written anew when it is off by this much, or by a
            twentieth of the time left when that is more.
        max_refreshed: Bound on such writes in one tick, and on jobs told to be at risk or not.
        recovery_share: Share of the time left that the quickest plan must leave free before a job
            whose deadline was at risk is on track again.
        tenant_headroom: Share of the time until any deadline that only tenants below their share of
            the row-seconds may fill; with one tenant it changes nothing. Of a tenth nothing was
            left once a backlog had run a tenth longer than forecast
            (`tests/scheduler/core/simulation/test_tenants.py`).
        max_losses: A problem on which so many workers were lost fails: it may well be the cause.
        max_plan_failures: A job that could not be planned in so many ticks fails.
    """

    branch_grid: tuple[int, ...] = (1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 20, 24, 32, 48, 64)
    successive_grid: tuple[tuple[int, int], ...] = ((1, 16), (2, 16), (4, 16))
    worker_timeout_s: float = 5.0
    resend_after_s: float = 2.0
    reserve_s: float = 0.5
    dispatch_s: float = 0.2
    queue_depth: float = 2.0
    max_batches_per_worker: int = 32
    min_answered: float = 0.2
    min_answered_queued: float = 0.5
    row_price: float = 1.0
    branch_price: float = 0.001
    stop_gain: float = 0.002
    branch_gain: float = 0.004
    accuracy_tie: float = 0.002
    replan_gain: float = 0.01
    raise_share: float = 0.5
    num_reviewed: int = 100
    refresh_s: float = 1.0
    max_refreshed: int = 32
    recovery_share: float = 0.1
    tenant_headroom: float = 0.2
    max_losses: int = 5
    max_plan_failures: int = 20

    def __post_init__(self) -> None:
        if not 1 <= self.max_batches_per_worker <= 64:
            raise ValueError(
                f"max_batches_per_worker is {self.max_batches_per_worker}; use 1 to 64 threads"
            )
        if not 0.0 <= self.reserve_s < math.inf:
            raise ValueError(f"reserve_s is {self.reserve_s}; use 0 or more seconds")
