"""What may be asked of a job that is there: other terms, another try."""

from pydantic import BaseModel, ConfigDict, Field

from api.schemas.text import Text


class ChangeIn(BaseModel):
    """Other terms for a live job; what is left out stays."""

    model_config = ConfigDict(
        extra="forbid",
        allow_inf_nan=False,
        json_schema_extra={"examples": [{"deadline": "2m", "weight": 2}]},
    )

    deadline: str | None = Field(
        None, description="As at submission; a duration counts from the arrival of this request."
    )
    weight: float | None = Field(
        None, gt=0, le=1000, description="Priority against the tenant's other jobs."
    )
    best_effort: bool = Field(
        False,
        description="Take an earlier deadline without a promise where it would be refused with"
        " `deadline_infeasible`.",
    )


class RetryIn(BaseModel):
    """Another try for what a job left without an answer."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"deadline": "10m", "degraded": True}]}
    )

    deadline: str = Field(description="When these answers are due, as at submission.")
    degraded: bool = Field(
        False, description="Also the problems whose answer the deadline cut short."
    )
    name: Text | None = Field(
        None, max_length=256, description="A label of your own; that of the first job by default."
    )
    best_effort: bool = Field(False, description="As at submission.")
