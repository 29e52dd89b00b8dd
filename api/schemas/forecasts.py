"""What forecasts rest on."""

from pydantic import BaseModel, Field


class LatencySourceOut(BaseModel):
    """Where the step times of some workers come from."""

    num_workers: int
    device: str
    method: str
    measured_at: str


class ForecastBasisOut(BaseModel):
    """What a forecast rests on."""

    source: str = Field(description="Where accuracy and lengths come from.")
    num_problems_seen: int = Field(description="Problems behind them; 0 is a cold start.")
    num_branches_seen: int
    note: str | None = Field(description="Why to doubt the forecast; null without a reason.")
    latency: list[LatencySourceOut]
