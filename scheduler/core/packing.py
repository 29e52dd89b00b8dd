"""Sharing one model's rows among jobs: the best plans that all demand bounds allow."""

from scheduler.core.bounds import Bounds
from scheduler.core.packed import Packed
from scheduler.core.placing import place
from scheduler.core.upgrades import upgrade

__all__ = ["Bounds", "Packed", "pack", "place"]


def pack(bounds: Bounds) -> list[Packed]:
    """Upgrade from the first plans while every bound holds; plans in order of deadline."""
    upgrade(place(bounds))
    return bounds.packed()
