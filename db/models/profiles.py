"""Table of what was learned."""

from datetime import datetime
from typing import Any

from sqlalchemy import Integer
from sqlalchemy.orm import Mapped, mapped_column

from db.models.base import Base


class LearnedProfile(Base):
    """The answer profile of one model on one task family, fitted to finished branches."""

    __tablename__ = "answer_profiles"

    model: Mapped[str] = mapped_column(primary_key=True)
    family: Mapped[str] = mapped_column(primary_key=True)
    profile: Mapped[dict[str, Any]]
    # Of the profile's JSON: tells readers whether they know it already.
    sha256: Mapped[str]
    num_problems: Mapped[int] = mapped_column(Integer)
    num_branches: Mapped[int] = mapped_column(Integer)
    fitted_at: Mapped[datetime]
