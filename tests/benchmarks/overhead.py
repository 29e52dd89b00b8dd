"""What does the way through API, scheduler, Celery and Postgres cost the torch engine?

Question: tokens per second of a job submitted over HTTP against those of the same engine called
directly with the same prompts, draft length and cap, one branch for each.

Regimes: the demo model, one worker, all on this machine, so that the service's own processes take
their share of the same cores. Rounds alternate between the two; the ratio of medians is quoted. A
job's time runs from its submission to its last committed answer.

Falsified when: the ratio of medians is below 0.90.

    python -m tests.benchmarks.overhead [--problems N] [--rounds N]
"""

import functools
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from queue import SimpleQueue

from api.client.shapes import Plan
from tests.benchmarks.served import DEMO_MODEL, MODEL, TEMPERATURE, UNHURRIED, compare_in_turn
from worker.engines.base import BranchFinished, BranchRequest, Sampling
from worker.engines.torch.engine import TorchEngine


def main() -> None:
    """Measures with an engine that stays loaded beside the worker's."""
    engine = TorchEngine.load(DEMO_MODEL / "target", DEMO_MODEL / "draft", model=MODEL)
    try:
        compare_in_turn("torch", {"engine": functools.partial(decode, engine)})
    finally:
        engine.close()


def decode(engine: TorchEngine, prompts: Sequence[str], plan: Plan) -> tuple[int, float]:
    """Tokens and seconds of the same branches with nothing but the engine."""
    events: SimpleQueue[BranchFinished] = SimpleQueue()
    deadline_at = datetime.now(UTC) + UNHURRIED
    requests = [
        BranchRequest(
            branch_id=str(position),
            prompt=prompt,
            branch_index=0,
            num_speculative_tokens=plan["num_speculative_tokens"],
            max_tokens=plan["max_tokens"],
            sampling=Sampling(temperature=TEMPERATURE),
            priority=0,
            deadline_at=deadline_at,
        )
        for position, prompt in enumerate(prompts)
    ]
    started_at_s = time.perf_counter()
    engine.submit(requests, events)
    tokens = sum(events.get().metrics.completion_tokens for _ in requests)
    return tokens, time.perf_counter() - started_at_s


if __name__ == "__main__":
    main()
