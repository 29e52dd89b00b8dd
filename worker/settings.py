"""What a worker process is told at its start."""

from pathlib import Path
from typing import Literal

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from scheduler.core.config import SchedulerConfig
from worker.engines.openai.settings import EndpointSettings
from worker.engines.vllm.settings import VllmSettings


class WorkerSettings(BaseSettings):
    """Read from the environment: `DATABASE_URL`, `REDIS_URL`, and `SLACKLINE_` plus the name.

    Attributes:
        name: The worker's name and its queue; one process per name.
        model: Name that jobs ask for; by default what the checkpoint or the recordings say, or the
            only model of an endpoint.
        model_dir: Checkpoint of the target, for the torch engine.
        draft_dir: Checkpoint of the draft; without one nothing is speculated.
        recordings: Recorded branches: what the replay engine replays, and what lengths and
            accuracy of another engine's model are learned from.
        problems: Problem set that the replayed recordings index by line, by default
            `problems.jsonl` beside them; for another engine, prompts to measure drafts on.
        recorded_model: Which model of the recordings to replay, when they have several.
        recorded_dataset: Which data set, likewise.
        latency_profile: Measured latency; an engine that can measures itself when there is
            none.
        answer_profile: Learned lengths and accuracy; a cautious prior when there is none.
        data_dir: Where measured profiles are kept between starts.
        lease_s: A batch is rescued when it was not renewed for so long; beats come every second.
        scheduler: Policy by which jobs are planned; of it the worker keeps `reserve_s` and
            `max_batches_per_worker`. Set it as for the scheduler and the API, whose forecasts count
            on it.
        num_graders: Processes that compare answers, started when first needed.
        endpoint: The server in front of which the openai engine stands.
        vllm: How vLLM runs, for that engine.
    """

    model_config = SettingsConfigDict(
        env_prefix="SLACKLINE_",
        env_nested_delimiter="__",
        populate_by_name=True,
        protected_namespaces=(),
    )

    database_url: str = Field(validation_alias="DATABASE_URL")
    redis_url: str = Field(validation_alias="REDIS_URL")
    name: str = Field(min_length=1, max_length=100, pattern=r"^[A-Za-z0-9._-]+$")
    engine: Literal["torch", "vllm", "openai", "replay"] = "torch"
    model: str | None = None
    model_dir: Path | None = None
    draft_dir: Path | None = None
    recordings: Path | None = None
    problems: Path | None = None
    recorded_model: str | None = None
    recorded_dataset: str | None = None
    latency_profile: Path | None = None
    answer_profile: Path | None = None
    data_dir: Path = Path.home() / ".cache" / "slackline"
    device: str = "cpu"
    max_num_seqs: int | None = Field(default=None, ge=1, le=4096)
    lease_s: float = Field(default=4.0, gt=1.5)
    scheduler: SchedulerConfig = SchedulerConfig()
    num_graders: int = Field(default=1, ge=1, le=16)
    endpoint: EndpointSettings = EndpointSettings()
    vllm: VllmSettings = VllmSettings()
