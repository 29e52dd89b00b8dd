"""Plans that run to the deadline, looked at after the same seconds."""

import numpy as np

from scheduler.core.common_times import at_common_times, at_time
from scheduler.core.config import SchedulerConfig
from scheduler.core.fleet import Fleet
from scheduler.core.forecast import ForecastGrid
from scheduler.core.grid import Grid
from scheduler.core.plan import Width
from tests.scheduler.core.worlds import job, worker

CONFIG = SchedulerConfig()
FLEET = Fleet.of([worker()])


def forecast_of(num_pending: int) -> ForecastGrid:
    one = job(num_pending=num_pending)
    return Grid.of(FLEET, one, CONFIG).forecast([one])


def test_what_counts_is_what_is_reached_by_the_common_time() -> None:
    before = forecast_of(1)
    after = at_common_times(before, CONFIG.min_answered)
    is_moved = after.needed_s < before.needed_s - 1e-9
    assert is_moved.mean() > 0.5
    assert np.allclose(after.cap_s[is_moved], after.needed_s[is_moved], rtol=0.01)
    for row in np.ndindex(before.needed_s.shape[:-1]):
        own = is_moved[row]
        for name in ("tokens", "accuracy", "row_seconds", "answered"):
            curve = np.interp(
                np.log(after.needed_s[row][own]),
                np.log(before.cap_s[row]),
                getattr(before, name)[row],
            )
            assert np.allclose(getattr(after, name)[row][own], curve)


def test_widths_have_their_times_in_common() -> None:
    before = forecast_of(1)
    rows = [before.widths.index(Width(number, CONFIG.stop_gain)) for number in (2, 16)]
    after = at_common_times(before, CONFIG.min_answered)
    narrow, wide = (
        set(after.needed_s[0, row, 0][after.needed_s[0, row, 0] < before.needed_s[0, row, 0]])
        for row in rows
    )
    # The wide one takes longer for the same caps, so only the ends of its times may differ.
    assert len(narrow & wide) >= min(len(narrow), len(wide)) - 2 > 4
    caps = [set(before.needed_s[0, row, 0]) for row in rows]
    assert not caps[0] & caps[1]


def test_all_that_runs_to_a_known_time_is_looked_at_then() -> None:
    before = forecast_of(1)
    limit_s = float(np.median(before.cap_s))
    after = at_time(before, limit_s)
    is_later = (before.cap_s > limit_s) & (before.cap_s[..., :1] < limit_s)
    assert is_later.any()
    assert np.allclose(after.needed_s[is_later], limit_s)
    assert (after.needed_s[is_later] <= limit_s).all()
    assert (after.needed_s == before.needed_s)[~is_later].all()
    assert (after.accuracy <= before.accuracy + 1e-12).all()


def test_the_first_caps_the_longest_and_queues_stay() -> None:
    before = forecast_of(1)
    after = at_common_times(before, CONFIG.min_answered)
    stays = after.needed_s == before.needed_s
    assert stays[..., -1].all()
    # Nothing is moved to where too few problems would have an answer.
    assert (after.answered[~stays] >= CONFIG.min_answered).all()
    assert (before.answered < CONFIG.min_answered)[stays].any()
    many = forecast_of(400)
    queued = at_common_times(many, CONFIG.min_answered)
    assert many.is_queued.any()
    for name in ("needed_s", "accuracy", "row_seconds"):
        assert (getattr(queued, name) == getattr(many, name))[many.is_queued].all()
