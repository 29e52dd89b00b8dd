"""The torch engine: serves a Llama checkpoint, with a draft, on a CPU or a CUDA device.

For calibration an idle engine times itself, with `measure_step` and `measure_prefill`.
"""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from queue import SimpleQueue

import torch

from scheduler.core.plan import EngineSpec
from scheduler.core.refresh import EngineTotals
from worker.engines.base import BranchFinished, BranchRequest, FinishReason
from worker.engines.requests import encoded, refusal
from worker.engines.torch import timing
from worker.engines.torch.config import LlamaConfig, UnsupportedCheckpointError
from worker.engines.torch.decoder import Decoder, round_up
from worker.engines.torch.loop import DecodeLoop
from worker.engines.torch.model import LlamaModel
from worker.engines.torch.prompts import PromptStore
from worker.engines.torch.rows import Row
from worker.engines.torch.serving import Serving
from worker.engines.torch.text import ByteText, Text, TokenizerText
from worker.engines.torch.weights import LlamaWeights, load_weights, random_weights

MAX_SPECULATIVE_TOKENS = 8
_DEFAULT_MAX_MODEL_LEN = 4096
_PROMPT_STORE_TOKENS = 8192
"""Branches of a problem arrive together, so a few dozen prompts are enough; with the 14B shape
this many tokens take 1.6 GB."""

_SAMPLE_TEXT = "A train leaves at 9:40 and covers 126 miles in 3 hours. What is its speed?"
"""Tells how many characters of a problem make a token."""


