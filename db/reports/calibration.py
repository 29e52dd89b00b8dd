"""Calibration: whether the forecasts of admission came true."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy.orm import Session

from db.reports.cells import Selection, Subject, read, summed
from db.reports.facts import COLUMNS, JOB_DIMENSIONS, hour_of, sketch_bin
from db.reports.groups import GroupBy, Key
from db.reports.periods import Every
from db.reports.sums import Percentiles, Share, Sums
from scheduler.core.intervals import clustered, wilson

_COUNTS, _ERROR = range(2)
_JOBS, _BY_P50, _BY_P95 = range(3)

# Sums over jobs by the tenth that their predicted accuracy lies in.
_GRADED_JOBS, _GRADED, _PREDICTED, _RIGHT, _RR, _RN, _NN = range(10, 17)
_NUM_BINS = 10

_FACTS = f"""
WITH ended AS MATERIALIZED (
    SELECT {hour_of("jobs.finished_at")} AS hour, {JOB_DIMENSIONS},
        finished_at <= admitted_finish_at AS by_p50,
        finished_at <= admitted_finish_p95_at AS by_p95,
        extract(epoch FROM finished_at - admitted_finish_at)::float8 AS error_s,
        admitted_accuracy AS predicted,
        least(floor(admitted_accuracy * {_NUM_BINS}), {_NUM_BINS - 1}) AS tenth,
        graded.n,
        graded.r
    FROM jobs
    CROSS JOIN LATERAL (
        SELECT count(is_correct) AS n, count(*) FILTER (WHERE is_correct) AS r
        FROM problems WHERE problems.job_id = jobs.id
    ) AS graded
    WHERE finished_at >= :since AND finished_at < :until
        AND state <> 'cancelled' AND is_promised AND solve
)
SELECT hour, {COLUMNS}, part, bin, sum(weight) AS weight
FROM ended
CROSS JOIN LATERAL (
    VALUES ({_COUNTS}, {_JOBS}, 1.0),
        ({_COUNTS}, {_BY_P50}, by_p50::int),
        ({_COUNTS}, {_BY_P95}, by_p95::int),
        ({_ERROR}, {sketch_bin("error_s")}, 1)
) AS fact (part, bin, weight)
GROUP BY hour, {COLUMNS}, part, bin
UNION ALL
SELECT hour, {COLUMNS}, part, tenth, sum(weight)
FROM ended
CROSS JOIN LATERAL (
    VALUES ({_GRADED_JOBS}, 1.0), ({_GRADED}, n), ({_PREDICTED}, predicted * n), ({_RIGHT}, r),
        ({_RR}, r * r), ({_RN}, r * n), ({_NN}, n * n)
) AS fact (part, weight)
WHERE n > 0
GROUP BY hour, {COLUMNS}, part, tenth
"""

SUBJECT = Subject("forecasts", summed(_FACTS))


@dataclass(frozen=True, slots=True)
class ReliabilityBin:
    """Jobs whose predicted accuracy is at least `ge` and below `lt`; the last bin holds 1 too.

    Attributes:
        predicted: Mean predicted accuracy of their graded problems.
        actual: Fraction of those answered right; its interval knows that problems come in jobs.
    """

    ge: float
    lt: float
    num_jobs: int
    num_problems: int
    predicted: float
    actual: Share


@dataclass(frozen=True, slots=True)
class CalibrationRow:
    """Forecasts at submission of promised jobs that ended, cancelled ones left out.

    Attributes:
        group: What the row is about; null for all, or for what is not known.
        at: Beginning of the hour or day that the row is about; null for the whole range.
        finish_p50: Fraction of jobs that ended by the predicted median; ideally a half.
        finish_p95: Fraction of jobs that ended by the predicted P95; ideally 0.95 or more.
        finish_error_s: End minus predicted median.
        num_problems: Graded problems.
        predicted_accuracy: Mean predicted accuracy of graded problems.
        accuracy: Fraction of graded problems answered right.
        accuracy_error: `predicted_accuracy` minus `accuracy`; positive is too hopeful.
        reliability: The same by predicted accuracy, in tenths that have any.
    """

    group: str | None
    at: datetime | None
    num_jobs: int
    finish_p50: Share
    finish_p95: Share
    finish_error_s: Percentiles
    num_problems: int
    predicted_accuracy: float | None
    accuracy: Share
    accuracy_error: float | None
    reliability: list[ReliabilityBin]


def calibration_report(
    session: Session,
    selection: Selection,
    *,
    group_by: GroupBy | None = None,
    every: Every | None = None,
) -> list[CalibrationRow]:
    """Predicted against actual ends and accuracies, by group."""
    found = read(session, SUBJECT, selection, group_by, every)
    return [_row(key, sums) for key, sums in found.items()]


def _row(key: Key, sums: Sums) -> CalibrationRow:
    counts = sums.counts(_COUNTS)
    num_jobs = counts.get(_JOBS, 0.0)
    of_bins = {part: sums.counts(part) for part in range(_GRADED_JOBS, _NN + 1)}
    of_all = {part: sum(values.values()) for part, values in of_bins.items()}
    predicted, actual = _predicted(of_all), _actual(of_all)
    return CalibrationRow(
        *key,
        num_jobs=int(num_jobs),
        finish_p50=Share.of(wilson(counts.get(_BY_P50, 0.0), num_jobs)),
        finish_p95=Share.of(wilson(counts.get(_BY_P95, 0.0), num_jobs)),
        finish_error_s=sums.percentiles(_ERROR),
        num_problems=int(of_all[_GRADED]),
        predicted_accuracy=predicted,
        accuracy=actual,
        accuracy_error=(
            None if predicted is None or actual.value is None else predicted - actual.value
        ),
        reliability=[
            _reliability(tenth, {part: values[tenth] for part, values in of_bins.items()})
            for tenth in sorted(of_bins[_GRADED])
        ],
    )


def _reliability(tenth: int, of_bin: dict[int, float]) -> ReliabilityBin:
    return ReliabilityBin(
        ge=tenth / _NUM_BINS,
        lt=(tenth + 1) / _NUM_BINS,
        num_jobs=int(of_bin[_GRADED_JOBS]),
        num_problems=int(of_bin[_GRADED]),
        predicted=of_bin[_PREDICTED] / of_bin[_GRADED],
        actual=_actual(of_bin),
    )


def _predicted(totals: dict[int, float]) -> float | None:
    return totals[_PREDICTED] / totals[_GRADED] if totals[_GRADED] else None


def _actual(totals: dict[int, float]) -> Share:
    squares = (totals[_RR], totals[_RN], totals[_NN])
    return Share.of(clustered(totals[_RIGHT], totals[_GRADED], squares))
