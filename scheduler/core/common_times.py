"""Plans of all widths that run to the deadline, looked at after the same seconds.

Theory of operation: caps are steps of a fifth, and wide plans decode slower than narrow ones, so
their caps end at other times. A deadline just behind the cap of one width and just before that of
another would let the first count a step more, which for one problem at a time weighed more than the
widths themselves. A plan that is not queued runs to the deadline anyway, whether the branches of a
problem start all at once or follow one another. So what it needs is rounded down to *common times*,
the powers of one step, and its accuracy, cost and tokens are those until then. Where it would not
give enough answers by then it is needed until its cap, though it counts until the common time too:
counted until its cap, the one width that stays beat all others by up to a step of time. The longest
cap stays as it is.
"""

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from scheduler.core.forecast import ForecastGrid
from scheduler.core.latency import FloatArray

LONGER_STEP = 1.05
"""Step of the common times over that of caps, whose last tokens take longer in a fuller cache: with
a shorter one a width would pass over some of the times."""

ROUNDING = 1e-9
"""By how much earlier, in parts, a time is than the one asked for, so that it fits."""


def at_common_times(forecast: ForecastGrid, min_answered: float) -> ForecastGrid:
    """The forecast with what is not queued moved to the last common time before its cap.

    Args:
        min_answered: As in `SchedulerConfig`.
    """

    def common(log_s: FloatArray) -> FloatArray:
        caps = forecast.caps
        step = math.log(LONGER_STEP) + math.log(caps[-1] / caps[0]) / (len(caps) - 1)
        times = step * np.floor(log_s / step)
        times[..., -1] = log_s[..., -1]
        return np.asarray(times)

    return _moved(forecast, common, forecast.enough(min_answered))


def at_time(forecast: ForecastGrid, seconds: float) -> ForecastGrid:
    """The forecast with what is not queued and would take longer moved to the time there is."""
    limit = math.log(max(seconds, 1e-9)) - ROUNDING
    return _moved(forecast, lambda log_s: np.minimum(log_s, limit), 0.0)


def _moved(
    forecast: ForecastGrid, times: Callable[[FloatArray], FloatArray], enough: float
) -> ForecastGrid:
    """The forecast with what is not queued moved to earlier times; needed then if it gives enough.

    Args:
        times: Of logarithms of `ForecastGrid.cap_s`, which ascend over caps, to those of the times.
    """
    if len(forecast.caps) < 2:
        return forecast
    log_s = np.log(np.maximum.accumulate(forecast.cap_s, axis=-1))
    common = times(log_s)
    place = _places(common, log_s)
    left = np.minimum(place.astype(np.int64), log_s.shape[-1] - 2)
    share = place - left

    def then(values: FloatArray) -> FloatArray:
        before, behind = (np.take_along_axis(values, left + k, axis=-1) for k in (0, 1))
        return np.asarray(before + share * (behind - before))

    is_before = ~forecast.is_queued & (common >= log_s[..., :1]) & (common < log_s)
    is_soon = is_before & (then(forecast.answered) >= enough)

    def moved(values: FloatArray) -> FloatArray:
        return np.where(is_before, then(values), values)

    return replace(
        forecast,
        needed_s=np.where(is_soon, np.exp(common), forecast.needed_s),
        tokens=moved(forecast.tokens),
        cap_s=moved(forecast.cap_s),
        accuracy=moved(forecast.accuracy),
        row_seconds=moved(forecast.row_seconds),
        answered=np.where(is_soon, then(forecast.answered), forecast.answered),
    )


def _places(values: FloatArray, ascending: FloatArray) -> FloatArray:
    """Where values lie between the entries of their rows, counted from 0; of the same shape."""
    length = ascending.shape[-1]
    rows = ascending.reshape(-1, length)
    # One flat interpolation: rows are shifted apart, so that all of them together ascend.
    apart = float(rows.max() - min(rows.min(), values.min())) + 1.0
    shift = apart * np.arange(len(rows))[:, None]
    places = np.tile(np.arange(length, dtype=np.float64), len(rows))
    shifted = (values.reshape(rows.shape) + shift).ravel(), (rows + shift).ravel()
    return np.asarray(np.interp(*shifted, places).reshape(ascending.shape))
