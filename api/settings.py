"""Settings of the API process; each limit is stated in the error that it causes."""

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from api.webhooks.settings import WebhookSettings
from scheduler.core.config import SchedulerConfig


class ApiSettings(BaseSettings):
    """Read from the environment: `DATABASE_URL`, `REDIS_URL`, and `SLACKLINE_` plus the name.

    Attributes:
        redis_url: Where requests are counted; without it no rate is limited.
        local_key: API key of the local tenant. Only the embedded mode sets it; a server that
            others can reach must leave it unset.
        max_body_bytes: Size of a JSON Lines body or upload, which is spooled to disk.
        max_json_bytes: Size of a JSON body, which must fit in memory as a whole.
        max_file_bytes: Size of an uploaded file.
        max_batch_file_bytes: Size of an uploaded file that is meant for a batch.
        max_batch_lines: Requests in the file of a batch.
        max_batch_kinds: Kinds of requests in the file of a batch: each needs a job of its own.
        max_batches_per_h: Batches that a tenant may create in any 3,600 seconds.
        max_queued_tokens: Tokens that a tenant's open problems may count for, unless the tenant
            has a limit of its own; None for no limit. See `api.quota`.
        max_submissions_per_min: Requests of one key, other than reads, in a minute; None for no
            limit.
        max_reads_per_min: The same for reads.
        max_keys: Keys that a tenant may have.
        max_problem_deadlines: Different deadlines that the problems of a job may have of their own.
        max_submissions: Answers of others to one problem.
        max_submission_chars: Characters of all of them together.
        dedup_window_s: How long after a submission without a key the same one is its retry; 0
            takes none for a retry.
        max_streams: Open streams of events of a tenant, per process.
        max_stream_s: Life of a stream, after which the client goes on in a new one: a revoked key
            is noticed then.
        stream_heartbeat_s: Between two comments on a stream, for proxies that cut silent ones.
        max_deadline_s: Longest time to a deadline.
        min_deadline_s: Shortest time to a deadline; below it not even one branch would fit.
        pool_size: Connections to the store, and as many again for a moment. Half of it may be
            submissions at a time.
        max_turn_wait_s: How long a submission waits for its turn.
        webhooks: How and where events are sent.
        scheduler: Policy by which jobs are admitted. Set it as for the scheduler process, which
            has to keep what is promised here.
    """

    model_config = SettingsConfigDict(
        env_prefix="SLACKLINE_",
        env_nested_delimiter="__",
        env_parse_none_str="null",
        populate_by_name=True,
    )

    database_url: str = Field(validation_alias="DATABASE_URL")
    redis_url: str | None = Field(default=None, validation_alias="REDIS_URL")
    local_key: str | None = None
    max_body_bytes: int = 200_000_000
    max_json_bytes: int = 32_000_000
    max_file_bytes: int = 512 * 1024**2
    max_batch_file_bytes: int = 200 * 1024**2
    max_batch_lines: int = 50_000
    max_batch_kinds: int = 64
    max_batches_per_h: int = 2_000
    max_queued_tokens: int | None = None
    max_submissions_per_min: int | None = Field(default=600, ge=1)
    max_reads_per_min: int | None = Field(default=6_000, ge=1)
    max_keys: int = 100
    max_problems: int = 100_000
    max_prompt_chars: int = 200_000
    max_reference_chars: int = 20_000
    max_id_chars: int = 256
    max_branches: int = 64
    max_problem_deadlines: int = 100
    max_submissions: int = 1000
    max_submission_chars: int = 500_000
    max_quoted_deadlines: int = 32
    dedup_window_s: float = 10.0
    max_streams: int = 32
    max_stream_s: float = 3600.0
    stream_heartbeat_s: float = 15.0
    max_deadline_s: float = 7 * 86_400
    min_deadline_s: float = 1.0
    pool_size: int = 10
    max_turn_wait_s: float = 30.0
    webhooks: WebhookSettings = WebhookSettings()
    scheduler: SchedulerConfig = SchedulerConfig()
