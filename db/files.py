"""Files: stored and read in chunks, so that memory does not grow with them.

A file whose time is over is gone for every reader at once; its bytes follow with
`delete_expired_files`.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, delete, func, insert, select, tuple_
from sqlalchemy.orm import Session

from db.models import File, FileChunk
from db.models.files import CHUNK_BYTES


@dataclass(frozen=True, slots=True)
class NewFile:
    """A file whose bytes follow."""

    id: str
    tenant_id: str
    purpose: str
    filename: str
    created_at: datetime
    expires_at: datetime | None


def store_file(session: Session, file: NewFile, parts: Iterable[bytes]) -> File:
    """Store a file whose bytes come in parts of any size; memory is bounded by the parts."""
    row = File(
        id=file.id,
        tenant_id=file.tenant_id,
        purpose=file.purpose,
        filename=file.filename,
        num_bytes=0,
        num_lines=0,
        created_at=file.created_at,
        expires_at=file.expires_at,
    )
    session.add(row)
    session.flush()
    last = b"\n"
    for position, data in enumerate(_chunks(parts)):
        session.execute(insert(FileChunk).values(file_id=file.id, position=position, data=data))
        row.num_bytes += len(data)
        row.num_lines += data.count(b"\n")
        last = data[-1:]
    row.num_lines += last != b"\n"
    session.flush()
    return row


def _chunks(parts: Iterable[bytes]) -> Iterator[bytes]:
    """The same bytes in chunks of `CHUNK_BYTES`, the last one shorter."""
    held = bytearray()
    for part in parts:
        held += part
        while len(held) >= CHUNK_BYTES:
            yield bytes(held[:CHUNK_BYTES])
            del held[:CHUNK_BYTES]
    if held:
        yield bytes(held)


def get_file(session: Session, tenant_id: str, file_id: str, *, now: datetime) -> File | None:
    """The tenant's file; None when there is none, it is over, or it is another tenant's."""
    return session.scalar(select(File).where(File.id == file_id, *_visible(tenant_id, now)))


def list_files(
    session: Session,
    tenant_id: str,
    *,
    now: datetime,
    limit: int,
    after: File | None = None,
    purpose: str | None = None,
    ascending: bool = False,
) -> list[File]:
    """The tenant's files by age, newest first unless `ascending`, beginning behind `after`."""
    statement = select(File).where(*_visible(tenant_id, now))
    if purpose is not None:
        statement = statement.where(File.purpose == purpose)
    place = tuple_(File.created_at, File.id)
    if after is not None:
        cursor = tuple_(after.created_at, after.id)
        statement = statement.where(place > cursor if ascending else place < cursor)
    order = (File.created_at, File.id)
    ordered = order if ascending else tuple(column.desc() for column in order)
    return list(session.scalars(statement.order_by(*ordered).limit(limit)))


def read_chunk(session: Session, file_id: str, position: int) -> bytes:
    """One chunk; empty behind the end, and when the file is gone."""
    data = session.scalar(
        select(FileChunk.data).where(FileChunk.file_id == file_id, FileChunk.position == position)
    )
    return b"" if data is None else bytes(data)


def delete_file(session: Session, tenant_id: str, file_id: str, *, now: datetime) -> bool:
    """Delete the tenant's file; False when there is none."""
    deleted = session.scalar(
        delete(File).where(File.id == file_id, *_visible(tenant_id, now)).returning(File.id)
    )
    return deleted is not None


def delete_expired_files(session: Session, *, now: datetime) -> int:
    """Delete files whose time is over; says how many."""
    return len(session.scalars(delete(File).where(File.expires_at <= now).returning(File.id)).all())


def _visible(tenant_id: str, now: datetime) -> tuple[ColumnElement[bool], ...]:
    return (
        File.tenant_id == tenant_id,
        func.coalesce(File.expires_at > now, True),
    )
