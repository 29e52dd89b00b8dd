"""Best effort: a deadline that cannot be promised is accepted, and said not to be promised."""

import json
from collections.abc import Callable

import httpx
from typer.testing import CliRunner

from api.client import Client
from api.client.commands import app
from tests.api.live import LOCAL_KEY, error_of, job_body
from tests.factories import MODEL

TOO_MANY = 2_000


def test_what_would_be_refused_is_accepted_without_a_promise(
    api: httpx.Client, stored_rows: Callable[[], dict[str, int]]
) -> None:
    refused = api.post("/v1/jobs", json=job_body(TOO_MANY, deadline="2s"))
    assert error_of(refused)["code"] == "deadline_infeasible"
    assert "'best_effort'" in error_of(refused)["message"]

    response = api.post("/v1/jobs", json=job_body(TOO_MANY, deadline="2s", best_effort=True))

    assert response.status_code == 201, response.text
    job = response.json()
    assert (job["verdict"], job["promised"]) == ("accepted_degraded", False)
    assert job["admitted"]["accuracy"] < 0.1
    assert stored_rows()["problems"] == TOO_MANY
    assert api.get(f"/v1/jobs/{job['id']}").json()["promised"] is False
    explained = api.get(f"/v1/jobs/{job['id']}/explain").json()
    assert "No plan finishes in time" in explained["admission"]["why"]
    assert "best effort" in explained["history"][0]["what"]
    assert len(api.get("/v1/refusals").json()["data"]) == 1


def test_what_can_be_promised_is_promised(api: httpx.Client) -> None:
    job = api.post("/v1/jobs", json=job_body(best_effort=True)).json()

    assert (job["verdict"], job["promised"]) == ("accepted", True)


def test_a_best_effort_takes_nothing_from_what_is_promised_later(api: httpx.Client) -> None:
    body = job_body(200, deadline="10m", max_branches=1)
    before = api.post("/v1/quotes", json=body).json()["deadlines"][-1]
    effort = api.post("/v1/jobs", json=job_body(TOO_MANY, deadline="5s", best_effort=True)).json()
    assert effort["promised"] is False

    job = api.post("/v1/jobs", json=body).json()

    assert (job["verdict"], job["promised"]) == ("accepted", True)
    assert job["admitted"]["accuracy"] >= before["accuracy"] - 0.02


def test_quotes_are_of_promises_whatever_is_asked(api: httpx.Client) -> None:
    body = job_body(TOO_MANY, deadlines=["2s"], best_effort=True)
    del body["deadline"]

    (row,) = api.post("/v1/quotes", json=body).json()["deadlines"]

    assert (row["feasible"], row["verdict"]) == (False, "refused")


def test_the_client_and_the_command_ask_for_best_effort_and_a_family(url: str, worker: str) -> None:  # noqa: ARG001
    with Client(url, LOCAL_KEY) as client:
        job = client.submit(
            ["x"] * TOO_MANY, model=MODEL, deadline="2s", best_effort=True, family="sums"
        )
    assert (job["promised"], job["family"]) == (False, "sums")

    lines = "".join(json.dumps({"prompt": f"1+{n}="}) + "\n" for n in range(TOO_MANY))
    asked = ("submit", "-", "--deadline", "2s", "--best-effort", "--family", "products")
    environment = {"SLACKLINE_URL": url, "SLACKLINE_API_KEY": LOCAL_KEY}
    told = CliRunner().invoke(app, asked, input=lines, env=environment)
    shown = CliRunner().invoke(app, ("jobs", "--json"), env=environment)

    assert told.exit_code == 0, told.output
    assert f"accepted as a best effort, without a promise: {TOO_MANY} problems" in told.stdout
    newest = json.loads(shown.stdout)[0]
    assert (newest["promised"], newest["family"]) == (False, "products")
