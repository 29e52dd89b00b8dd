"""How vLLM is to run."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator


class VllmSettings(BaseModel):
    """How vLLM runs; in the environment `SLACKLINE_VLLM__` plus the name.

    Attributes:
        drafter: What drafts: a draft model (where `draft_dir` names one, the default), a head
            trained for the target (`eagle`, `eagle3`, `mtp`; its checkpoint is `draft_dir`), or
            n-grams of the text so far. Without a drafter nothing is speculated.
        draft_lengths: Draft lengths that plans may choose from; 0 is always among them.
        max_model_len: Prompt plus completion tokens; by default what the checkpoint says.
        dtype: Of weights and activations; by default the checkpoint's, and float32 on a CPU.
        load_format: `dummy` gives random weights of the checkpoint's shape, for timing.
        kv_cache_bytes: Size of the KV cache; by default 1 GiB on a CPU, and on a GPU what
            `gpu_memory_utilization` leaves.
        gpu_memory_utilization: Fraction of a GPU's memory that vLLM may take.
        tensor_parallel_size: GPUs that share one model.
        engine_args: Any other arguments of vLLM's engine, as JSON; they go before all of these.
    """

    model_config = ConfigDict(extra="forbid")

    drafter: Literal["draft_model", "eagle", "eagle3", "mtp", "ngram"] | None = None
    draft_lengths: tuple[int, ...] = (0, 1, 2, 4)
    max_model_len: int | None = Field(default=None, ge=2)
    dtype: str | None = None
    load_format: str = "auto"
    kv_cache_bytes: int | None = Field(default=None, ge=1)
    gpu_memory_utilization: float = Field(default=0.9, gt=0, le=1)
    tensor_parallel_size: int = Field(default=1, ge=1)
    engine_args: dict[str, Any] = {}

    @field_validator("draft_lengths")
    @classmethod
    def _sorted_with_zero(cls, lengths: tuple[int, ...]) -> tuple[int, ...]:
        if min(lengths, default=0) < 0:
            raise ValueError("draft lengths are 0 or more")
        return tuple(sorted({0, *lengths}))
