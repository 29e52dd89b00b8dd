"""The refresh of a profile: it follows the engine, not the noise, and is always a profile."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler.core.latency import LatencyProfile
from scheduler.core.refresh import DRIFT_WINDOWS, MEMORY, EngineTotals, Refresh
from tests.scheduler.core.windows import BRANCH_STEPS, COUNTED, run, window
from tests.scheduler.core.worlds import LATENCY


def test_totals_are_differences_of_each_other() -> None:
    rng = np.random.default_rng(0)
    first, second = window(rng, draft=1), window(rng, draft=3)
    both = EngineTotals(
        steps=first.steps + second.steps,
        busy_s=first.busy_s + second.busy_s,
        drafted=(first.drafted[0] + second.drafted[0], *second.drafted[1:]),
        accepted=(first.accepted[0] + second.accepted[0], *second.accepted[1:]),
    )
    difference = both.since(first)
    assert difference.steps == second.steps
    assert difference.busy_s == pytest.approx(second.busy_s)
    assert (difference.drafted, difference.accepted) == (second.drafted, second.accepted)


def test_a_slowdown_of_a_third_is_published_after_four_windows_and_converges() -> None:
    """Four windows of 50 steps: at 32 rows and 200 steps a branch, the end of 32 branches."""
    rng = np.random.default_rng(1)
    calm = [window(rng, noise=0.03) for _ in range(MEMORY)]
    slow = [window(rng, truth=COUNTED.scaled(1.3), noise=0.03) for _ in range(MEMORY)]
    refresh, _ = run(Refresh.of(COUNTED), calm)
    assert not refresh.has_drifted
    detected = next(
        number
        for number in range(1, MEMORY)
        if run(refresh, slow[:number])[0].published.base_s > 1.15 * COUNTED.base_s
    )
    assert detected <= DRIFT_WINDOWS
    refresh, published = run(refresh, slow)
    assert refresh.published.base_s / COUNTED.base_s == pytest.approx(1.3, rel=0.03)
    assert len(published) <= 4
    assert sum(seen.branches for seen in slow[:detected]) <= 32


def test_a_speedup_is_followed_too() -> None:
    rng = np.random.default_rng(2)
    fast = [window(rng, truth=COUNTED.scaled(0.7), noise=0.03) for _ in range(2 * DRIFT_WINDOWS)]
    refresh, _ = run(Refresh.of(COUNTED), fast)
    assert refresh.published.base_s / COUNTED.base_s == pytest.approx(0.7, rel=0.03)


@pytest.mark.parametrize("seed", range(8))
def test_noise_as_wide_as_the_profile_says_is_no_drift(seed: int) -> None:
    rng = np.random.default_rng(seed)
    refresh = Refresh.of(COUNTED)
    drifts, published = 0, 0
    for _ in range(100):
        refresh = refresh.seen(window(rng, noise=COUNTED.residual_sigma))
        drifts += refresh.has_drifted
        if refresh.is_due():
            published += 1
            refresh = refresh.told(refresh.profile("2026-01-02"))
    assert drifts <= 1
    assert published <= 6
    assert refresh.speed_ratio == pytest.approx(1.0, abs=0.04)


def test_one_window_in_which_the_machine_slept_changes_nothing() -> None:
    rng = np.random.default_rng(3)
    windows = [window(rng, noise=0.02) for _ in range(12)]
    windows[8] = replace(windows[8], busy_s=30 * windows[8].busy_s)
    refresh, _ = run(Refresh.of(COUNTED), windows)
    assert refresh.published.base_s == pytest.approx(COUNTED.base_s, rel=0.02)
    assert refresh.published.residual_sigma < 0.2


def test_a_machine_that_varies_more_than_measured_gets_a_wider_spread() -> None:
    rng = np.random.default_rng(4)
    refresh, _ = run(Refresh.of(COUNTED), [window(rng, noise=0.2) for _ in range(4 * MEMORY)])
    assert 0.1 < refresh.published.residual_sigma < 0.3


def test_a_spread_measured_on_a_busy_machine_is_outlived() -> None:
    rng = np.random.default_rng(8)
    busy = replace(COUNTED, residual_sigma=0.6)
    refresh, _ = run(Refresh.of(busy), [window(rng, noise=0.04) for _ in range(8 * MEMORY)])
    assert refresh.published.residual_sigma < 0.2


def test_acceptance_follows_the_task() -> None:
    rng = np.random.default_rng(5)
    poor = replace(COUNTED, acceptance=(0.5, 0.4, 0.3, 0.3))
    refresh, published = run(Refresh.of(COUNTED), [window(rng, truth=poor) for _ in range(MEMORY)])
    assert published
    found = refresh.published
    assert found.acceptance[:3] == pytest.approx((0.5, 0.4, 0.3), abs=0.05)
    assert found.acceptance[3] == COUNTED.acceptance[3], "nothing drafted that far"
    assert found.acceptance_tries[0] > 400


def test_acceptance_under_decay_is_kept_for_the_start_of_a_branch() -> None:
    rng = np.random.default_rng(6)
    decaying = replace(COUNTED, acceptance_decay_per_token=1e-3)
    length = 2 * BRANCH_STEPS
    kept = (1 - np.exp(-1e-3 * length)) / (1e-3 * length)
    seen = replace(COUNTED, acceptance=tuple(kept * a for a in COUNTED.acceptance))
    refresh, _ = run(Refresh.of(decaying), [window(rng, truth=seen) for _ in range(MEMORY)])
    now = refresh.profile("2026-01-02")
    assert now.acceptance[:3] == pytest.approx(COUNTED.acceptance[:3], abs=0.02)
    assert now.acceptance_decay_per_token == 1e-3


def test_a_refreshed_profile_says_so() -> None:
    rng = np.random.default_rng(7)
    assert Refresh.of(COUNTED).profile("2026-01-02") == COUNTED
    refresh, _ = run(Refresh.of(COUNTED), [window(rng) for _ in range(5)])
    profile = refresh.profile("2026-01-02T10:00:00+00:00")
    assert profile.measured_at == "2026-01-02T10:00:00+00:00"
    assert f"measured {COUNTED.measured_at}, refreshed from 5 windows" in profile.method
    assert "40 branches seen" in profile.method


counts = st.integers(0, 10**9)


@st.composite
def arbitrary_windows(draw: st.DrawFn) -> EngineTotals:
    steps = draw(st.integers(1, 10**6))
    rows = steps * draw(st.integers(1, 512))
    width = draw(st.integers(0, 8))
    drafted = sorted((draw(counts) for _ in range(width)), reverse=True)
    return EngineTotals(
        steps=steps,
        busy_s=draw(st.floats(0.0, 1e6)),
        rows=rows,
        draft_tokens=rows * draw(st.integers(0, 8)),
        context_tokens=float(draw(counts)),
        prefills=draw(st.integers(0, 10**4)),
        prefill_tokens=draw(counts),
        branches=draw(st.integers(0, 10**4)),
        completion_tokens=draw(counts),
        drafted=tuple(drafted),
        accepted=tuple(draw(st.integers(0, count)) for count in drafted),
    )


@given(
    st.lists(arbitrary_windows(), min_size=1, max_size=24),
    st.sampled_from([(), (0.0,), (1.0, 1.0), (0.8, 0.75, 0.7, 0.65)]),
    st.sampled_from([0.0, 1e-3]),
    st.sampled_from([0.0, 0.05]),
)
def test_a_refresh_never_yields_an_invalid_profile(
    windows: list[EngineTotals], acceptance: tuple[float, ...], decay: float, sigma: float
) -> None:
    fitted = replace(
        LATENCY, acceptance=acceptance, acceptance_decay_per_token=decay, residual_sigma=sigma
    )
    refresh = Refresh.of(fitted)
    for seen in windows:
        refresh = refresh.seen(seen)
        due, profile = refresh.is_due(), refresh.profile("2026-01-02")
        assert LatencyProfile.from_dict(profile.to_dict()) == profile
        assert len(refresh.windows) <= MEMORY
        if due:
            refresh = refresh.told(profile)
