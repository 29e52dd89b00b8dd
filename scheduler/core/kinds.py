"""Kinds of jobs: what jobs whose forecasts are nearly alike have in common.

Theory of operation: forecasts of jobs that differ by a few problems or prompt tokens differ by as
much, so problems and prompts are rounded up to geometric ladders.
"""

from datetime import UTC, datetime
from functools import lru_cache
from math import ceil, log
from typing import NamedTuple

from scheduler.core.accuracy import AnswerProfile
from scheduler.core.plan import Plan
from scheduler.core.snapshot import JobView
from scheduler.core.states import JobState

PROBLEM_STEP = 1.03
"""Ratio of neighboring numbers of problems on the ladder, where that is more than one problem."""
PROMPT_STEP = 1.2
"""Ratio of neighboring prompt lengths on the ladder; the KV cache and prefill depend on them."""
PER_PROMPT_STEP = 1.0 / log(PROMPT_STEP)
_EPOCH = datetime.fromtimestamp(0, UTC)


class Kind(NamedTuple):
    """What a class of jobs has in common, apart from the branches of others.

    Attributes:
        prompt_step: Step of the mean prompt length on its ladder.
        draft: Draft length in force, None before the first plan.
        answers: Profile of its task family.
    """

    num_problems: int
    prompt_step: int
    max_branches: int
    max_tokens: int | None
    draft: int | None
    answers: AnswerProfile | None

    @classmethod
    def of(cls, job: JobView) -> "Kind":
        """The kind of a job with pending problems."""
        return cls(
            rounded_up(job.num_pending),
            ceil(log(max(job.mean_prompt_tokens, 1.0)) * PER_PROMPT_STEP),
            job.max_branches,
            job.max_tokens,
            job.plan.num_speculative_tokens if job.plan else None,
            job.answers,
        )

    def specimen(self) -> JobView:
        """A job of this kind, for what forecasts look at."""
        plan = None if self.draft is None else Plan(1, self.draft, 1, 1)
        return JobView(
            id="",
            tenant_id="",
            model="",
            state=JobState.QUEUED,
            created_at=_EPOCH,
            deadline_at=_EPOCH,
            weight=1.0,
            max_branches=self.max_branches,
            max_tokens=self.max_tokens,
            min_accuracy=None,
            mean_prompt_tokens=PROMPT_STEP**self.prompt_step,
            num_pending=self.num_problems,
            num_in_flight=0,
            plan=plan,
            answers=self.answers,
        )


@lru_cache(maxsize=65536)
def rounded_up(count: int) -> int:
    """The next number of problems on the ladder."""
    value = 1
    while value < count:
        value = max(value + 1, int(value * PROBLEM_STEP))
    return value
