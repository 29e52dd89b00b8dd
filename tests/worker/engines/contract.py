"""The contract that every engine keeps, as tests.

A subclass named `Test...` provides two fixtures and inherits every test:

* `engine`: a fresh engine with `spec.max_num_seqs == 4` and at least two draft lengths, 0 included.
  The fixture closes it. A branch with `max_tokens=LONG_TOKENS` must take long enough (a second,
  say) to be aborted while it runs.
* `prompts`: at least two different prompts that the engine can serve.
"""

import time
from queue import SimpleQueue

import pytest

from tests.worker.engines.branches import (
    PATIENCE_S,
    Events,
    assert_consistent,
    assert_silent,
    branch,
    collect,
    most_running_at_once,
)
from worker.engines.base import BranchFinished, Engine, FinishReason

LONG_TOKENS = 2000


class EngineContract:
    """Tests that hold for every engine; see the module's docstring."""

    def test_every_branch_yields_exactly_one_event(
        self, engine: Engine, prompts: list[str]
    ) -> None:
        events: Events = SimpleQueue()
        requests = [branch(f"{i}", prompts[i % 2], branch_index=i) for i in range(10)]
        engine.submit(requests, events)
        finished = collect(events, 10)
        assert finished.keys() == {request.branch_id for request in requests}
        assert_silent(events)

    def test_metrics_agree_with_each_other(self, engine: Engine, prompts: list[str]) -> None:
        events: Events = SimpleQueue()
        lengths = engine.spec.draft_lengths
        requests = [
            branch(
                f"{i}",
                prompts[i % 2],
                branch_index=i,
                max_tokens=1 + 3 * i,
                num_speculative_tokens=lengths[i % len(lengths)],
            )
            for i in range(8)
        ]
        engine.submit(requests, events)
        finished = collect(events, 8)
        for request in requests:
            event = finished[request.branch_id]
            assert event.finish_reason in (FinishReason.STOP, FinishReason.LENGTH)
            assert event.metrics.prompt_tokens > 0
            assert_consistent(request, event)

    def test_totals_are_those_of_the_branches(self, engine: Engine, prompts: list[str]) -> None:
        events: Events = SimpleQueue()
        draft = max(engine.spec.draft_lengths)
        requests = [
            branch(
                f"{i}", prompts[i % 2], branch_index=i, max_tokens=24, num_speculative_tokens=draft
            )
            for i in range(8)
        ]
        before = engine.totals()
        engine.submit(requests, events)
        traces = [event.metrics for event in collect(events, 8).values()]
        did = engine.totals().since(before)
        row_steps = sum(trace.num_steps for trace in traces)
        # A trace rounds its steps up to whole ones.
        assert row_steps - len(traces) <= did.rows <= row_steps + 1e-6
        assert did.draft_tokens == pytest.approx(draft * did.rows)
        assert did.rows / 4 - 1e-6 <= did.steps <= did.rows
        assert did.context_tokens > did.rows * min(trace.prompt_tokens for trace in traces)
        # A prompt may be prefilled again once no branch of it is live.
        assert 2 <= did.prefills <= 8
        assert did.prefill_tokens >= 2 * min(trace.prompt_tokens for trace in traces)
        stepped = [trace for trace in traces if trace.num_steps]
        assert did.branches == len(stepped)
        assert did.completion_tokens == sum(trace.completion_tokens for trace in stepped)
        assert sum(did.accepted) == sum(sum(trace.accepted_by_position) for trace in traces)
        assert did.busy_s > 0

    def test_an_idle_engine_is_not_busy(self, engine: Engine) -> None:
        before = engine.totals()
        time.sleep(0.05)
        assert engine.totals() == before

    def test_at_most_max_num_seqs_branches_run_together(
        self, engine: Engine, prompts: list[str]
    ) -> None:
        events: Events = SimpleQueue()
        engine.submit(
            [branch(f"{i}", prompts[i % 2], branch_index=i, max_tokens=20) for i in range(12)],
            events,
        )
        finished = collect(events, 12)
        assert most_running_at_once(finished.values()) == engine.spec.max_num_seqs == 4

    def test_lower_priority_values_start_first_and_equal_ones_in_order_of_arrival(
        self, engine: Engine, prompts: list[str]
    ) -> None:
        events: Events = SimpleQueue()
        priorities = [5, 1, 3, 5, 2, 1, 4, 3, 2, 1]
        engine.submit(
            [
                branch(f"{i}", prompts[0], branch_index=i, priority=p, max_tokens=12)
                for i, p in enumerate(priorities)
            ],
            events,
        )
        finished = collect(events, len(priorities))
        expected = sorted(range(len(priorities)), key=lambda i: (priorities[i], i))
        started = [finished[f"{i}"].metrics.started_at for i in expected]
        assert None not in started
        assert started == sorted(started)  # type: ignore[type-var]

    def test_a_waiting_branch_is_aborted_before_it_starts(
        self, engine: Engine, prompts: list[str]
    ) -> None:
        events, waiting_events = SimpleQueue[BranchFinished](), SimpleQueue[BranchFinished]()
        running = [branch(f"run:{i}", prompts[0], max_tokens=LONG_TOKENS) for i in range(4)]
        engine.submit(running, events)
        waiting = branch("wait", prompts[1], priority=1)
        engine.submit([waiting], waiting_events)
        engine.abort(["wait"])
        event = collect(waiting_events, 1)["wait"]
        assert event.finish_reason == FinishReason.ABORT
        assert event.metrics.started_at is None
        assert event.metrics.completion_tokens == 0
        assert_consistent(waiting, event)
        engine.abort(request.branch_id for request in running)
        collect(events, 4)

    def test_an_abort_of_waiting_branches_spares_those_that_started(
        self, engine: Engine, prompts: list[str]
    ) -> None:
        events = SimpleQueue[BranchFinished]()
        ids = [f"{i}" for i in range(5)]
        engine.submit([branch(i, prompts[0], max_tokens=LONG_TOKENS) for i in ids[:4]], events)
        time.sleep(0.2)
        engine.submit([branch(ids[4], prompts[1], priority=1)], events)
        engine.abort(ids, only_waiting=True)
        assert set(collect(events, 1)) == {ids[4]}
        engine.abort(ids)
        ended = collect(events, 4)
        assert all(event.metrics.started_at is not None for event in ended.values())

    def test_running_branches_are_aborted_and_their_rows_go_to_others(
        self, engine: Engine, prompts: list[str]
    ) -> None:
        events: Events = SimpleQueue()
        long = [branch(f"long:{i}", prompts[0], max_tokens=LONG_TOKENS) for i in range(3)]
        engine.submit([*long, branch("short", prompts[0], max_tokens=2)], events)
        assert events.get(timeout=PATIENCE_S).branch_id == "short"
        engine.abort(request.branch_id for request in long)
        aborted = collect(events, 3)
        for request in long:
            event = aborted[request.branch_id]
            assert event.finish_reason == FinishReason.ABORT
            assert event.metrics.started_at is not None
            assert 0 < event.metrics.completion_tokens < LONG_TOKENS
            assert_consistent(request, event)
        engine.submit([branch(f"next:{i}", prompts[1]) for i in range(4)], events)
        assert {e.finish_reason for e in collect(events, 4).values()} <= {
            FinishReason.STOP,
            FinishReason.LENGTH,
        }

    def test_aborting_unknown_finished_or_aborted_branches_changes_nothing(
        self, engine: Engine, prompts: list[str]
    ) -> None:
        events: Events = SimpleQueue()
        engine.abort(["never seen"])
        engine.submit([branch("a", prompts[0])], events)
        collect(events, 1)
        engine.abort(["a"])
        engine.submit([branch("b", prompts[0], max_tokens=LONG_TOKENS)], events)
        engine.abort(["b", "b"])
        engine.abort(["b"])
        assert collect(events, 1)["b"].finish_reason == FinishReason.ABORT
        engine.submit([branch("never seen", prompts[0]), branch("a", prompts[1])], events)
        assert FinishReason.ABORT not in {e.finish_reason for e in collect(events, 2).values()}
        assert_silent(events)

    def test_a_request_that_can_never_run_yields_an_error_that_says_why(
        self, engine: Engine, prompts: list[str]
    ) -> None:
        events: Events = SimpleQueue()
        unserved = max(engine.spec.draft_lengths) + 1
        impossible = [
            branch("draft", prompts[0], num_speculative_tokens=unserved),
            branch("empty", ""),
            branch("long", prompts[0] * engine.spec.max_model_len),
        ]
        engine.submit([*impossible, branch("fine", prompts[0])], events)
        finished = collect(events, 4)
        assert finished["fine"].finish_reason in (FinishReason.STOP, FinishReason.LENGTH)
        for request in impossible:
            event = finished[request.branch_id]
            assert event.finish_reason == FinishReason.ERROR
            assert event.error
            assert event.metrics.started_at is None
            assert_consistent(request, event)

    def test_submitters_see_their_own_branches_only(
        self, engine: Engine, prompts: list[str]
    ) -> None:
        ours, theirs = SimpleQueue[BranchFinished](), SimpleQueue[BranchFinished]()
        for i in range(5):
            engine.submit([branch(f"ours:{i}", prompts[0], branch_index=i)], ours)
            engine.submit([branch(f"theirs:{i}", prompts[1], branch_index=i)], theirs)
        assert collect(ours, 5).keys() == {f"ours:{i}" for i in range(5)}
        assert collect(theirs, 5).keys() == {f"theirs:{i}" for i in range(5)}

    def test_branches_of_different_draft_lengths_share_a_batch(
        self, engine: Engine, prompts: list[str]
    ) -> None:
        events: Events = SimpleQueue()
        lengths = [0, max(engine.spec.draft_lengths), 0, min(engine.spec.draft_lengths[1:])]
        requests = [
            branch(f"{i}", prompts[0], branch_index=i, max_tokens=30, num_speculative_tokens=k)
            for i, k in enumerate(lengths)
        ]
        engine.submit(requests, events)
        finished = collect(events, 4)
        assert most_running_at_once(finished.values()) == 4
        for request in requests:
            event = finished[request.branch_id]
            assert len(event.metrics.drafted_by_position) == request.num_speculative_tokens
            assert_consistent(request, event)

    def test_close_aborts_what_is_held_and_may_be_repeated(
        self, engine: Engine, prompts: list[str]
    ) -> None:
        events: Events = SimpleQueue()
        engine.submit(
            [branch(f"{i}", prompts[0], max_tokens=LONG_TOKENS) for i in range(6)], events
        )
        engine.close()
        finished = collect(events, 6)
        assert {event.finish_reason for event in finished.values()} == {FinishReason.ABORT}
        engine.close()
        engine.submit([branch("late", prompts[0])], events)
        assert collect(events, 1)["late"].finish_reason == FinishReason.ERROR
        assert_silent(events)
