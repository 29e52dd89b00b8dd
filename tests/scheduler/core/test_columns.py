from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scheduler.core import columns, menus
from scheduler.core.config import SchedulerConfig
from scheduler.core.decide import decide
from scheduler.core.fleet import Fleet
from scheduler.core.kinds import Kind
from scheduler.core.menus import Menus
from scheduler.core.snapshot import Snapshot
from scheduler.core.tables import LEAST_STORE, Columns
from tests.scheduler.core.worlds import NOW, job, worker


@dataclass(frozen=True)
class Thing:
    size: int


def sizes() -> Columns[Thing, None]:
    return Columns(None, np.dtype([("size", np.int64)]), lambda thing: (thing.size,))


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 10_000), share=st.sampled_from([0.0, 0.05, 0.5, 1.0]))
def test_columns_are_those_of_the_views_whatever_was_kept(seed: int, share: float) -> None:
    rng = np.random.default_rng(seed)
    made = sizes()
    things = [Thing(int(size)) for size in rng.integers(0, 1000, LEAST_STORE)]
    tables = []
    for _ in range(6):
        changed = rng.random(len(things)) < share
        for index in np.flatnonzero(changed):
            things[index] = Thing(things[index].size + 1)
        seen = [things[index] for index in rng.permutation(len(things))[: rng.integers(1, 1000)]]
        table = made.of(seen)
        tables.append((table, [one.size for one in seen]))
        mask = rng.random(len(seen)) < 0.5
        part = table.take(mask)
        assert [one.size for one in part] == part.columns["size"].tolist()
        assert len(part) == mask.sum()
    # Tables made before stay as they were.
    for table, expected in tables:
        assert table.columns["size"].tolist() == [one.size for one in table] == expected


def test_no_memory_grows_without_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    config = SchedulerConfig()
    worlds = [
        Snapshot(NOW, tuple(job(f"j{i}", max_tokens=500 + 7 * k + i) for i in range(3)), (), w)
        for k, w in enumerate([(worker(),)] * 6)
    ]
    columns.forget()
    expected = [decide(world, config) for world in worlds]
    columns.forget()
    monkeypatch.setattr(columns, "MAX_REMEMBERED", 5)
    for world, decisions in zip(worlds, expected, strict=True):
        again = replace(world, jobs=tuple(replace(one) for one in world.jobs))
        assert decide(again, config) == decisions
        assert len(columns.jobs_table(again.jobs).owner.kinds) <= 5 + 3 * 2


def test_hulls_that_were_forgotten_are_found_again(monkeypatch: pytest.MonkeyPatch) -> None:
    fleet, config = Fleet.of([worker()]).pooled, SchedulerConfig()
    kinds = [Kind.of(job(num_pending=number)) for number in (1, 9, 70)]
    numbers, shares = np.arange(3), np.array([0, 4, 16])
    kept, forgetful = Menus(fleet, config, kinds), Menus(fleet, config, kinds)
    limits_s = np.linspace(1.0, 200.0, 40)
    classes = kept.classes(numbers, shares)
    fitting = [kept.num_fitting(classes, np.full(3, limit_s)) for limit_s in limits_s]
    expected = [kept.hulls(classes, few).tolist() for few in fitting]
    forgetful.classes(numbers, shares)
    monkeypatch.setattr(menus, "MAX_HULLS", 9)
    for _ in range(2):
        assert [forgetful.hulls(classes, few).tolist() for few in fitting] == expected
