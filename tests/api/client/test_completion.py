"""What a shell gets to choose from, asked as bash asks."""

from typing import get_args

from typer.testing import CliRunner

from api.client import Client
from api.client.commands import app
from api.client.shapes import JobState
from infra.servers import free_port
from scheduler.core import states
from tests.api.live import LOCAL_KEY
from tests.factories import MODEL


def completed(url: str, line: str) -> list[str]:
    """What bash is offered for the word at the end of the line."""
    words = line.split(" ")
    environment = {
        "_SLACKLINE_COMPLETE": "complete_bash",
        "COMP_WORDS": line,
        "COMP_CWORD": str(len(words) - 1),
        "SLACKLINE_URL": url,
        "SLACKLINE_API_KEY": LOCAL_KEY,
    }
    result = CliRunner().invoke(app, [], env=environment, prog_name="slackline")
    assert (result.exit_code, result.stderr) == (0, "")
    return result.stdout.split()


def test_ids_of_jobs_come_from_the_server(url: str, worker: str) -> None:  # noqa: ARG001
    with Client(url, LOCAL_KEY) as client:
        first, second = (
            client.submit(["1+1="], model=MODEL, deadline="1h")["id"] for _ in range(2)
        )

    assert completed(url, "slackline watch ") == [second, first]
    assert completed(url, f"slackline explain {first}") == [first]
    assert completed(url, "slackline cancel job_x") == []


def test_without_a_server_there_is_nothing_to_choose_and_nothing_said() -> None:
    url = f"http://127.0.0.1:{free_port()}"
    assert completed(url, "slackline watch ") == []
    assert "--json" in completed(url, "slackline watch --")


def test_states_are_those_of_jobs() -> None:
    url = f"http://127.0.0.1:{free_port()}"
    assert completed(url, "slackline jobs --state c") == ["cancelling", "completed", "cancelled"]
    assert set(get_args(JobState)) == set(states.JobState)
    assert "--install-completion" in CliRunner().invoke(app, ["--help"]).stdout
