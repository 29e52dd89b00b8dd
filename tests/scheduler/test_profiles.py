"""The profiles that ship can be read, say where they come from and agree with each other."""

import json
from pathlib import Path

import numpy as np
import pytest

from scheduler.core.latency import LatencyProfile

FOLDER = Path("scheduler/profiles")
H100 = {tp: FOLDER / f"h100-tp{tp}-qwen3-32b.json" for tp in (2, 4, 8)}


def read(path: Path) -> LatencyProfile:
    return LatencyProfile.from_dict(json.loads(path.read_text(encoding="utf-8")))


@pytest.mark.parametrize("tp", H100)
def test_a_profile_says_how_it_was_measured(tp: int) -> None:
    profile = read(H100[tp])
    assert f"tensor parallel {tp}" in profile.method
    assert "held-out error" in profile.method
    assert "Apache-2.0" in profile.method
    assert len(profile.acceptance_tries) == len(profile.acceptance)


def test_more_gpus_are_faster() -> None:
    rows, context = np.array([1, 8, 32, 128])[:, None], np.array([500.0, 4000.0])
    times = [read(H100[tp]).tpot_s(rows, 0, rows * context) for tp in (2, 4, 8)]
    assert np.all(times[0] > times[1])
    assert np.all(times[1] > times[2])
