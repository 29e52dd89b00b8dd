"""Views as columns, with the rows of unchanged views kept between ticks.

Theory of operation: a tick reads thousands of views of which few changed since the tick before.
Reading an attribute takes as long as ten array elements, so rows are kept: a view that is the same
object as before keeps its row. Views are frozen, so the same object has the same row, and columns
are a pure function of the views whatever was kept. Rows are only ever appended to a store, until it
is replaced by one of the rows in use, so what readers hold never changes.
"""

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from operator import is_
from threading import Lock
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

View = TypeVar("View")
Owner = TypeVar("Owner")
Key = TypeVar("Key", bound=Hashable)

Store = dict[str, NDArray[Any]]
"""Columns of equal length by name."""

LEAST_STORE = 1024
"""Rows of a store at least; it holds up to three times the rows in use."""


class Numbers(Generic[Key]):
    """Small numbers for values met so far, counted from 0."""

    def __init__(self) -> None:
        self.keys: list[Key] = []
        self._numbers: dict[Key, int] = {}
        self._lock = Lock()

    def __len__(self) -> int:
        return len(self.keys)

    def of(self, key: Key) -> int:
        """The number of this value."""
        found = self._numbers.get(key)
        if found is None:
            with self._lock:
                found = self._numbers.get(key, len(self.keys))
                if found == len(self.keys):
                    self.keys.append(key)
                    self._numbers[key] = found
        return found

    def of_all(self, keys: Iterable[Key]) -> NDArray[np.int64]:
        """The numbers of these values."""
        keys = list(keys)
        found = list(map(self._numbers.get, keys))
        if None in found:
            found = list(map(self.of, keys))
        return np.array(found, dtype=np.int64)


class Gathered(dict[str, NDArray[Any]]):
    """Columns by name, gathered from a store when asked for; not to be written to."""

    def __init__(self, store: Store, at: NDArray[np.int64]) -> None:
        super().__init__()
        self.store = store
        self.at = at

    def __missing__(self, name: str) -> NDArray[Any]:
        found = self[name] = self.store[name].take(self.at)
        return found


class Table(Sequence[View], Generic[View, Owner]):
    """Some views, in any order, with their columns.

    Attributes:
        owner: What gives the numbers in its columns their meaning.
    """

    def __init__(
        self, owner: Owner, views: Sequence[View], which: NDArray[np.int64], columns: Gathered
    ) -> None:
        """Take the views at these positions."""
        self.owner = owner
        self.columns = columns
        self._views = views
        self._which = which

    def __len__(self) -> int:
        return len(self._which)

    def __getitem__(self, index: int) -> View:  # type: ignore[override]
        return self._views[int(self._which[index])]

    def __iter__(self) -> Iterator[View]:
        return map(self._views.__getitem__, self._which.tolist())

    def take(self, which: NDArray[Any]) -> "Table[View, Owner]":
        """The rows at these positions, or where this mask is true."""
        if which.dtype == np.bool_ and which.all():
            return self
        columns = Gathered(self.columns.store, self.columns.at[which])
        return Table(self.owner, self._views, self._which[which], columns)


class Columns(Generic[View, Owner]):
    """Makes tables of views, with the rows of the last one kept."""

    def __init__(
        self, owner: Owner, dtype: np.dtype[Any], row: Callable[[View], tuple[Any, ...]]
    ) -> None:
        self._owner = owner
        self._dtype = dtype
        self._row = row
        self._lock = Lock()
        self._store = self._empty(LEAST_STORE)
        self._capacity = LEAST_STORE
        self._size = 0
        self._views: tuple[View, ...] = ()
        self._at = np.zeros(0, dtype=np.int64)

    def of(self, views: Sequence[View]) -> Table[View, Owner]:
        """The columns of these views."""
        with self._lock:
            views = tuple(views)
            at = self._known_rows(views)
            fresh = np.flatnonzero(at < 0)
            if self._size + len(fresh) > self._capacity:
                at = self._compact(at)
            end = self._size + len(fresh)
            rows = [self._row(views[index]) for index in fresh.tolist()]
            made = np.array(rows, dtype=self._dtype)
            for name, column in self._store.items():
                column[self._size : end] = made[name]
            at[fresh] = np.arange(self._size, end)
            self._size = end
            self._views, self._at = views, at
            return Table(self._owner, views, np.arange(len(views)), Gathered(self._store, at))

    def _known_rows(self, views: tuple[View, ...]) -> NDArray[np.int64]:
        """Rows of the views that the last table had too, -1 for new ones.

        Most views keep their place among the others, which is cheap to see; the rest is found by
        address. An address is a view's own as long as the view is kept.
        """
        shared = min(len(views), len(self._views))
        stays = np.fromiter(map(is_, views, self._views), np.bool_, shared)
        at = np.full(len(views), -1)
        np.copyto(at[:shared], self._at[:shared], where=stays)
        moved = np.append(np.flatnonzero(~stays), np.arange(shared, len(views)))
        left = np.append(np.flatnonzero(~stays), np.arange(shared, len(self._views)))
        if not moved.size or not left.size:
            return at
        known = np.array([id(self._views[index]) for index in left.tolist()])
        order = known.argsort()
        left, known = left[order], known[order]
        addresses = np.array([id(views[index]) for index in moved.tolist()])
        spot = np.minimum(known.searchsorted(addresses), len(known) - 1)
        at[moved] = np.where(known[spot] == addresses, self._at[left[spot]], -1)
        return at

    def _compact(self, at: NDArray[np.int64]) -> NDArray[np.int64]:
        """Go on with a new store that holds only these rows."""
        kept = np.flatnonzero(at >= 0)
        self._capacity = max(LEAST_STORE, 3 * len(at))
        store = self._empty(self._capacity)
        for name, column in store.items():
            column[: len(kept)] = self._store[name][at[kept]]
        self._store, self._size = store, len(kept)
        moved = np.full(len(at), -1)
        moved[kept] = np.arange(len(kept))
        return moved

    def _empty(self, capacity: int) -> Store:
        return {name: np.empty(capacity, self._dtype[name]) for name in self._dtype.names or ()}
