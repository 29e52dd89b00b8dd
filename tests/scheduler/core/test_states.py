"""The transition tables over all pairs of states."""

import itertools
from collections.abc import Mapping

import pytest

from scheduler.core.event_kinds import ENDS, EventKind
from scheduler.core.states import (
    BATCH_TRANSITIONS,
    DELIVERY_TRANSITIONS,
    JOB_TRANSITIONS,
    OPENAI_BATCH_TRANSITIONS,
    PROBLEM_TRANSITIONS,
    BatchState,
    DeliveryState,
    JobState,
    OpenaiBatchState,
    ProblemState,
    State,
    sources_of,
    terminal_states,
)

ALLOWED_JOB = {
    "queued": {"running", "expired", "failed", "cancelling"},
    "running": {"completed", "expired", "failed", "cancelling"},
    "cancelling": {"cancelled"},
}
ALLOWED_PROBLEM = {
    "pending": {"dispatched", "answered", "expired", "failed", "cancelled"},
    "dispatched": {"running", "pending", "answered", "expired", "failed", "cancelled"},
    "running": {"pending", "answered", "expired", "failed", "cancelled"},
}
ALLOWED_BATCH = {
    "planned": {"claimed", "lost", "cancelled"},
    "claimed": {"done", "lost", "cancelled"},
}
ALLOWED_OPENAI_BATCH = {
    "validating": {"failed", "in_progress", "expired", "cancelled"},
    "in_progress": {"finalizing", "cancelling"},
    "finalizing": {"completed", "expired"},
    "cancelling": {"cancelled"},
}
ALLOWED_DELIVERY = {
    "pending": {"delivered", "dead"},
    "delivered": {"pending"},
    "dead": {"pending"},
}
TABLES = [
    pytest.param(JobState, JOB_TRANSITIONS, ALLOWED_JOB, id="job"),
    pytest.param(ProblemState, PROBLEM_TRANSITIONS, ALLOWED_PROBLEM, id="problem"),
    pytest.param(BatchState, BATCH_TRANSITIONS, ALLOWED_BATCH, id="batch"),
    pytest.param(
        OpenaiBatchState, OPENAI_BATCH_TRANSITIONS, ALLOWED_OPENAI_BATCH, id="openai_batch"
    ),
    pytest.param(DeliveryState, DELIVERY_TRANSITIONS, ALLOWED_DELIVERY, id="delivery"),
]


@pytest.mark.parametrize(("states", "table", "allowed"), TABLES)
def test_every_pair_of_states_is_an_arrow_exactly_when_listed(
    states: type[State],
    table: Mapping[State, frozenset[State]],
    allowed: Mapping[str, set[str]],
) -> None:
    assert set(table) == set(states)
    for source, target in itertools.product(states, states):
        is_listed = target.value in allowed.get(source.value, set())
        assert (target in table[source]) == is_listed, (source, target)
        assert (source in sources_of(target, table)) == is_listed


@pytest.mark.parametrize(("states", "table", "allowed"), TABLES)
def test_terminal_states_have_no_arrow_out_and_are_reachable(
    states: type[State],
    table: Mapping[State, frozenset[State]],
    allowed: Mapping[str, set[str]],
) -> None:
    terminal = terminal_states(table)
    assert {state.value for state in terminal} == {s.value for s in states} - set(allowed)
    for state in terminal:
        assert sources_of(state, table)


@pytest.mark.parametrize("state", [JobState.QUEUED, JobState.RUNNING])
def test_a_deadline_may_strike_every_live_job(state: JobState) -> None:
    assert JobState.EXPIRED in JOB_TRANSITIONS[state]


@pytest.mark.parametrize(
    "state", [ProblemState.PENDING, ProblemState.DISPATCHED, ProblemState.RUNNING]
)
def test_a_deadline_answers_or_expires_every_open_problem(state: ProblemState) -> None:
    assert {ProblemState.ANSWERED, ProblemState.EXPIRED} <= PROBLEM_TRANSITIONS[state]


def test_entering_any_state_of_a_job_or_a_batch_is_a_kind_of_event() -> None:
    assert [EventKind.of_job(state).value for state in JobState] == [
        f"job.{state.value}" for state in JobState
    ]
    assert [EventKind.of_batch(state).value for state in BatchState] == [
        f"batch.{state.value}" for state in BatchState
    ]
    assert {kind.value for kind in ENDS} == {
        "job.completed", "job.expired", "job.failed", "job.cancelled"
    }  # fmt: skip
