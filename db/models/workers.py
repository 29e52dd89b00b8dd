"""Table of the workers."""

from datetime import datetime
from typing import Any

from sqlalchemy import (
    Integer,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column

from db.models.base import Base


class Worker(Base):
    """A registered worker: its engine, profiles and last sign of life."""

    __tablename__ = "workers"

    # Also the name of its queue.
    name: Mapped[str] = mapped_column(primary_key=True)
    # Identity of the process behind the name; batches of an older incarnation are lost.
    incarnation: Mapped[str]
    model: Mapped[str] = mapped_column(index=True)
    engine: Mapped[str]
    spec: Mapped[dict[str, Any]]
    latency_profile: Mapped[dict[str, Any]]
    answer_profile: Mapped[dict[str, Any]]
    num_running_branches: Mapped[int] = mapped_column(Integer, server_default=text("0"))
    started_at: Mapped[datetime]
    heartbeat_at: Mapped[datetime]
    # Set on a clean stop; a stopped worker gets no batches.
    stopped_at: Mapped[datetime | None]
