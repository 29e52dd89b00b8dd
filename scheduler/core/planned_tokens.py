"""How many tokens a problem is expected to take under a plan."""

from scheduler.core.accuracy import AnswerProfile
from scheduler.core.capped import capped_by
from scheduler.core.plan import Plan


def planned_tokens(answers: AnswerProfile, plan: Plan, prompt_tokens: float) -> float:
    """The prompt, once, and the completions of all branches, with what early stops save."""
    completions = capped_by(answers, plan).work
    return prompt_tokens + float(completions[0, 0])
