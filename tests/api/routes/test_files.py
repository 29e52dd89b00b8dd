"""Files: what goes in comes out, in pages, ranges and for its owner only."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import httpx
import pytest
from sqlalchemy import func, select, update

from db.files import delete_expired_files
from db.models import File, FileChunk
from db.models.files import CHUNK_BYTES
from db.session import SessionFactory, transaction
from tests.api.live import error_of
from tests.api.openai.batch_files import chat_line, jsonl, upload


@pytest.mark.parametrize("num_bytes", [1, CHUNK_BYTES - 1, CHUNK_BYTES, 3 * CHUNK_BYTES + 5])
def test_any_number_of_bytes_comes_back_in_chunks(
    api_alone: httpx.Client, sessions: SessionFactory, num_bytes: int
) -> None:
    data = bytes(i * 7 % 251 for i in range(1000)) * (num_bytes // 1000 + 1)
    data = data[:num_bytes]
    file = upload(api_alone, data, purpose="user_data").json()
    assert file["bytes"] == num_bytes
    assert file["expires_at"] is None
    response = api_alone.get(f"/v1/files/{file['id']}/content")
    assert response.content == data
    assert response.headers["content-length"] == str(num_bytes)
    with transaction(sessions) as session:
        sizes = session.scalars(select(func.length(FileChunk.data))).all()
    assert max(sizes) <= CHUNK_BYTES
    assert sum(sizes) == num_bytes


def test_a_range_of_a_file_comes_back(api_alone: httpx.Client) -> None:
    data = bytes(range(256)) * (CHUNK_BYTES // 128)
    file_id = upload(api_alone, data, purpose="user_data").json()["id"]
    size = len(data)
    for wanted, first, last in (
        ("bytes=0-9", 0, 9),
        (f"bytes={CHUNK_BYTES - 3}-{CHUNK_BYTES + 3}", CHUNK_BYTES - 3, CHUNK_BYTES + 3),
        ("bytes=100-", 100, size - 1),
        ("bytes=-5", size - 5, size - 1),
        (f"bytes=7-{size * 9}", 7, size - 1),
    ):
        part = api_alone.get(f"/v1/files/{file_id}/content", headers={"Range": wanted})
        assert part.status_code == 206
        assert part.headers["content-range"] == f"bytes {first}-{last}/{size}"
        assert part.content == data[first : last + 1]
    for ignored in ("lines=1-2", "bytes=9-3", "bytes=-", "bytes=0-1,4-5"):
        whole = api_alone.get(f"/v1/files/{file_id}/content", headers={"Range": ignored})
        assert (whole.status_code, len(whole.content)) == (200, size)
    beyond = api_alone.get(f"/v1/files/{file_id}/content", headers={"Range": f"bytes={size}-"})
    assert beyond.status_code == 416
    assert beyond.headers["content-range"] == f"bytes */{size}"
    assert error_of(beyond)["code"] == "range_not_satisfiable"


def test_files_are_listed_in_pages_by_age_and_purpose(api_alone: httpx.Client) -> None:
    made = [upload(api_alone, b"{}\n").json()["id"] for _ in range(5)]
    other = upload(api_alone, b"x", purpose="evals").json()["id"]
    newest = [other, *reversed(made)]

    def ids(**query: object) -> tuple[list[str], bool]:
        page = api_alone.get("/v1/files", params=query).json()  # type: ignore[arg-type]
        found = [file["id"] for file in page["data"]]
        assert page["object"] == "list"
        assert (page["first_id"], page["last_id"]) == (
            (found[0], found[-1]) if found else (None, None)
        )
        return found, page["has_more"]

    assert ids() == (newest, False)
    assert ids(limit=2) == (newest[:2], True)
    assert ids(limit=2, after=newest[1]) == (newest[2:4], True)
    assert ids(limit=2, after=newest[3]) == (newest[4:], False)
    assert ids(order="asc", limit=4) == (newest[:1:-1], True)
    assert ids(order="asc", after=made[3]) == ([made[4], other], False)
    assert ids(purpose="evals") == ([other], False)
    for query in ({"limit": 0}, {"limit": 10_001}, {"order": "up"}, {"after": "file-none"}):
        response = api_alone.get("/v1/files", params=query)
        assert (response.status_code, error_of(response)["param"]) == (400, next(iter(query)))


def test_a_file_is_kept_as_long_as_was_asked_for(
    api_alone: httpx.Client, sessions: SessionFactory
) -> None:
    for_batch = upload(api_alone, b"{}\n").json()
    assert for_batch["expires_at"] - for_batch["created_at"] == 30 * 86_400
    fields = {"expires_after[anchor]": "created_at", "expires_after[seconds]": "3600"}
    short = upload(api_alone, b"{}\n", **fields).json()
    assert short["expires_at"] - short["created_at"] == 3_600
    for bad in (
        {"expires_after[seconds]": "3600"},
        {"expires_after[anchor]": "created_at"},
        fields | {"expires_after[seconds]": "3599"},
        fields | {"expires_after[seconds]": "2592001"},
        fields | {"expires_after[anchor]": "now"},
    ):
        assert upload(api_alone, b"{}\n", **bad).status_code == 400

    now = datetime.now(UTC)
    with transaction(sessions) as session:
        over = {"expires_at": now - timedelta(seconds=1)}
        session.execute(update(File).where(File.id == short["id"]).values(**over))
    for path in (f"/v1/files/{short['id']}", f"/v1/files/{short['id']}/content"):
        assert api_alone.get(path).status_code == 404
    assert [file["id"] for file in api_alone.get("/v1/files").json()["data"]] == [for_batch["id"]]
    with transaction(sessions) as session:
        delete_expired_files(session, now=now)
        assert session.scalars(select(FileChunk.file_id)).all() == [for_batch["id"]]


def test_a_file_is_its_owners_alone(api_alone: httpx.Client, stranger: httpx.Client) -> None:
    file_id = upload(api_alone, b"{}\n").json()["id"]
    for method, path in (
        ("GET", f"/v1/files/{file_id}"),
        ("GET", f"/v1/files/{file_id}/content"),
        ("DELETE", f"/v1/files/{file_id}"),
        ("GET", "/v1/files/file-%00"),
    ):
        response = stranger.request(method, path)
        error = error_of_file(response)
        assert (response.status_code, error["code"]) == (404, None)
    assert stranger.get("/v1/files").json()["data"] == []
    assert stranger.get("/v1/files", params={"after": file_id}).status_code == 400
    batch = stranger.post(
        "/v1/batches",
        json={
            "input_file_id": file_id,
            "endpoint": "/v1/chat/completions",
            "completion_window": "1h",
        },
    ).json()
    assert batch["status"] == "validating"
    assert api_alone.delete(f"/v1/files/{file_id}").json()["deleted"] is True
    assert api_alone.delete(f"/v1/files/{file_id}").status_code == 404


def error_of_file(response: httpx.Response) -> dict[str, object]:
    """The error of a file that is not there, which has no code."""
    error: dict[str, object] = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    return error


def test_what_is_no_upload_is_refused(api_alone: httpx.Client) -> None:
    file = {"file": ("a", b"{}")}
    for request, status, param in (
        ({"json": {}}, 415, None),
        ({"files": file}, 400, "purpose"),
        ({"files": file, "data": {"purpose": "magic"}}, 400, "purpose"),
        ({"files": file, "data": {"purpose": "batch_output"}}, 400, "purpose"),
        ({"files": {"other": ("a", b"{}")}, "data": {"purpose": "batch"}}, 400, "file"),
        ({"files": file, "data": {"purpose": "batch", "color": "red"}}, 400, "color"),
    ):
        response = api_alone.post("/v1/files", **request)
        assert (response.status_code, error_of(response)["param"]) == (status, param)
    assert api_alone.get("/v1/files").json()["data"] == []


def test_files_are_refused_just_beyond_their_limits(
    serve: Callable[..., httpx.Client], sessions: SessionFactory
) -> None:
    line = jsonl(chat_line())
    api = serve(max_batch_file_bytes=len(line), max_file_bytes=2 * len(line))
    assert upload(api, line).status_code == 200
    assert upload(api, line * 2, purpose="user_data").status_code == 200
    for data, fields in (
        (line + b"\n", {}),
        (line * 2 + b"\n", {"purpose": "user_data"}),
        (line * 2000, {"purpose": "user_data"}),
    ):
        response = upload(api, data, **fields)
        assert response.status_code == 413
        assert "maximum" in response.json()["error"]["message"]
    with transaction(sessions) as session:
        assert session.scalar(select(func.count()).select_from(File)) == 2