class TorchEngine:
    """Decodes branches by continuous batching; see `worker.engines.base.Engine`."""

    def __init__(
        self,
        target: tuple[LlamaConfig, LlamaWeights],
        draft: tuple[LlamaConfig, LlamaWeights] | None,
        text: Text,
        *,
        model: str,
        max_num_seqs: int = 64,
        max_model_len: int | None = None,
        num_threads: int | None = None,
        seed: int | None = None,
    ) -> None:
        """Allocates caches and starts the decode thread.

        Args:
            max_num_seqs: Rows that decode together.
            max_model_len: Prompt plus completion tokens; by default what both models take, at
                most 4096.
            num_threads: CPU threads per operator; 1 by default. On 2 busy cores 2 threads took 1.3
                times as long per step at 1 row and 1.9 at 16 rows: small operators spend the gain
                on waiting for each other.
            seed: Seed of the draws of branches that bring none.

        Raises:
            UnsupportedCheckpointError: Target and draft have different vocabularies.
        """
        configs = [target[0], *([draft[0]] if draft else [])]
        if len({config.vocab_size for config in configs}) > 1:
            raise UnsupportedCheckpointError(
                f"the draft has {configs[1].vocab_size} tokens and the target "
                f"{configs[0].vocab_size}; use a draft with the target's tokenizer"
            )
        longest = min(config.max_position_embeddings for config in configs)
        max_model_len = min(longest, max_model_len or _DEFAULT_MAX_MODEL_LEN)
        # A branch may draft beyond its end; those tokens are dropped but need room.
        max_tokens = round_up(max_model_len + MAX_SPECULATIVE_TOKENS + 1)
        lengths = tuple(range(MAX_SPECULATIVE_TOKENS + 1)) if draft else (0,)
        self._spec = EngineSpec(
            "torch",
            model,
            max_num_seqs,
            max_model_len,
            lengths,
            max_num_seqs * max_model_len,
            chars_per_token=len(_SAMPLE_TEXT) / len(text.encode(_SAMPLE_TEXT)),
        )
        self._text = text
        decoder = Decoder(
            LlamaModel(*target, max_tokens),
            LlamaModel(*draft, max_tokens) if draft else None,
            max_num_seqs=max_num_seqs,
            max_tokens=max_tokens,
            seed=seed,
        )
        self._loop = DecodeLoop(
            lambda on_end: Serving(
                decoder,
                text,
                PromptStore(_PROMPT_STORE_TOKENS),
                eos_token_ids=target[0].eos_token_ids,
                max_num_seqs=max_num_seqs,
                max_model_len=max_model_len,
                on_end=on_end,
            ),
            num_threads or 1,
        )

    @classmethod
    def load(
        cls,
        target_dir: Path,
        draft_dir: Path | None,
        *,
        model: str,
        max_num_seqs: int = 64,
        max_model_len: int | None = None,
        device: str = "cpu",
        dtype: torch.dtype | None = None,
        num_threads: int | None = None,
        seed: int | None = None,
    ) -> "TorchEngine":
        """Loads Hugging Face checkpoints: float32 on a CPU and bfloat16 on CUDA by default.

        Raises:
            UnsupportedCheckpointError: A checkpoint is no plain Llama, or the two do not fit.
            FileNotFoundError: A directory lacks `config.json`, weights or `tokenizer.json`.
        """
        place = torch.device(device)
        chosen = dtype or _default_dtype(place)

        def read(directory: Path) -> tuple[LlamaConfig, LlamaWeights]:
            config = LlamaConfig.read(directory)
            return config, load_weights(directory, config, device=place, dtype=chosen)

        return cls(
            read(target_dir),
            read(draft_dir) if draft_dir else None,
            TokenizerText(target_dir),
            model=model,
            max_num_seqs=max_num_seqs,
            max_model_len=max_model_len,
            num_threads=num_threads,
            seed=seed,
        )

    @classmethod
    def with_random_weights(
        cls,
        target: LlamaConfig,
        draft: LlamaConfig | None,
        *,
        model: str,
        max_num_seqs: int = 64,
        max_model_len: int | None = None,
        device: str = "cpu",
        dtype: torch.dtype | None = None,
        num_threads: int | None = None,
    ) -> "TorchEngine":
        """Builds models of these sizes without a checkpoint, for timing. A token is a byte."""
        place = torch.device(device)
        chosen = dtype or _default_dtype(place)

        def fill(config: LlamaConfig) -> tuple[LlamaConfig, LlamaWeights]:
            return config, random_weights(config, device=place, dtype=chosen)

        return cls(
            fill(target),
            fill(draft) if draft else None,
            ByteText(),
            model=model,
            max_num_seqs=max_num_seqs,
            max_model_len=max_model_len,
            num_threads=num_threads,
        )

    @property
    def spec(self) -> EngineSpec:
        """What this engine serves."""
        return self._spec

    def submit(
        self, requests: Sequence[BranchRequest], events: SimpleQueue[BranchFinished]
    ) -> None:
        """Queues branches; their events arrive on `events`."""
        now = datetime.now(UTC)
        rows = []
        for request, prompt_ids, why in encoded(requests, self._text.encode_prompt):
            row = Row(request, events, now, prompt_ids)
            why = why or refusal(request, len(prompt_ids), self._spec)
            if why is None:
                rows.append(row)
            else:
                row.finish(FinishReason.ERROR, now, "", why)
        self._loop.submit(rows)

    def totals(self) -> EngineTotals:
        """What was decoded since the start; steps that `measure_step` timed are not in it."""
        return self._loop.tally.totals()

    def abort(self, branch_ids: Iterable[str], *, only_waiting: bool = False) -> None:
        """Ends branches within one step; ids that are unknown or finished are ignored."""
        self._loop.abort(branch_ids, only_waiting=only_waiting)

    def close(self) -> None:
        """Aborts what runs and ends the decode thread. Idempotent."""
        self._loop.close()

    def measure_step(
        self, *, rows: int, num_speculative_tokens: int, context_tokens: int, repeats: int = 20
    ) -> tuple[float, ...]:
        """Times decode steps on an idle engine.

        Args:
            rows: Branches in the step, at most `spec.max_num_seqs`.
            context_tokens: Tokens in the caches, total over rows, of which the longest has three
                times as many as the shortest.
            repeats: Steps to time, after a few that are not.

        Returns:
            Seconds of each step, drafting, verification and bookkeeping included.

        Raises:
            ValueError: The engine cannot run such a step.
            RuntimeError: The engine is closed or serves branches.
        """
        spec = self._spec
        if not 1 <= rows <= spec.max_num_seqs or num_speculative_tokens not in spec.draft_lengths:
            raise ValueError(f"{rows=}, {num_speculative_tokens=} is outside {spec}")
        if not 2 * rows <= context_tokens <= rows * spec.max_model_len:
            raise ValueError(f"{context_tokens=} is not 2 to {spec.max_model_len} per row")
        step = (rows, num_speculative_tokens, context_tokens // rows, spec.max_model_len, repeats)
        return self._loop.call(lambda serving: timing.time_steps(serving.decoder, *step))

    def measure_prefill(self, *, prompt_tokens: int, repeats: int = 5) -> tuple[float, ...]:
        """Times prefills of one prompt by target and draft on an idle engine, in seconds."""
        if not 1 <= prompt_tokens < self._spec.max_model_len:
            raise ValueError(f"{prompt_tokens=} is not 1 to {self._spec.max_model_len - 1}")
        return self._loop.call(
            lambda serving: timing.time_prefills(serving.decoder, prompt_tokens, repeats)
        )


def _default_dtype(device: torch.device) -> torch.dtype:
    return torch.float32 if device.type == "cpu" else torch.bfloat16
