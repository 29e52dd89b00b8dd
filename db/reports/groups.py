"""What the rows of a report stand for: a value of a dimension, a bucket of time, or all."""

from datetime import UTC, datetime
from enum import StrEnum
from typing import NamedTuple

from db.reports.facts import DIMENSIONS
from db.reports.periods import Every


class GroupBy(StrEnum):
    """What a row of a report stands for."""

    MODEL = "model"
    ENGINE = "engine"
    TENANT = "tenant"
    FAMILY = "family"
    DEADLINE_CLASS = "deadline_class"
    SPLIT = "split"
    HOUR = "hour"
    DAY = "day"

    @property
    def dimension(self) -> str | None:
        """The column that it groups by; None for a time."""
        if self.bucket is not None:
            return None
        return "tenant_id" if self is GroupBy.TENANT else self.value

    @property
    def bucket(self) -> Every | None:
        """The bucket of time that it groups by; None for a dimension."""
        return Every(self) if self in (GroupBy.HOUR, GroupBy.DAY) else None


class Key(NamedTuple):
    """One row of a report: its group and the beginning of its bucket, None for all."""

    group: str | None
    at: datetime | None


class Grouping(NamedTuple):
    """What rows are about: a dimension, a bucket of time, both or neither."""

    dimension: str | None
    bucket: Every | None
    is_by_time: bool

    @classmethod
    def of(cls, group_by: GroupBy | None, every: Every | None) -> "Grouping":
        """What a report is asked for."""
        if group_by is None:
            return cls(None, every, False)
        return cls(group_by.dimension, group_by.bucket or every, group_by.bucket is not None)

    def key(self, value: str | None, at: datetime | None) -> Key:
        """The key of a value of the dimension and the beginning of a bucket."""
        at = None if at is None else at.astimezone(UTC)
        return Key(at.isoformat() if self.is_by_time and at else value or None, at)

    def key_of(self, at: datetime, dimensions: tuple[str, ...]) -> Key:
        """The key of a cell of this hour, or day, and these dimensions."""
        value = self.dimension and dimensions[DIMENSIONS.index(self.dimension)]
        return self.key(value, None if self.bucket is None else self.bucket.begin(at))


def order(key: Key) -> tuple[str, str]:
    """By group, and by time within it."""
    return key.group or "", "" if key.at is None else key.at.isoformat()
