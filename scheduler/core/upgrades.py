"""Better plans for jobs while all demand bounds hold: greedy along hulls, then a repair.

Theory of operation: a *move* puts a dearer and more accurate candidate of one job in force. Moves
of all jobs come in one order: within a tenant by weighted accuracy per row-second, which is the
greedy solution of the relaxed knapsack, and between tenants by fair queueing. The tag of a move is
the upgrade row-seconds its tenant would have spent before it, over the tenant's share, and moves go
by ascending tags (start-time fair queueing, Goyal et al. 1996): upgrades are filled up evenly, by
share, as long as the tenants want more, and what one leaves is for the others.

Plans beside the hulls then use what is left, and few jobs are weighed together (`frontier`).
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from scheduler.core.bounds import LATE, ROUNDING_S, Bounds
from scheduler.core.frontier import MAX_JOBS, improve
from scheduler.core.hulls import LEAST_COST
from scheduler.core.latency import FloatArray
from scheduler.core.lookup import entries
from scheduler.core.menus import SHARES_OF_ROWS
from scheduler.core.moves import Movers, Moves, is_offered

IntArray = NDArray[np.int64]

ROUNDING = 1e-9
"""By which accuracies may differ and still be the same."""
CROWDED = 1.2
"""Rows that arrivals want, over all rows, from which on a row is worth `row_price` times what it
earns at best: a little more than all, as votes are decided early and jobs come in bursts."""
STEEPNESS = 12
"""Power by which the worth of rows falls where arrivals want less: they find free ones then."""
SLOWING = 0.12
"""Share of what it earns at best that a row-second takes from others by slowing their steps, where
those who come fill all rows with a branch for each problem. It falls with the square of what they
fill: there are fewer of them, and with less to do they have time left. The three numbers are the
best of some tried, see `tests/benchmarks/LOG.md`; `prices.py` there holds them against others."""
MAX_POLISHED = 32
"""Jobs whose plan is chosen anew among all candidates after the greedy pass."""


class _Hulls(NamedTuple):
    """Hulls of some jobs, and what their vertices cost and bring; (jobs, MAX_HULL).

    Attributes:
        vertex: Candidates from the cheapest up, -1 after the last one.
        row_seconds, accuracy: As in `Menus`; anything after the last one.
    """

    vertex: IntArray
    row_seconds: FloatArray
    accuracy: FloatArray


def upgrade(bounds: Bounds) -> None:
    """Raise the plans of the open jobs that are in time."""
    jobs = np.flatnonzero(bounds.is_open & (bounds.chosen != LATE))
    if not jobs.size:
        return
    hulls = _hulls(bounds, jobs)
    bounds.ceiling[jobs] = np.minimum(_ceiling(bounds, jobs), _worth(bounds, jobs, hulls))
    bounds.limit(_promised_limit_s(bounds))
    movers = Movers(bounds, jobs)
    movers.take(_in_order(bounds, jobs, hulls, movers))
    _polish(bounds, jobs)
    if len(bounds.jobs) <= MAX_JOBS:
        improve(bounds)
    bounds.limit(bounds.due_s)


def _promised_limit_s(bounds: Bounds) -> FloatArray:
    """Limits that also hold the finishes promised at submit, where cheapest plans hold them.

    What is gained by upgrades is a luxury: it may not make any job later than was promised.
    """
    promised_s = bounds.table["promised_s"] - bounds.now_s
    is_held = bounds.needed_s() <= promised_s
    return np.asarray(np.where(is_held, np.minimum(bounds.limit_s, promised_s), bounds.limit_s))


def _ceiling(bounds: Bounds, jobs: IntArray) -> FloatArray:
    """No better plan for a job most of whose open problems run under the present one.

    Otherwise the time left over would be spent on its last problems only.
    """
    stored, num_pending = bounds.stored[jobs], bounds.table["num_pending"][jobs]
    num_open = num_pending + bounds.table["num_in_flight"][jobs]
    is_tail = num_pending < bounds.config.raise_share * num_open
    present = bounds.accuracies(jobs, np.maximum(stored, 0))
    return np.asarray(np.where((stored >= 0) & is_tail, present, np.inf))


def _worth(bounds: Bounds, jobs: IntArray, hulls: _Hulls) -> FloatArray:
    """No better plan for a job than what pays for its row-seconds, given what arrives later.

    Rows that are free now will be wanted by jobs to come, and busy rows slow each other. So a
    row-second is priced as a share of what the job's densest plan earns with it. One part is for
    those who would find no row, and rises steeply with the part of all rows, all of them busy, that
    arrivals would fill if they took the same plan. The other is for those whose branches run at the
    same time and are slowed: as many as arrive, whatever this job does. Where nothing is
    known of arrivals somebody may come all the same, and tokens cost: a row-second is at least
    worth what makes a whole branch cost `branch_price`.
    """
    table, menus = bounds.table, bounds.menus
    # New classes come before any table is read.
    crowded = menus.classes(table["kind"][jobs], np.full(len(jobs), SHARES_OF_ROWS))
    classes = bounds.classes[jobs]
    branch_cost = menus.branch_cost[classes]
    dense = menus.densest[classes]
    dense_cost, dense_accuracy = menus.row_seconds[classes, dense], menus.accuracy[classes, dense]
    density = dense_accuracy / np.maximum(dense_cost, LEAST_COST)
    # Of one branch of each problem. Idle engines are several times as fast as busy ones.
    each_s = menus.branch_cost[crowded] / table["num_rounded"][jobs]
    wanted = bounds.others_per_s(jobs) * each_s / bounds.rows
    vertex, cost, accuracy = hulls
    as_much = (wanted / branch_cost)[:, None] * cost[:, 1:]
    crowding = np.minimum(as_much / CROWDED, 1.0) ** STEEPNESS
    slowing = SLOWING * np.minimum(wanted, 1.0)[:, None] ** 2
    share = np.minimum(crowding + slowing, 1.0)
    price = bounds.config.row_price * density[:, None] * share
    least = bounds.config.branch_price / branch_cost
    added = np.maximum(np.diff(cost, axis=1), LEAST_COST)
    gain = np.diff(accuracy, axis=1)
    # What the client asked for is worth its branches, but not the rows of others.
    is_asked = accuracy[:, :-1] < table["min_accuracy"][jobs, None]
    pays = (gain >= price * added) & (is_asked | (gain >= least[:, None] * added))
    pays &= vertex[:, 1:] >= 0
    # Rates fall along a hull and prices rise, so what pays is its beginning.
    last = np.logical_and.accumulate(pays, axis=1).sum(axis=1)
    # A tie with what pays is not worth more either; `is_offered` lets ties pass.
    highest = accuracy[np.arange(len(jobs)), last] - bounds.config.accuracy_tie + ROUNDING
    return np.asarray(np.where(price.any(axis=1) | (least > 0.0), highest, np.inf))


def _in_order(bounds: Bounds, jobs: IntArray, hulls: _Hulls, movers: Movers) -> Moves:
    """Moves along the hulls of these jobs in order of their tags."""
    is_step = hulls.vertex[:, 1:] >= 0
    spot = np.repeat(np.arange(len(jobs)), is_step.sum(axis=1))
    moves = movers.moves(spot, hulls.vertex[:, 1:][is_step])
    cost = np.diff(hulls.row_seconds * bounds.row_share[jobs, None], axis=1)[is_step]
    gain = np.diff(hulls.accuracy, axis=1)[is_step]
    rate = bounds.values[jobs][spot] * gain / np.maximum(cost, LEAST_COST)
    # Moves that cannot fit even now do not count as spent by their tenant.
    spent = np.where(moves.is_possible, cost, 0.0)
    return moves.take(_by_tag(bounds, jobs[spot], spent, rate))


def _hulls(bounds: Bounds, jobs: IntArray) -> _Hulls:
    """Hulls of what fits behind the plans of those before."""
    room_s = bounds.due_s[jobs] - bounds.before_s()[jobs] * bounds.stretch
    menus, classes = bounds.menus, bounds.classes[jobs]
    vertex = menus.hulls(classes, menus.num_fitting(classes, room_s))
    at = classes[:, None], np.maximum(vertex, 0)
    return _Hulls(vertex, entries(menus.row_seconds, *at), entries(menus.accuracy, *at))


def _by_tag(bounds: Bounds, job: IntArray, cost: FloatArray, rate: FloatArray) -> IntArray:
    """Order of moves: by rate within a tenant, by normalized spending between tenants.

    Args:
        job: Ascending.
    """
    order = _ascending(-np.log(rate))
    movers = job[np.diff(job, prepend=-1) > 0]
    _, first, which = np.unique(
        bounds.table["tenant"][movers], return_index=True, return_inverse=True
    )
    if len(first) <= 1:
        return order
    # Tenants by their first jobs; small integers are sorted in linear time.
    rank = np.zeros(len(bounds.jobs), dtype=np.min_scalar_type(len(first)))
    rank[movers] = first.argsort().argsort()[which]
    order = order[rank[job[order]].argsort(kind="stable")]
    spent = cost[order].cumsum() - cost[order]
    counts = np.bincount(rank[job])
    spent -= np.repeat(spent[counts.cumsum() - counts], counts)
    return order[_ascending(spent / bounds.table["tenant_share"][job[order]])]


def _ascending(key: FloatArray) -> IntArray:
    """Stable order of keys, which count as equal within a part in 65,000 of their range.

    Integers of 16 bits are sorted in linear time.
    """
    low, high = key.min(initial=np.inf), key.max(initial=-np.inf)
    scale = (2**16 - 1) / (high - low) if high > low else 0.0
    return np.asarray(((key - low) * scale).astype(np.uint16).argsort(kind="stable"))


def _polish(bounds: Bounds, jobs: IntArray) -> None:
    """Choose the best of all candidates for the jobs that have most to gain, one by one.

    The greedy pass may stop below a step that is too dear while a smaller one beside the hull
    still fits, or at a plan that another one equals for less.
    """
    menus, classes = bounds.menus, bounds.classes
    if len(jobs) > MAX_POLISHED:
        best = menus.best_accuracy[classes[jobs]]
        lacking = bounds.values[jobs] * (best - bounds.accuracies(jobs, bounds.chosen[jobs]))
        jobs = np.sort(jobs[np.argsort(-lacking, kind="stable")[:MAX_POLISHED]])
    # All candidates of these jobs at once; what is not there costs forever.
    candidates = np.broadcast_to(
        np.arange(menus.needed_s.shape[1]), (len(jobs), menus.needed_s.shape[1])
    )
    costs_s = bounds.costs_s(jobs, candidates)
    starts_s = bounds.fitting_starts_s(jobs, candidates)
    accuracies = bounds.accuracies(jobs, candidates)
    offered = is_offered(bounds, jobs[:, None], candidates)
    levels = np.floor(accuracies / bounds.config.accuracy_tie)
    before_s, slack_s = bounds.before_s().copy(), bounds.slack_s()
    for row, index in enumerate(jobs.tolist()):
        cost_s, start_s = costs_s[row], starts_s[row]
        added_s = cost_s - bounds.cost_s[index]
        allowed = offered[row] & (start_s >= before_s[index] - ROUNDING_S)
        allowed &= added_s <= slack_s[index + 1 :].min(initial=np.inf) + ROUNDING_S
        # An unchanged plan is always allowed, though rounding may leave a slack of -1e-12.
        allowed[bounds.chosen[index]] = True
        level = np.where(allowed, levels[row], -np.inf)
        top = np.flatnonzero(level == level.max())
        best = top[cost_s[top].argmin()]
        if best == bounds.chosen[index]:
            continue
        bounds.choose(jobs[[row]], best[None])
        slack_s[index] = bounds.must_start_s[index] - before_s[index]
        slack_s[index + 1 :] -= added_s[best]
        before_s[index + 1 :] += added_s[best]
