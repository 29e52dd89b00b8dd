"""Restart policy: quick at first, slower each time, and an end to it."""

from infra.restarts import RestartPolicy

POLICY = RestartPolicy(max_deaths=4, window_s=60.0, first_delay_s=0.5, max_delay_s=1.5)


def test_the_first_restart_comes_after_the_first_delay() -> None:
    assert POLICY.restart_delay_s([100.0], now=100.0) == 0.5


def test_each_death_doubles_the_delay_up_to_its_bound() -> None:
    assert POLICY.restart_delay_s([100.0, 101.0], now=101.0) == 1.0
    assert POLICY.restart_delay_s([100.0, 101.0, 103.0], now=103.0) == 1.5


def test_too_many_deaths_within_the_window_end_it() -> None:
    assert POLICY.restart_delay_s([100.0, 101.0, 103.0, 105.0], now=105.0) is None


def test_old_deaths_are_forgiven() -> None:
    assert POLICY.restart_delay_s([0.0, 1.0, 2.0, 105.0], now=105.0) == 0.5
