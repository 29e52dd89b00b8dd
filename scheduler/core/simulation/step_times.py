"""Times of steps and tokens gained per step of one engine, remembered between events."""

from scheduler.core.latency import LatencyProfile

_CONTEXT_PROBE_TOKENS = 1e6


class StepTimes:
    """A latency profile as the engine model asks for it, many times per virtual second.

    The time of a step is affine in the context, so its value without context is remembered per
    rows and draft lengths.

    Attributes:
        context_s: Seconds that a step takes longer per token of context.
    """

    def __init__(self, latency: LatencyProfile) -> None:
        self._latency = latency
        self._decays = latency.acceptance_decay_per_token > 0
        self._base_s: dict[tuple[int, int], float] = {}
        self._gains: dict[tuple[int, int], float] = {}
        flat, probed = (
            float(latency.step_time_s(1, 0, tokens)) for tokens in (0.0, _CONTEXT_PROBE_TOKENS)
        )
        self.context_s = (probed - flat) / _CONTEXT_PROBE_TOKENS

    def step_s(self, rows: int, drafted: int, context_tokens: float) -> float:
        """Seconds of a step.

        Args:
            drafted: Sum of the draft lengths of all rows, of which there is at least one.
        """
        key = (rows, drafted)
        base_s = self._base_s.get(key)
        if base_s is None:
            base_s = float(self._latency.step_time_s(rows, drafted / rows, 0.0))
            self._base_s[key] = base_s
        return base_s + self.context_s * context_tokens

    def gain(self, num_speculative_tokens: int, output_tokens: int) -> float:
        """Tokens per step of a branch of this length."""
        key = (num_speculative_tokens, output_tokens if self._decays else 0)
        if key not in self._gains:
            self._gains[key] = float(self._latency.mean_acceptance_length(*key))
        return self._gains[key]

    def prefill_s(self, tokens: float) -> float:
        """Seconds to prefill this many tokens."""
        return float(self._latency.prefill_time_s(tokens))
