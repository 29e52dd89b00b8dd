"""Problems with a deadline of their own: submitted, refused, shown, and moved with their job."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from tests.api.live import error_of, job_body

MOST = 100


def body_with(deadlines: list[str | None], **overrides: Any) -> dict[str, Any]:
    """A submission whose problems have these deadlines."""
    body = job_body(len(deadlines), **overrides)
    for problem, deadline in zip(body["problems"], deadlines, strict=True):
        if deadline is not None:
            problem["deadline"] = deadline
    return body


def seconds_between(start: str, end: str) -> float:
    return (datetime.fromisoformat(end) - datetime.fromisoformat(start)).total_seconds()


def shown(api: httpx.Client, job: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = api.get(f"/v1/jobs/{job['id']}").json()
    return found


def test_problems_with_the_same_deadline_are_planned_together_and_shown(api: httpx.Client) -> None:
    response = api.post("/v1/jobs", json=body_with(["20m", None, "10m", "20m", None, None]))

    assert response.status_code == 201, response.text
    job = response.json()
    near, far = job["parts"]
    assert (near["num_problems"], far["num_problems"], job["num_problems"]) == (1, 2, 6)
    assert seconds_between(near["deadline_at"], far["deadline_at"]) == pytest.approx(600)
    assert seconds_between(job["created_at"], near["deadline_at"]) == pytest.approx(600, abs=5)
    for part in job["parts"]:
        assert part["plan"]["num_branches"] >= 1
        assert part["predicted"] == part["admitted"]
        assert part["at_risk"] is None
    # The whole ends with its last part, and is as accurate as all of them together.
    assert job["admitted"]["finish_p95_at"] >= max(
        p["admitted"]["finish_p95_at"] for p in (near, far)
    )
    worst, best = sorted(p["admitted"]["accuracy"] for p in (near, far))
    assert worst - 0.05 <= job["admitted"]["accuracy"] <= best + 0.05
    own = [row["deadline_at"] for row in api.get(f"/v1/jobs/{job['id']}/results").json()["data"]]
    assert own == [far["deadline_at"], None, near["deadline_at"], far["deadline_at"], None, None]
    one = api.get(f"/v1/jobs/{job['id']}/problems/2").json()
    assert one["deadline_at"] == near["deadline_at"]


def test_all_problems_of_a_job_may_have_their_own(api: httpx.Client) -> None:
    job = api.post("/v1/jobs", json=body_with(["10m", "20m"])).json()

    assert [part["num_problems"] for part in job["parts"]] == [1, 1]
    assert job["predicted"]["finish_p95_at"] == job["parts"][-1]["predicted"]["finish_p95_at"]
    explained = api.get(f"/v1/jobs/{job['id']}/explain").json()
    assert explained["now"]["num_problems"] == 1


def test_a_part_that_cannot_be_promised_refuses_the_job(
    api: httpx.Client, stored_rows: Callable[[], dict[str, int]]
) -> None:
    deadlines: list[str | None] = ["2s"] * 2000 + [None] * 3
    response = api.post("/v1/jobs", json=body_with(deadlines))

    error = error_of(response)
    assert (response.status_code, error["code"]) == (422, "deadline_infeasible")
    assert "cannot answer the 2000 that are due by" in error["message"]
    assert error["earliest_finish_s"] > 2
    assert stored_rows()["problems"] == stored_rows()["jobs"] == 0
    (refusal,) = api.get("/v1/refusals").json()["data"]
    assert refusal["num_problems"] == 2000

    effort = api.post("/v1/jobs", json=body_with(deadlines, best_effort=True)).json()
    assert (effort["verdict"], effort["promised"]) == ("accepted_degraded", False)


@pytest.mark.parametrize(
    ("deadline", "code", "message"),
    [
        ("soon", "invalid_deadline", "cannot read the deadline 'soon'"),
        ("2h", "invalid_deadline", "the deadline 2h is after that of the job"),
        ("0s", "invalid_deadline", "the deadline 0s is in the past"),
        ("0.5s", "invalid_deadline", "the deadline 0.5s is too soon"),
        ("2020-01-01T00:00:00Z", "invalid_deadline", "is in the past"),
        (5, "invalid_deadline", "cannot read the deadline '5'"),
    ],
)
def test_a_bad_deadline_is_refused_with_its_place(
    api: httpx.Client,
    stored_rows: Callable[[], dict[str, int]],
    deadline: Any,
    code: str,
    message: str,
) -> None:
    response = api.post("/v1/jobs", json=body_with([None, deadline, None]))

    error = error_of(response)
    assert (response.status_code, error["code"]) == (400, code)
    assert error["param"] == "problems[1].deadline"
    assert message in error["message"]
    assert stored_rows()["problems"] == 0


def test_a_bad_deadline_in_json_lines_is_refused_with_its_line(api: httpx.Client) -> None:
    lines = [json.dumps(problem) for problem in body_with([None, "never"])["problems"]]
    response = api.post(
        "/v1/jobs",
        params={"model": job_body()["model"], "deadline": "1h"},
        headers={"Content-Type": "application/x-ndjson"},
        content="\n".join(lines),
    )

    error = error_of(response)
    assert (error["param"], error["line"]) == ("deadline", 2)
    assert error["message"].startswith("Line 2: cannot read the deadline 'never'")


def test_a_job_has_so_many_different_deadlines_at_most(api: httpx.Client) -> None:
    most = [f"{minute}m" for minute in range(1, MOST + 1)]
    taken = api.post("/v1/jobs", json=body_with([*most, most[0], None], deadline="6h"))
    assert (taken.status_code, len(taken.json()["parts"])) == (201, MOST)

    refused = error_of(api.post("/v1/jobs", json=body_with([*most, "3h"], deadline="6h")))

    assert (refused["code"], refused["param"]) == ("too_many_deadlines", "problems[100].deadline")
    assert f"more than {MOST} different deadlines" in refused["message"]


def test_a_quote_is_for_one_deadline(api: httpx.Client) -> None:
    error = error_of(api.post("/v1/quotes", json=body_with([None, "10m"])))

    assert (error["code"], error["param"]) == ("invalid_value", "problems[1].deadline")


def test_another_deadline_makes_another_submission(
    serve: Callable[..., httpx.Client], worker: str
) -> None:
    assert worker
    api = serve(dedup_window_s=60)
    first = api.post("/v1/jobs", json=body_with(["10m", None])).json()
    again = api.post("/v1/jobs", json=body_with(["10m", None]))
    other = api.post("/v1/jobs", json=body_with(["20m", None]))

    assert (again.status_code, again.json()["id"]) == (200, first["id"])
    assert (other.status_code, other.json()["id"] != first["id"]) == (201, True)


def test_an_earlier_deadline_of_the_job_goes_for_its_parts_too(api: httpx.Client) -> None:
    job = api.post("/v1/jobs", json=body_with(["10m", "40m", None])).json()

    changed = api.patch(f"/v1/jobs/{job['id']}", json={"deadline": "20m"})

    assert changed.status_code == 200, changed.text
    due_at = changed.json()["deadline_at"]
    part_at = [part["admitted"]["finish_p95_at"] for part in changed.json()["parts"]]
    assert all(at <= due_at for at in part_at)
    near, _ = job["parts"]
    now_due = [near["deadline_at"], due_at]
    assert [part["deadline_at"] for part in shown(api, job)["parts"]] == now_due
    results = api.get(f"/v1/jobs/{job['id']}/results").json()["data"]
    assert [row["deadline_at"] for row in results] == [*now_due, None]
    # What was asked for counts again with a later deadline of the job.
    put_off = api.patch(f"/v1/jobs/{job['id']}", json={"deadline": "2h"}).json()
    assert [part["deadline_at"] for part in put_off["parts"]] == [
        part["deadline_at"] for part in job["parts"]
    ]


def test_another_deadline_of_the_job_leaves_a_part_that_is_due_before_both(
    api: httpx.Client,
) -> None:
    job = api.post("/v1/jobs", json=body_with(["10m", None])).json()

    changed = api.patch(f"/v1/jobs/{job['id']}", json={"deadline": "50m"}).json()

    assert changed["admitted"] != job["admitted"]
    assert changed["parts"] == job["parts"]
    assert changed["promised"]


def test_a_changed_job_is_promised_what_all_of_its_parts_are(api: httpx.Client) -> None:
    """Most problems are in a part that is due before both deadlines, and has little time."""
    job = api.post(
        "/v1/jobs", json=body_with([*["4s"] * 40, None], deadline="20s", best_effort=True)
    ).json()

    changed = api.patch(f"/v1/jobs/{job['id']}", json={"deadline": "50m"}).json()

    (part,) = changed["parts"]
    assert changed["admitted"]["accuracy"] == pytest.approx(part["predicted"]["accuracy"], abs=0.03)
    assert not changed["promised"]


def test_an_earlier_deadline_that_a_part_cannot_meet_changes_nothing(api: httpx.Client) -> None:
    job = api.post("/v1/jobs", json=body_with([*["40m"] * 300, None])).json()

    refused = api.patch(f"/v1/jobs/{job['id']}", json={"deadline": "2s"})

    assert error_of(refused)["code"] == "deadline_infeasible"
    assert shown(api, job)["deadline_at"] == job["deadline_at"]
    assert datetime.fromisoformat(job["deadline_at"]) > datetime.now(UTC) + timedelta(minutes=50)
