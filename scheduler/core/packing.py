"""Sharing one model's rows among jobs: the best plans that all demand bounds allow."""

from scheduler.core.bounds import Bounds, Packed
from scheduler.core.upgrades import upgrade

__all__ = ["Bounds", "Packed", "pack"]


def pack(bounds: Bounds) -> list[Packed]:
    """Upgrade from the cheapest plans while every bound holds; plans in order of deadline."""
    upgrade(bounds)
    return bounds.packed()
