"""The splits of jobs that share workers."""

from scheduler.core.bounds import Bounds
from scheduler.core.outlook import packed
from scheduler.core.packed import Packed
from scheduler.core.placing import place
from scheduler.core.upgrades import upgrade


def pack(bounds: Bounds) -> list[Packed]:
    """Upgrade from the first plans while every bound holds; plans in order of deadline."""
    upgrade(place(bounds))
    return [packed(bounds, index) for index in range(len(bounds.jobs))]
