"""A bound on right answers in time for anyone, even one who knows all lengths and answers.

Why it is a bound: whoever answers a problem right by a plurality has let at least one right branch
end, so the problem has cost at least its cheapest right branch, at the draft length that is best
for it. Three things are given away: branches are free of queueing inside an engine, they may be cut
into pieces and spread over all engines at will, and problems may be answered in part for a part of
the credit. What remains is a linear program: engine-seconds of each job in each slot of time, at
most as many as there are engines, before the job's deadline and after its arrival (slots are
rounded outwards); the most right answers are its optimum. A problem whose shortest right branch
does not fit its deadline even alone on an idle engine counts as lost.

The cost of a branch of L tokens with draft length k and gain g tokens per step, in engine-seconds,
is at least `L / g * (T(R, k) / R + c * (prompt + L / 2))`: a step is never cheaper per row
than with all R rows busy, and the context grows from the prompt to prompt + L. With several
slopes the smallest is taken, so that draft lengths may be mixed in a step.

It is no policy with an order of its own: what it would do on a real engine need not exist.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from scipy.optimize import linprog
from scipy.sparse import coo_array

from scheduler.core.fit_answers import RecordedProblem
from scheduler.core.latency import FloatArray, LatencyProfile
from scheduler.core.simulation.world import SimulatedJob, SimulatedWorker

NUM_SLOTS = 240


def most_right_answers(jobs: Sequence[SimulatedJob], workers: Sequence[SimulatedWorker]) -> float:
    """Upper bound on the problems of all jobs answered right in time.

    Args:
        workers: All of one model, the one that the jobs ask for.
    """
    costs = [_costs(job, workers) for job in jobs]
    start_s = min(job.arrival_s for job in jobs)
    end_s = max(job.deadline_s for job in jobs)
    slot_s = (end_s - start_s) / NUM_SLOTS
    # Variables: the answered share of each problem, then the engine-seconds of each job and slot.
    owner = np.concatenate([np.full(len(c), j) for j, c in enumerate(costs)]).astype(int)
    cost = np.concatenate(costs)
    first = [int((job.arrival_s - start_s) / slot_s) for job in jobs]
    last = [
        min(int(np.ceil((job.deadline_s - start_s) / slot_s - 1e-9)), NUM_SLOTS) for job in jobs
    ]
    pairs = np.array(
        [
            (j, slot)
            for j in range(len(jobs))
            if costs[j].size
            for slot in range(first[j], max(last[j], first[j] + 1))
        ]
    ).reshape(-1, 2)
    if not len(cost):
        return 0.0
    num_shares, num_pairs = len(cost), len(pairs)
    # The work of a job's answered problems is done in its slots; a slot has all engines.
    rows = np.concatenate([owner, pairs[:, 0], len(jobs) + pairs[:, 1]])
    columns = np.concatenate([np.arange(num_shares), *(num_shares + np.arange(num_pairs),) * 2])
    values = np.concatenate([cost, -np.ones(num_pairs), np.ones(num_pairs)])
    shape = (len(jobs) + NUM_SLOTS, num_shares + num_pairs)
    limits = np.concatenate([np.zeros(len(jobs)), np.full(NUM_SLOTS, slot_s * len(workers))])
    solution = linprog(
        np.concatenate([-np.ones(num_shares), np.zeros(num_pairs)]),
        A_ub=coo_array((values, (rows, columns)), shape=shape).tocsr(),
        b_ub=limits,
        bounds=[(0, 1)] * num_shares + [(0, None)] * num_pairs,
        method="highs",
    )
    if not solution.success:
        raise RuntimeError(f"the bound was not solved: {solution.message}")
    return float(-solution.fun)


def _costs(job: SimulatedJob, workers: Sequence[SimulatedWorker]) -> FloatArray:
    """Engine-seconds of each problem of a job that can be answered right in time."""
    found = []
    for problem in job.problems:
        shortest = shortest_right(problem, job.max_branches)
        if shortest is None:
            continue
        cost_s, alone_s = zip(
            *(_cost_and_time_s(worker, shortest, job.prompt_tokens) for worker in workers),
            strict=True,
        )
        if min(alone_s) <= job.deadline_s - job.arrival_s:
            found.append(min(cost_s))
    return np.array(found)


def shortest_right(problem: RecordedProblem, max_branches: int) -> int | None:
    """Tokens of the shortest right branch among those that may be drawn."""
    drawn = zip(problem.classes, problem.tokens, strict=True)
    right = [tokens for vote, tokens in list(drawn)[:max_branches] if vote == 0]
    return min(right, default=None)


def _cost_and_time_s(
    worker: SimulatedWorker, tokens: int, prompt_tokens: int
) -> tuple[float, float]:
    """Least engine-seconds of a branch, and its least time."""
    latency = _cheapest_slope(worker.latency)
    rows = worker.spec.max_num_seqs
    draft = np.asarray(worker.spec.draft_lengths)
    steps = tokens / latency.mean_acceptance_length(draft, tokens)
    prefill_s = float(latency.prefill_time_s(prompt_tokens))
    context_s = latency.context_s * (prompt_tokens + tokens / 2)
    shared_s = steps * (latency.step_time_s(rows, draft, 0.0) / rows + context_s)
    alone_s = steps * (latency.step_time_s(1, draft, 0.0) + context_s)
    return prefill_s + float(shared_s.min()), prefill_s + float(alone_s.min())


def _cheapest_slope(latency: LatencyProfile) -> LatencyProfile:
    return replace(latency, token_knots=(0.0,), token_slopes_s=(min(latency.token_slopes_s),))
