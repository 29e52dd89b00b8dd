"""Speculation: what drafts gained, by their length and by how many rows the engine had in use."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy.orm import Session

from db.reports.cells import Selection, Subject, read, summed_of_branches
from db.reports.facts import BRANCH_KEY, COUNTED, hour_of, sketch_bin
from db.reports.groups import GroupBy, Key
from db.reports.periods import Every
from db.reports.sums import Percentiles, Sums

# A part holds one draft length at one class of rows: its TPOT as a sketch under the part, and
# counts, with draft positions from _POSITIONS on, under the negative part.
_ROW_CLASSES = 16
_BRANCHES, _DECODED, _STEPS = range(3)
_POSITIONS = 16

_POWERS = f"ARRAY[{', '.join(str(2**power) for power in range(_ROW_CLASSES - 1))}]"

_FACTS = f"""
WITH decoded AS MATERIALIZED (
    SELECT {hour_of("finished_at")} AS hour, batch_id, num_speculative_tokens,
        1 + {_ROW_CLASSES} * num_speculative_tokens
            + coalesce(width_bucket(num_rows, {_POWERS}), 0) AS code,
        decode_time_s / nullif(completion_tokens - 1, 0) AS tpot_s,
        completion_tokens - 1 AS num_decoded,
        num_steps,
        drafted_by_position,
        accepted_by_position
    FROM branches
    WHERE {COUNTED} AND num_steps > 0
)
SELECT {BRANCH_KEY}, code AS part, {sketch_bin("tpot_s")} AS bin, 1::float8 AS weight
FROM decoded
WHERE tpot_s IS NOT NULL
UNION ALL
SELECT {BRANCH_KEY}, -code, bin, weight
FROM (
    SELECT {BRANCH_KEY}, code, count(*) AS num_branches, sum(num_decoded) AS num_decoded,
        sum(num_steps) AS num_steps
    FROM decoded
    GROUP BY {BRANCH_KEY}, code
) AS counted
CROSS JOIN LATERAL (
    VALUES ({_BRANCHES}, num_branches), ({_DECODED}, num_decoded), ({_STEPS}, num_steps)
) AS fact (bin, weight)
UNION ALL
SELECT {BRANCH_KEY}, -code, {_POSITIONS} + 2 * (position - 1) + side, sum(weight)
FROM decoded
CROSS JOIN LATERAL unnest(drafted_by_position, accepted_by_position)
    WITH ORDINALITY AS spent (drafted, accepted, position)
CROSS JOIN LATERAL (VALUES (0, drafted), (1, accepted)) AS fact (side, weight)
GROUP BY {BRANCH_KEY}, code, position, side
"""

SUBJECT = Subject("speculation", summed_of_branches(_FACTS))


@dataclass(frozen=True, slots=True)
class RowsRow:
    """Branches that ended while at least `ge` and below `lt` rows were in use.

    Both are null where the number was not recorded.
    """

    ge: int | None
    lt: int | None
    num_branches: int
    acceptance_rate: float | None
    mean_acceptance_length: float
    tpot_s: Percentiles


@dataclass(frozen=True, slots=True)
class DraftRow:
    """Finished branches of one draft length.

    Attributes:
        acceptance_rate: Accepted of drafted tokens; null without drafts.
        acceptance_by_position: The same for each position of a draft.
        mean_acceptance_length: Tokens per forward pass of the target, bonus token included.
        by_rows: The same by rows in use, in powers of two.
    """

    num_speculative_tokens: int
    num_branches: int
    acceptance_rate: float | None
    acceptance_by_position: list[float]
    mean_acceptance_length: float
    tpot_s: Percentiles
    by_rows: list[RowsRow]


@dataclass(frozen=True, slots=True)
class SpeculationRow:
    """Speculation of branches that ended in the range.

    Attributes:
        group: What the row is about; null for all, or for what is not known.
        at: Beginning of the hour or day that the row is about; null for the whole range.
    """

    group: str | None
    at: datetime | None
    num_branches: int
    by_draft: list[DraftRow]


def speculation_report(
    session: Session,
    selection: Selection,
    *,
    group_by: GroupBy | None = None,
    every: Every | None = None,
) -> list[SpeculationRow]:
    """Acceptance and time per token by draft length and rows in use, by group."""
    found = read(session, SUBJECT, selection, group_by, every)
    return [_row(key, sums) for key, sums in found.items()]


def _row(key: Key, sums: Sums) -> SpeculationRow:
    codes: dict[int, list[int]] = {}
    for part in sums.parts():
        if part < 0:
            codes.setdefault((-part - 1) // _ROW_CLASSES, []).append(-part)
    drafts = [_draft(sums, length, sorted(found)) for length, found in sorted(codes.items())]
    return SpeculationRow(*key, sum(draft.num_branches for draft in drafts), drafts)


def _draft(sums: Sums, length: int, codes: list[int]) -> DraftRow:
    counts = _totals(sums.counts(-code) for code in codes)
    return DraftRow(
        num_speculative_tokens=length,
        num_branches=int(counts[_BRANCHES]),
        acceptance_rate=_acceptance_rate(counts),
        acceptance_by_position=[
            counts[place + 1] / counts[place]
            for place in sorted(counts)
            if place >= _POSITIONS and place % 2 == 0 and counts[place]
        ],
        mean_acceptance_length=counts[_DECODED] / counts[_STEPS],
        tpot_s=sums.percentiles(*codes),
        by_rows=[_rows(sums, code) for code in codes],
    )


def _rows(sums: Sums, code: int) -> RowsRow:
    counts = sums.counts(-code)
    power = (code - 1) % _ROW_CLASSES
    return RowsRow(
        ge=2 ** (power - 1) if power else None,
        lt=2**power if 0 < power < _ROW_CLASSES - 1 else None,
        num_branches=int(counts[_BRANCHES]),
        acceptance_rate=_acceptance_rate(counts),
        mean_acceptance_length=counts[_DECODED] / counts[_STEPS],
        tpot_s=sums.percentiles(code),
    )


def _totals(parts: Iterable[dict[int, float]]) -> dict[int, float]:
    totals: dict[int, float] = {}
    for part in parts:
        for place, weight in part.items():
            totals[place] = totals.get(place, 0.0) + weight
    return totals


def _acceptance_rate(counts: dict[int, float]) -> float | None:
    drafted = sum(w for place, w in counts.items() if place >= _POSITIONS and place % 2 == 0)
    accepted = sum(w for place, w in counts.items() if place >= _POSITIONS and place % 2 == 1)
    return accepted / drafted if drafted else None
