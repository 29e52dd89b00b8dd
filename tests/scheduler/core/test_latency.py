"""The latency profile: its formula, its acceptance and its JSON."""

import json
from dataclasses import replace

import numpy as np
import pytest

from scheduler.core.latency import LatencyProfile
from tests.scheduler.core.worlds import LATENCY


def test_a_step_costs_what_the_formula_says() -> None:
    time_s = float(LATENCY.step_time_s(10, 2, 3000))
    assert time_s == pytest.approx(0.01 + 30 * 2e-5 + 3000 * 2e-8 + 2 * (5e-4 + 10 * 5e-6))


def test_the_slope_changes_at_its_knot() -> None:
    at_knot, beyond = LATENCY.step_time_s([64, 74], 0, 0)
    assert beyond - at_knot == pytest.approx(10 * 1.2e-4)


def test_arguments_broadcast() -> None:
    rows = np.array([1, 2, 4])[:, None]
    assert LATENCY.tpot_s(rows, np.array([0, 3]), 100.0).shape == (3, 2)


def test_acceptance_length_counts_the_bonus_token_and_every_accepted_prefix() -> None:
    assert float(LATENCY.mean_acceptance_length(0)) == 1.0
    assert float(LATENCY.mean_acceptance_length(2)) == pytest.approx(1 + 0.8 + 0.8 * 0.75)


def test_positions_never_measured_count_as_never_accepted() -> None:
    four, eight = LATENCY.mean_acceptance_length([4, 8])
    assert four == eight
    assert float(replace(LATENCY, acceptance=()).mean_acceptance_length(3)) == 1.0


def test_prefill_grows_with_the_prompt() -> None:
    assert float(LATENCY.prefill_time_s(1000)) == pytest.approx(0.005 + 0.02)


def test_scaling_multiplies_every_time_and_leaves_acceptance() -> None:
    double = LATENCY.scaled(2.0)
    assert double.step_time_s(80, 2, 500) == pytest.approx(2 * LATENCY.step_time_s(80, 2, 500))
    assert double.prefill_time_s(80) == pytest.approx(2 * LATENCY.prefill_time_s(80))
    assert double.acceptance == LATENCY.acceptance


def test_json_restores_the_profile() -> None:
    text = json.dumps(LATENCY.to_dict())
    assert LatencyProfile.from_dict(json.loads(text)) == LATENCY


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"base_s": 0.0}, "base_s"),
        ({"base_s": "fast"}, "not a latency profile"),
        ({"context_s": -1.0}, "context_s"),
        ({"acceptance": [1.2]}, "acceptance"),
        ({"token_knots": [1.0, 2.0]}, "token_knots"),
        ({"token_knots": [0.0, 64.0, 64.0], "token_slopes_s": [0.0, 0.0, 0.0]}, "ascend"),
        ({"token_slopes_s": [1e-5]}, "one slope per knot"),
        ({"residual_sigma": float("nan")}, "residual_sigma"),
        ({"acceptance_tries": [5.0]}, "acceptance_tries"),
        ({"acceptance_decay_per_token": -1e-4}, "acceptance_decay_per_token"),
        ({"step_sigma": -1.0}, "step_sigma"),
        ({"speed": 1}, "speed"),
    ],
)
def test_a_malformed_profile_says_what_is_wrong(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LatencyProfile.from_dict({**LATENCY.to_dict(), **change})


def test_a_missing_field_is_named() -> None:
    data = LATENCY.to_dict()
    del data["base_s"]
    with pytest.raises(ValueError, match="base_s"):
        LatencyProfile.from_dict(data)
