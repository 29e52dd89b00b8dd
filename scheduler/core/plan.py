"""What the planner chooses and what it promises: plans, forecasts and engine limits."""

import math
from dataclasses import dataclass
from typing import NamedTuple


@dataclass(frozen=True, slots=True)
class EngineSpec:
    """What one engine can serve.

    Attributes:
        engine: Kind of engine: `torch`, `replay`, `vllm`.
        model: Model name that jobs ask for.
        max_num_seqs: Rows (branches) that decode together in one step.
        max_model_len: Prompt plus completion tokens of one branch.
        draft_lengths: Values of `num_speculative_tokens` it serves, ascending, 0 included.
        kv_capacity_tokens: Tokens of KV cache over all rows.
        chars_per_token: Characters of a prompt per token, to estimate prompts at submit. The
            default is a rough mean of byte-pair vocabularies on English and mathematics.
    """

    engine: str
    model: str
    max_num_seqs: int
    max_model_len: int
    draft_lengths: tuple[int, ...]
    kv_capacity_tokens: int
    chars_per_token: float = 3.5


@dataclass(frozen=True, slots=True)
class Plan:
    """The split chosen for a job's pending problems.

    Attributes:
        num_branches: Parallel samples per problem, at least 1.
        num_speculative_tokens: Draft length; 0 is off.
        max_tokens: Cap on completion tokens of a branch.
        wave_size: Problems per batch.
        stop_gain: A problem ends when the branches still to come would raise the probability that
            its answer is right by less than this. 0 ends it only when the vote is decided; a
            negative value never before all its branches ended. Under a successive plan it is what
            each single branch more must be worth.
        max_branches: Of a *successive* plan, which starts `num_branches` and, while the vote is
            open, another one whenever one ends, the branches of a problem in all; 0, like any
            value up to `num_branches`, for a plan that starts all at once.
    """

    num_branches: int
    num_speculative_tokens: int
    max_tokens: int
    wave_size: int
    stop_gain: float = 0.0
    max_branches: int = 0

    @property
    def width(self) -> "Width":
        """What the plan says of branches."""
        return Width(self.num_branches, self.stop_gain, self.max_branches)

    @property
    def most_branches(self) -> int:
        """Branches that a problem gets in all at most."""
        return max(self.num_branches, self.max_branches)

    @property
    def is_successive(self) -> bool:
        """Whether further branches may follow the first ones."""
        return self.width.is_successive


ROUNDS = 4
"""Horizon of successive branches over the cap in whose place it stands, at most: the longest is
time for four of the longest branches, or a dozen typical ones, one after another."""

MOST_FOR_ONE_VOTE = 2
"""Of two branches the first vote wins whatever the second says."""


class Width(NamedTuple):
    """How many branches a problem gets, and when they are enough; fields as those of a `Plan`."""

    num_branches: int
    stop_gain: float = 0.0
    max_branches: int = 0

    @property
    def is_successive(self) -> bool:
        """Whether further branches may follow the first ones."""
        return self.max_branches > self.num_branches

    @property
    def rounds(self) -> float:
        """Tokens that a row is given in all, as a multiple of the cap that is looked up."""
        return float(min(ROUNDS, math.ceil(self.max_branches / self.num_branches) or 1))

    @property
    def may_stay_open(self) -> bool:
        """Whether branches may follow while votes disagree, and not only until there is one."""
        return self.is_successive and self.max_branches > MOST_FOR_ONE_VOTE


@dataclass(frozen=True, slots=True)
class Forecast:
    """What a plan is expected to do, seen from the moment of planning.

    Attributes:
        finish_p50_s: Median seconds from now until the last problem is answered.
        finish_p95_s: 95th percentile of the same.
        accuracy: Expected fraction of problems answered right.
        row_seconds: Expected row-seconds of the engine that the plan spends if no deadline cuts it.
    """

    finish_p50_s: float
    finish_p95_s: float
    accuracy: float
    row_seconds: float
