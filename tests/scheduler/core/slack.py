"""Whether demand bounds hold."""

from scheduler.core.bounds import ROUNDING_S, Bounds


def holds(bounds: Bounds) -> bool:
    """Whether every job that is not late keeps its bound."""
    return bool((bounds.slack_s() >= -ROUNDING_S).all())
