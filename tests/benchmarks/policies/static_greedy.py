"""The paper's static split: one width and draft length per deadline, found by a greedy search.

Theory of operation: as in "Faster and Better LLMs via Latency-Aware Test-Time Scaling" (arXiv
2505.19634), the search starts from one branch without a draft and extends the width or the draft
length, whichever raises the accuracy within the deadline more, until neither does. It looks at one
problem alone on one engine and at the data set as a whole: the branches that finish within the
deadline vote. The paper says nothing of load, admission or order; jobs go by nearest deadline here.
"""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from scheduler.core.config import SchedulerConfig
from scheduler.core.fleet import Fleet, Member
from scheduler.core.plan import Plan
from scheduler.core.snapshot import JobView
from tests.benchmarks.policies.fixed import Ordered, wave_size

CONTEXT_ROUNDS = 4
"""The cap decides the context and the context the cap; the fixed point is near after these."""


def static_greedy() -> Ordered:
    """The paper's policy on many jobs."""
    return Ordered("static_greedy", _split_of, by_deadline=True)


def _split_of(fleet: Fleet, job: JobView, config: SchedulerConfig) -> Plan:
    time_s = (job.deadline_at - job.created_at).total_seconds()
    width, draft, cap = greedy_split(fleet, round(time_s), round(job.mean_prompt_tokens), config)
    room = int(fleet.max_model_len - job.mean_prompt_tokens)
    width = min(width, job.max_branches)
    return Plan(width, draft, max(min(cap, room), 1), wave_size(fleet, width))


@lru_cache(maxsize=1024)
def greedy_split(
    fleet: Fleet, deadline_s: float, prompt_tokens: float, config: SchedulerConfig
) -> tuple[int, int, int]:
    """Width, draft length and cap in tokens for one problem and this deadline."""
    member = fleet.members[0]
    widths = [w for w in config.branch_grid if w <= member.spec.max_num_seqs]
    drafts = list(fleet.draft_lengths)

    def caps(splits: Sequence[tuple[int, int]]) -> list[float]:
        return [
            _cap_tokens(member, widths[b], drafts[g], deadline_s, prompt_tokens, config)
            for b, g in splits
        ]

    def accuracy(b: int, g: int) -> float:
        return fleet.answers.accuracy_of(widths[b], caps([(b, g)])[0])

    b = g = 0
    best = accuracy(b, g)
    while True:
        steps = [(b + 1, g)] * (b + 1 < len(widths)) + [(b, g + 1)] * (g + 1 < len(drafts))
        gains = [accuracy(*step) for step in steps]
        if not gains or max(gains) <= best:
            return widths[b], drafts[g], int(caps([(b, g)])[0])
        best = max(gains)
        b, g = steps[int(np.argmax(gains))]


def _cap_tokens(
    member: Member,
    width: int,
    draft: int,
    deadline_s: float,
    prompt_tokens: float,
    config: SchedulerConfig,
) -> float:
    """Tokens that each of `width` branches can decode within the deadline."""
    latency = member.latency
    start_s = config.dispatch_s + float(latency.prefill_time_s(prompt_tokens))
    decoding_s = max(deadline_s - config.reserve_s - start_s, 0.0)
    tokens = 0.0
    for _ in range(CONTEXT_ROUNDS):
        context = width * (prompt_tokens + tokens / 2)
        tokens = decoding_s / float(latency.tpot_s(width, draft, context, tokens))
    return min(max(tokens, 1.0), member.spec.max_model_len - prompt_tokens)
