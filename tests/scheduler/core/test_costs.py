"""Every row-second and every token is in one part, however branches are put together."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler.core.costs import Fate, Spent, cost_of


@st.composite
def spent(draw: st.DrawFn) -> Spent:
    tokens = draw(st.integers(0, 10**6))
    row_s = draw(st.floats(0, 1e6))
    return Spent(
        fate=draw(st.sampled_from(Fate)),
        num_branches=draw(st.integers(0, 1000)),
        row_s=row_s,
        rejected_row_s=row_s * draw(st.floats(0, 1)),
        tokens=tokens,
        rejected_tokens=draw(st.integers(0, tokens)),
        prompt_tokens=draw(st.integers(0, 1000)),
    )


@given(st.lists(spent()))
def test_the_parts_add_up_to_the_whole(sums: list[Spent]) -> None:
    cost = cost_of(sums)

    assert cost.tokens.total == sum(each.tokens for each in sums)
    assert cost.row_s.total == pytest.approx(sum(each.row_s for each in sums))
    for parts in (cost.row_s, cost.tokens):
        assert min(parts.useful, parts.cancelled, parts.rejected_drafts, parts.retried) >= 0


@given(st.lists(spent()), st.integers(0, 10))
def test_costs_of_parts_of_the_branches_add_up_to_the_cost_of_all(
    sums: list[Spent], cut: int
) -> None:
    first, second, both = cost_of(sums[:cut]), cost_of(sums[cut:]), cost_of(sums)

    assert both.tokens.rejected_drafts == (
        first.tokens.rejected_drafts + second.tokens.rejected_drafts
    )
    assert both.row_s.useful == pytest.approx(first.row_s.useful + second.row_s.useful)
    assert both.num_branches == first.num_branches + second.num_branches


def test_only_branches_that_count_have_drafts_to_reject() -> None:
    by_fate = {
        fate: cost_of(
            [Spent(fate, 1, row_s=8.0, rejected_row_s=2.0, tokens=40, rejected_tokens=10)]
        )
        for fate in Fate
    }

    counted, cancelled, lost = (by_fate[fate] for fate in Fate)
    assert (counted.row_s.useful, counted.row_s.rejected_drafts) == (6.0, 2.0)
    assert (counted.tokens.useful, counted.tokens.rejected_drafts) == (30, 10)
    assert (cancelled.row_s.cancelled, cancelled.row_s.rejected_drafts) == (8.0, 0)
    assert (lost.tokens.retried, lost.tokens.rejected_drafts) == (40, 0)
