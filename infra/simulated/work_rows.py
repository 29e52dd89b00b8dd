"""Batches, problems and branches of a simulated job as the store has them."""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from infra.simulated.fleets import Question
from infra.simulated.run import Ended
from scheduler.core.plan import Plan
from scheduler.core.simulation.records import BatchOutcome, BranchOutcome, ProblemOutcome
from scheduler.core.states import BatchState, ProblemState
from scheduler.core.stopping import plurality

Row = dict[str, Any]


def prompt_tokens(ended: Ended, question: Question) -> int:
    """As a submission estimates them."""
    return max(1, round(len(question.prompt) / ended.fleet.workers[0].spec.chars_per_token))


def batch_row(ended: Ended, batch: BatchOutcome, members: range) -> Row:
    """A batch whose problems stand at these positions; its id and job are added."""
    finish_s = max(ended.outcome.problems[position].finish_s for position in members)
    return {
        "worker_name": batch.worker_name,
        "state": BatchState.DONE,
        "epoch": 1,
        "num_problems": batch.num_problems,
        **_split(batch.plan),
        "wave_size": batch.plan.wave_size,
        "stop_gain": batch.plan.stop_gain,
        "max_branches": batch.plan.max_branches,
        "created_at": ended.at(batch.created_s),
        "finished_at": ended.at(finish_s),
    }


def problem_row(
    ended: Ended, position: int, batch: BatchOutcome | None, branches: Sequence[Row]
) -> Row:
    """A problem; its ids are added.

    Args:
        batch: None for one that the deadline found waiting.
    """
    question, _ = ended.drawn[position]
    outcome = ended.outcome.problems[position]
    unplanned = dict.fromkeys(("num_branches", "num_speculative_tokens", "max_tokens"))
    return {
        "key": f"p{position:03}",
        "position": position,
        "prompt": question.prompt,
        "reference_answer": question.reference_answer,
        **_answer(outcome, branches),
        **(unplanned if batch is None else _planned(batch.plan)),
        "num_branches_finished": outcome.num_branches,
        "degraded": outcome.is_answered and outcome.is_degraded,
        "dispatched_at": None if batch is None else ended.at(batch.created_s),
        "finished_at": ended.at(outcome.finish_s),
    }


def branch_rows(ended: Ended, position: int, worker_name: str) -> list[Row]:
    """The branches of a problem; their ids are added."""
    question, order = ended.drawn[position]
    return [
        {"worker_name": worker_name, **_branch(ended, branch, question, order)}
        for branch in ended.outcome.problems[position].branches
    ]


def _split(plan: Plan) -> Row:
    return {
        "num_branches": plan.num_branches,
        "num_speculative_tokens": plan.num_speculative_tokens,
        "max_tokens": plan.max_tokens,
    }


def _planned(plan: Plan) -> Row:
    """The split of a problem, which counts all branches that it may get."""
    return _split(plan) | {"num_branches": plan.most_branches}


def _answer(outcome: ProblemOutcome, branches: Sequence[Row]) -> Row:
    """State, answer and vote: the plurality of the branches in the order of their ends."""
    if not outcome.is_answered:
        unknown = dict.fromkeys(("answer", "vote_share", "is_correct"))
        return {"state": ProblemState.EXPIRED, **unknown}
    finished = sorted(
        (branch for branch in branches if branch["finish_reason"] != "abort"),
        key=lambda branch: (branch["finished_at"], branch["branch_index"]),
    )
    vote = plurality([branch["vote_class"] for branch in finished])
    winner = None if vote is None else finished[vote.first_index]
    return {
        "state": ProblemState.ANSWERED,
        "answer": None if winner is None else winner["answer"],
        "vote_share": 0.0 if vote is None else vote.share,
        "is_correct": winner is not None and winner["is_correct"],
    }


def _branch(ended: Ended, branch: BranchOutcome, question: Question, order: Sequence[int]) -> Row:
    sample = order[branch.index % len(order)]
    answer = None if branch.vote_class is None else question.answers[sample]
    is_whole = branch.tokens >= question.recorded.tokens[sample] - 0.5
    started_s, token_s = branch.started_s, branch.first_token_s
    waited_until_s = branch.finished_s if started_s is None else started_s
    # The allowance keeps a sum of fractional steps from counting as one step more.
    steps = math.ceil(branch.num_steps - 1e-6)
    drafts = branch.num_speculative_tokens if steps else 0
    return {
        "branch_index": branch.index,
        "num_speculative_tokens": branch.num_speculative_tokens,
        "finish_reason": ("stop" if is_whole else "length") if branch.is_finished else "abort",
        "text": "" if answer is None else f"\\boxed{{{answer}}}",
        "answer": answer,
        "vote_class": branch.vote_class,
        "is_correct": None if answer is None else branch.vote_class == 0,
        "queued_at": ended.at(branch.queued_s),
        "started_at": None if started_s is None else ended.at(started_s),
        "finished_at": ended.at(branch.finished_s),
        "queue_time_s": waited_until_s - branch.queued_s,
        "ttft_s": None if token_s is None else token_s - branch.queued_s,
        "decode_time_s": None if token_s is None else branch.finished_s - token_s,
        "prompt_tokens": prompt_tokens(ended, question),
        "completion_tokens": int(branch.tokens + 1e-6),
        "num_steps": steps,
        "drafted_by_position": [steps] * drafts,
        "accepted_by_position": _accepted(ended, steps, drafts, branch.tokens),
        "num_rows": branch.num_rows,
    }


def _accepted(ended: Ended, steps: int, drafts: int, tokens: float) -> list[int]:
    """Accepted drafts by position: what each adds to the mean acceptance length."""
    means = ended.fleet.workers[0].latency.mean_acceptance_length(range(drafts + 1), tokens)
    totals = [round(steps * (float(mean) - 1)) for mean in means]
    return [after - before for before, after in pairwise(totals)]
