"""Costs: row-seconds and tokens of branches, by what they brought."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy.orm import Session

from db.reports.cells import Selection, Subject, read, summed_of_branches
from db.reports.facts import BRANCH_KEY, ENDED, SPENT, SPENT_SUMS, hour_of
from db.reports.groups import GroupBy, Key
from db.reports.periods import Every
from db.reports.sums import Sums
from scheduler.core.costs import Amount, Fate, Parts, Spent, cost_of

# A part holds the sums of one fate. Rollups are stored with these numbers: none may change.
_PARTS = {Fate.COUNTED: 0, Fate.CANCELLED: 1, Fate.LOST: 2}
_BRANCHES, _ROW_S, _REJECTED_ROW_S, _TOKENS, _REJECTED, _PROMPT = range(6)

_PART_OF_FATE = " ".join(f"WHEN '{fate}' THEN {part}" for fate, part in _PARTS.items())

_FACTS = f"""
WITH held AS MATERIALIZED (
    SELECT {hour_of("branches.finished_at")} AS hour, batch_id,
        branches.num_speculative_tokens, {SPENT}
    FROM branches JOIN batches ON batches.id = branches.batch_id
    WHERE {ENDED}
), spent AS (
    SELECT {BRANCH_KEY},
        CASE fate {_PART_OF_FATE} END AS own,
        {SPENT_SUMS}
    FROM held
    GROUP BY {BRANCH_KEY}, fate
)
SELECT {BRANCH_KEY}, part, bin, weight
FROM spent
CROSS JOIN LATERAL (
    VALUES (own, {_BRANCHES}, num_branches),
        (own, {_ROW_S}, row_s),
        (own, {_REJECTED_ROW_S}, rejected_row_s),
        (own, {_TOKENS}, tokens),
        (own, {_REJECTED}, rejected_tokens),
        (own, {_PROMPT}, prompt_tokens),
        ({_PARTS[Fate.LOST]}, {_ROW_S}, retried_row_s),
        ({_PARTS[Fate.LOST]}, {_TOKENS}, retried_tokens)
) AS fact (part, bin, weight)
WHERE weight <> 0
"""

SUBJECT = Subject("costs", summed_of_branches(_FACTS))


@dataclass(frozen=True, slots=True)
class RowSeconds:
    """What the rows of engines were held for; the parts add up to the total."""

    useful: float
    cancelled: float
    rejected_drafts: float
    retried: float
    total: float


@dataclass(frozen=True, slots=True)
class Tokens:
    """Completion tokens and rejected draft tokens; the parts add up to the total."""

    useful: int
    cancelled: int
    rejected_drafts: int
    retried: int
    total: int


@dataclass(frozen=True, slots=True)
class CostRow:
    """What the branches that ended in the range cost.

    Attributes:
        group: What the row is about; null for all, or for what is not known.
        at: Beginning of the hour or day that the row is about; null for the whole range.
        num_branches: With one for all tries of an index.
        prompt_tokens: Of their prompts, which a prefix cache may have spared.
    """

    group: str | None
    at: datetime | None
    num_branches: int
    row_seconds: RowSeconds
    tokens: Tokens
    prompt_tokens: int


def cost_report(
    session: Session,
    selection: Selection,
    *,
    group_by: GroupBy | None = None,
    every: Every | None = None,
) -> list[CostRow]:
    """Row-seconds and tokens, by group: useful, cancelled, rejected drafts and retried."""
    found = read(session, SUBJECT, selection, group_by, every)
    return [_row(key, sums) for key, sums in found.items()]


def _row(key: Key, sums: Sums) -> CostRow:
    cost = cost_of(_spent(fate, sums) for fate in Fate)
    return CostRow(
        *key,
        num_branches=cost.num_branches,
        row_seconds=RowSeconds(*_parts(cost.row_s)),
        tokens=Tokens(*_parts(cost.tokens)),
        prompt_tokens=cost.prompt_tokens,
    )


def _spent(fate: Fate, sums: Sums) -> Spent:
    amounts = sums.counts(_PARTS[fate])
    return Spent(
        fate,
        num_branches=round(amounts.get(_BRANCHES, 0)),
        row_s=amounts.get(_ROW_S, 0.0),
        rejected_row_s=amounts.get(_REJECTED_ROW_S, 0.0),
        tokens=round(amounts.get(_TOKENS, 0)),
        rejected_tokens=round(amounts.get(_REJECTED, 0)),
        prompt_tokens=round(amounts.get(_PROMPT, 0)),
    )


def _parts(parts: Parts[Amount]) -> tuple[Amount, ...]:
    return parts.useful, parts.cancelled, parts.rejected_drafts, parts.retried, parts.total
