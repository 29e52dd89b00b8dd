"""How soon does a refreshed profile follow its engine, and how often does noise move it?

Simulated windows of 50 steps whose times scatter by 2, 5 and 10% around a profile that states 5%.
Regimes: an engine that stays as it is, over 100 windows; one that slows down by 10 to 50% at once,
after 16 windows as stated. The refresh fails if noise as wide as stated causes more than 0.5 drifts
per 100 windows, or if a slowdown by 30% is not told within 10% of the truth after 8 windows on
average. Simulated results: no engine is measured here.

    make bench name=refresh ARGS="--records FILE"
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from scheduler.core.refresh import Refresh
from tests.scheduler.core.windows import COUNTED, window

SEEDS = 60
CALM_WINDOWS, BEFORE, AT_MOST = 100, 16, 60


def steady(noise: float, seed: int) -> dict[str, Any]:
    """An engine that stays as it is."""
    rng = np.random.default_rng(seed)
    refresh = Refresh.of(COUNTED)
    num_drifts, num_published = 0, 0
    for _ in range(CALM_WINDOWS):
        refresh = refresh.seen(window(rng, noise=noise))
        num_drifts += refresh.has_drifted
        if refresh.is_due():
            num_published += 1
            refresh = refresh.told(refresh.profile("2026-01-02"))
    error = abs(refresh.published.base_s / COUNTED.base_s - 1.0)
    return {
        "regime": "steady",
        "noise": noise,
        "seed": seed,
        "num_drifts": num_drifts,
        "num_published": num_published,
        "error": error,
    }


def slowed(ratio: float, seed: int) -> dict[str, Any]:
    """An engine that slows down; windows until the published times are within 10% and 5%."""
    rng = np.random.default_rng(seed)
    refresh = Refresh.of(COUNTED)
    within: dict[str, int] = {"within_10": AT_MOST, "within_5": AT_MOST}
    for number in range(1 - BEFORE, AT_MOST):
        truth = COUNTED.scaled(ratio) if number > 0 else COUNTED
        refresh = refresh.seen(window(rng, truth=truth, noise=COUNTED.residual_sigma))
        if refresh.is_due():
            refresh = refresh.told(refresh.profile("2026-01-02"))
        error = abs(refresh.published.base_s / truth.base_s - 1.0)
        for name, limit in (("within_10", 0.1), ("within_5", 0.05)):
            if number > 0 and error < limit:
                within[name] = min(within[name], number)
    return {"regime": "slowed", "ratio": ratio, "seed": seed, **within}


def main() -> None:
    """Simulate all regimes, print their means and write the records."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=Path, required=True)
    options = parser.parse_args()
    records = [steady(noise, seed) for noise in (0.02, 0.05, 0.1) for seed in range(SEEDS)]
    records += [slowed(ratio, seed) for ratio in (1.1, 1.2, 1.3, 1.5) for seed in range(SEEDS)]
    options.records.write_text("".join(json.dumps(r) + "\n" for r in records), encoding="utf-8")
    summary: dict[str, dict[str, float]] = {}
    for record in records:
        name = f"{record['regime']} {record.get('noise') or record['ratio']}"
        mine = [r for r in records if _regime(r) == _regime(record)]
        keys = [key for key in record if key.startswith(("num_", "error", "within_"))]
        summary[name] = {key: round(float(np.mean([r[key] for r in mine])), 3) for key in keys}
        summary[name] |= {f"{key}_worst": max(r[key] for r in mine) for key in keys}
    for name, means in summary.items():
        print(name, means)
    print(json.dumps(summary))


def _regime(record: dict[str, Any]) -> tuple[object, ...]:
    return record["regime"], record.get("noise"), record.get("ratio")


if __name__ == "__main__":
    main()
