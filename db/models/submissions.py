"""Table of the answers of others that a job grades."""

from datetime import datetime

from sqlalchemy import CheckConstraint, ForeignKeyConstraint, Integer
from sqlalchemy.orm import Mapped, mapped_column

from db.models.base import Base


class Submission(Base):
    """One answer to a problem by someone else, and its grade once it has one."""

    __tablename__ = "submissions"
    __table_args__ = (
        ForeignKeyConstraint(
            ["job_id", "problem_position"],
            ["problems.job_id", "problems.position"],
            ondelete="CASCADE",
        ),
        CheckConstraint("grade IN ('right', 'wrong', 'ungradable')", name="grade_known"),
        CheckConstraint(
            "(grade IS NULL) = (reason IS NULL) AND (grade IS NULL) = (graded_at IS NULL)",
            name="grade_has_reason",
        ),
        CheckConstraint("num_nonnulls(answer, text) >= 1", name="has_words"),
    )

    job_id: Mapped[str] = mapped_column(primary_key=True)
    problem_position: Mapped[int] = mapped_column(Integer, primary_key=True)
    position: Mapped[int] = mapped_column(Integer, primary_key=True)
    # The client's id of the submission, unique within the problem.
    key: Mapped[str]
    # As given, or found in the text when it was graded.
    answer: Mapped[str | None]
    text: Mapped[str | None]
    grade: Mapped[str | None]
    reason: Mapped[str | None]
    # Share of our votes behind the answer it was graded against; NULL against a reference.
    confidence: Mapped[float | None]
    graded_at: Mapped[datetime | None]
