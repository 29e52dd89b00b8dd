"""Parts of the vLLM engine that need no running vLLM."""

import pytest

from tests.worker.engines.branches import branch
from worker.engines.base import Sampling
from worker.engines.vllm.arguments import batch_table
from worker.engines.vllm.limits import Limits
from worker.engines.vllm.rows import count_drafts
from worker.engines.vllm.settings import VllmSettings


def test_drafts_are_counted_by_position() -> None:
    # One token of the prefill, then 1 + 2, 1 + 0 and 1 + 3 of three steps.
    assert count_drafts(9, 3, [3, 3, 3], [2, 0, 3]) == (3, (3, 3, 3), (2, 2, 1))


def test_drafts_behind_the_end_of_a_branch_are_not_counted() -> None:
    # The last step yields four tokens, and the branch ends at the second.
    assert count_drafts(7, 3, [3, 3, 3], [2, 0, 3]) == (3, (3, 3, 2), (2, 2, 0))


def test_steps_without_drafts_are_counted_as_steps() -> None:
    assert count_drafts(1, 4, [], []) == (0, (), ())
    assert count_drafts(6, 2, [], []) == (5, (0, 0), (0, 0))
    assert count_drafts(7, 2, [1, 2], [1, 1]) == (4, (2, 1), (2, 0))


def test_the_table_names_every_draft_length_that_fits() -> None:
    assert batch_table((0, 1, 2, 4), 64) == [[1, 1, 4], [2, 2, 2], [3, 3, 1], [4, 64, 0]]
    assert batch_table((0, 1, 2, 4), 2) == [[1, 1, 4], [2, 2, 2]]


def test_draft_lengths_are_sorted_and_have_zero() -> None:
    assert VllmSettings(draft_lengths=(4, 1)).draft_lengths == (0, 1, 4)
    with pytest.raises(ValueError, match="0 or more"):
        VllmSettings(draft_lengths=(-1,))


def test_drafts_with_a_temperature_are_refused_where_sampling_is_not_known_to_be_exact() -> None:
    limits = Limits(can_budget=False, samples_drafts_exactly=False, takes_seeds=True)
    refused = limits.refusal(branch("a", "p", num_speculative_tokens=1))
    assert refused is not None
    assert "0.32.0" in refused
    assert limits.refusal(branch("a", "p")) is None
    greedy = branch("a", "p", num_speculative_tokens=1, sampling=Sampling(temperature=0.0))
    assert limits.refusal(greedy) is None
