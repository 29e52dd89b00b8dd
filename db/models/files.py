"""Tables of files: what is known of one, and its bytes in chunks."""

from datetime import datetime

from sqlalchemy import CheckConstraint, ForeignKey, Index, Integer, LargeBinary
from sqlalchemy.orm import Mapped, mapped_column

from db.models.base import Base

CHUNK_BYTES = 1 << 20
"""Size of every chunk of a file but its last, so that an offset says which chunk holds it."""


class File(Base):
    """An upload, or the output of a batch."""

    __tablename__ = "files"
    __table_args__ = (
        CheckConstraint("num_bytes >= 0", name="size_known"),
        Index("ix_files_tenant_id_created_at", "tenant_id", "created_at", "id"),
        Index("ix_files_expires_at", "expires_at"),
    )

    id: Mapped[str] = mapped_column(primary_key=True)
    tenant_id: Mapped[str] = mapped_column(ForeignKey("tenants.id"))
    purpose: Mapped[str]
    filename: Mapped[str]
    num_bytes: Mapped[int]
    # Ends of line, by which a batch is forecast before its file is read; 0 where nobody asks.
    num_lines: Mapped[int] = mapped_column(Integer)
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime | None]


class FileChunk(Base):
    """A part of a file."""

    __tablename__ = "file_chunks"

    file_id: Mapped[str] = mapped_column(
        ForeignKey("files.id", ondelete="CASCADE"), primary_key=True
    )
    position: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    data: Mapped[bytes] = mapped_column(LargeBinary)
