"""Streams the bytes of a file, whole or a range of them."""

import re
from collections.abc import Iterable, Iterator

from api.errors import ApiError
from db.files import read_chunk
from db.models.files import CHUNK_BYTES
from db.session import SessionFactory, transaction

_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})", re.ASCII)


def stored_bytes(sessions: SessionFactory, file_id: str, first: int, last: int) -> Iterator[bytes]:
    """Bytes `first` to `last`; one short transaction per chunk, so a slow reader holds none."""
    for position in range(first // CHUNK_BYTES, last // CHUNK_BYTES + 1):
        with transaction(sessions) as session:
            data = read_chunk(session, file_id, position)
        begin = position * CHUNK_BYTES
        yield data[max(first - begin, 0) : last - begin + 1]


def range_of(header: str | None, num_bytes: int) -> tuple[int, int] | None:
    """First and last byte that a Range header asks for; None for the whole file.

    What is not one range of bytes is ignored, as HTTP asks for.

    Raises:
        ApiError: 416 for a range behind the end.
    """
    found = _RANGE.fullmatch(header.strip()) if header else None
    if found is None or not (found[1] or found[2]):
        return None
    if not found[1]:
        first, last = max(num_bytes - int(found[2]), 0), num_bytes - 1
    else:
        first = int(found[1])
        last = min(int(found[2]), num_bytes - 1) if found[2] else num_bytes - 1
        if found[2] and int(found[2]) < first:
            return None
    if first > last:
        raise ApiError(
            416,
            "range_not_satisfiable",
            f"The file has {num_bytes} bytes, of which the range covers none.",
            headers={"Content-Range": f"bytes */{num_bytes}"},
        )
    return first, last


def total_bytes(parts: Iterable[bytes]) -> int:
    """How many bytes the parts have."""
    return sum(map(len, parts))
