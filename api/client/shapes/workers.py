"""Workers."""

from typing import TypedDict


class Worker(TypedDict):
    """One worker and its last sign of life."""

    name: str
    model: str
    engine: str
    status: str
    max_num_seqs: int
    max_model_len: int
    draft_lengths: list[int]
    num_running_branches: int
    started_at: str
    heartbeat_at: str
    device: str | None
