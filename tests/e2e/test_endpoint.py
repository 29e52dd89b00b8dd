"""A whole Slackline in front of a server that somebody already runs: here with the demo model."""

import json
from collections.abc import Iterator

import pytest

from infra.demo_engines import DEMO_MODEL_DIR
from tests.openai_process import openai_server
from tests.stack import Stack, open_folder, running_stack

NUM_PROBLEMS = 12
MODEL = "slackline-demo"


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    checkpoints = (DEMO_MODEL_DIR / "target", DEMO_MODEL_DIR / "draft")
    with open_folder() as folder, openai_server(folder, *checkpoints, "--model", MODEL) as server:
        env = {
            "SLACKLINE_ENDPOINT__BASE_URL": server.base_url,
            "SLACKLINE_ENDPOINT__API": "completions",
            "SLACKLINE_ENDPOINT__NUM_SPECULATIVE_TOKENS": "4",
            "SLACKLINE_ENDPOINT__DRAFT_PER_BRANCH": "true",
            "SLACKLINE_MAX_NUM_SEQS": "16",
            "SLACKLINE_RECORDINGS": str(DEMO_MODEL_DIR / "recordings.jsonl.gz"),
            "SLACKLINE_PROBLEMS": str(DEMO_MODEL_DIR / "arithmetic.jsonl"),
            "SLACKLINE_DATA_DIR": str(folder / "profiles"),
        }
        with running_stack(folder / "data", "openai", env=env) as running:
            yield running


def test_a_job_is_solved_by_deadline_on_the_server(stack: Stack) -> None:
    lines = (DEMO_MODEL_DIR / "arithmetic.jsonl").read_text().splitlines()[:NUM_PROBLEMS]
    with stack.client() as client:
        [worker] = client.workers()
        assert worker["engine"] == "openai"
        assert worker["model"] == MODEL
        assert worker["draft_lengths"] == [0, 1, 2, 3, 4]
        job = client.submit(list(map(json.loads, lines)), model=MODEL, deadline="120s")
        done = client.wait(job["id"])
        assert done["met_deadline"]
        results = list(client.results(job["id"]))
    assert [result["state"] for result in results] == ["answered"] * NUM_PROBLEMS
    # One sample of the demo model solves about 6 in 10, a vote more.
    assert sum(bool(result["is_correct"]) for result in results) >= NUM_PROBLEMS // 2
