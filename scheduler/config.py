"""Settings of the scheduler process, read from the environment."""

from pydantic import BaseModel, ConfigDict, Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from scheduler.core.config import SchedulerConfig


class RetentionConfig(BaseModel):
    """How long rows of jobs that ended are kept; by default for ever.

    `SLACKLINE_RETENTION__BRANCHES_DAYS=90` sets one. Reports on whole hours do not change by it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    branches_days: float | None = Field(
        default=None, ge=1, description="Days that the branches of a job outlive it."
    )
    events_days: float | None = Field(
        default=None, ge=1, description="Days that the events of a job outlive it."
    )


class SchedulerSettings(BaseSettings):
    """Where the servers are, and overrides of the policy.

    One knob of the policy is set by `SLACKLINE_SCHEDULER__WORKER_TIMEOUT_S=8`, several by JSON:
    `SLACKLINE_SCHEDULER='{"branch_grid": [1, 2, 4]}'`.
    """

    model_config = SettingsConfigDict(
        env_prefix="SLACKLINE_", env_nested_delimiter="__", populate_by_name=True, frozen=True
    )

    database_url: str = Field(validation_alias="DATABASE_URL")
    redis_url: str = Field(validation_alias="REDIS_URL")
    scheduler: SchedulerConfig = SchedulerConfig()
    retention: RetentionConfig = RetentionConfig()
    history_interval_s: float = Field(
        default=20.0, gt=0, description="How often hours that are over are summed up."
    )
    learn_interval_s: float = Field(
        default=30.0, gt=0, description="How often finished branches are learned from at most."
    )
    learn_problems: int = Field(
        default=500, ge=1, description="Latest problems of a task family that a fit sees."
    )
