"""`slackline demo` on a part of its problem sets: both engines, all processes, one JSON line."""

import json
import subprocess

from infra.demo_report import JobSummary
from tests.stack import slackline

NUM_PROBLEMS = 12


def test_the_demo_meets_both_deadlines_and_ends_with_one_json_line() -> None:
    done = subprocess.run(
        slackline("demo", "--problems", str(NUM_PROBLEMS)),
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    last = json.loads(done.stdout.splitlines()[-1])
    assert list(last) == ["jobs"]
    assert [job["name"] for job in last["jobs"]] == ["arithmetic", "math-500"]
    for job in last["jobs"]:
        assert list(job) == list(JobSummary.__annotations__)
        assert job["problems"] == job["answered"] == NUM_PROBLEMS
        assert job["expired"] == 0
        assert job["met_deadline"]
        assert job["num_branches"] >= 1
        assert 0 < job["finish_s"] <= job["deadline_s"]
        assert 0 < job["predicted_finish_s"] <= job["deadline_s"]
        assert 0 < job["predicted_accuracy"] <= 1
        assert 0 < job["accuracy"] <= 1
        assert 1 <= job["mean_acceptance_length"] <= job["num_speculative_tokens"] + 1
