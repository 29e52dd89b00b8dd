"""What the last snapshot held: values equal to those of the read before are the same objects.

That lets the core keep what it computed of them (`scheduler.core.tables`, `Fleet.of`). Memories are
replaced as a whole, so that threads may share them.
"""

from collections.abc import Callable, Iterable
from typing import Any, Generic, TypeVar

from db.models import Worker
from scheduler.core.accuracy import AnswerProfile
from scheduler.core.latency import LatencyProfile
from scheduler.core.plan import EngineSpec
from scheduler.core.snapshot import BatchView, JobView, WorkerView

View = TypeVar("View", JobView, BatchView)


class Views(Generic[View]):
    """The views of the last read, by key."""

    def __init__(self, key: Callable[[View], object]) -> None:
        self._key: Callable[[View], object] = key
        self._last: dict[object, View] = {}

    def same(self, views: Iterable[View]) -> tuple[View, ...]:
        """These views, with equal ones of the last read in their places."""
        last = self._last
        found: dict[object, View] = {self._key(view): view for view in views}
        for key, view in found.items():
            known = last.get(key)
            if known is not None and known == view:
                found[key] = known
        self._last = found
        return tuple(found.values())


class Workers:
    """What the workers of the last read told of themselves, by name and part."""

    def __init__(self) -> None:
        self._last: dict[tuple[str, str], tuple[dict[str, Any], Any]] = {}

    def views(self, workers: Iterable[Worker]) -> tuple[WorkerView, ...]:
        """Views of these workers; one of another release that cannot be read is left out."""
        last = self._last
        found: dict[tuple[str, str], tuple[dict[str, Any], Any]] = {}

        def parsed(name: str, part: str, stored: dict[str, Any]) -> Any:
            known = last.get((name, part))
            if known is None or known[0] != stored:
                known = stored, _PARSERS[part](stored)
            found[name, part] = known
            return known[1]

        views = []
        for worker in workers:
            name = worker.name
            try:
                view = WorkerView(
                    name=name,
                    incarnation=worker.incarnation,
                    spec=parsed(name, "spec", worker.spec),
                    latency=parsed(name, "latency", worker.latency_profile),
                    answers=parsed(name, "answers", worker.answer_profile),
                    heartbeat_at=worker.heartbeat_at,
                )
            except (KeyError, TypeError, ValueError):
                continue
            views.append(view)
        self._last = found
        return tuple(views)


def _spec(stored: dict[str, Any]) -> EngineSpec:
    return EngineSpec(**{**stored, "draft_lengths": tuple(stored["draft_lengths"])})


_PARSERS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "spec": _spec,
    "latency": LatencyProfile.from_dict,
    "answers": AnswerProfile.from_dict,
}
