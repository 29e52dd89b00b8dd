"""Sends the API what its OpenAPI document allows, and what it does not, and judges the responses.

`make fuzz` runs it on a whole Slackline of its own, on a real Postgres, with a worker that replays:
jobs that are accepted by chance run. It fails on a 5xx, on a status or a content type that the
document does not have, and on a body that is not of the documented form.
"""

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

import httpx

from tests.api.live import client_of
from tests.api.openai.batch_files import chat_line
from tests.api.openai.batch_files import create as create_batch
from tests.replay_files import MODEL, problem_set, replay_environment
from tests.stack import open_folder, running_stack

ROOT = Path(__file__).parents[1]

# Not "use_after_free": by design a key that was revoked can still be read.
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "missing_required_header",
    "ignored_auth",
    "unsupported_method",
)


def ids_of_something(api: httpx.Client) -> dict[str, str]:
    """Store one of everything; returns what path parameters may then be."""
    hook = {"url": "http://127.0.0.1:9/", "event_types": ["job.completed"]}
    webhook = api.post("/v1/webhooks", json=hook).json()["id"]
    submission = {"model": MODEL, "deadline": "60s", "problems": problem_set(3)}
    job = api.post("/v1/jobs", json=submission).json()["id"]
    batch = create_batch(api, chat_line(model=MODEL)).json()
    deliveries: list[dict[str, str]] = []
    give_up_at = time.monotonic() + 60
    while not deliveries:
        assert time.monotonic() < give_up_at
        time.sleep(0.2)
        deliveries = api.get(f"/v1/webhooks/{webhook}/deliveries").json()["data"]
    return {
        "job_id": job,
        "webhook_id": webhook,
        "event_id": deliveries[0]["event_id"],
        "batch_id": batch["id"],
        "file_id": batch["input_file_id"],
    }


def configuration(ids: dict[str, str]) -> str:
    """Path parameters lead to something every second time."""
    lines = []
    for name, value in ids.items():
        lines += [f"[dictionaries.{name}]", f'values = ["{value}"]']
    lines.append("[parameters]")
    for name in ids:
        lines.append(f'"path.{name}" = {{ dictionary = "{name}", probability = 0.5 }}')
    return "\n".join(lines) + "\n"


def main() -> int:
    """Run schemathesis; returns its exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--seed", type=int, default=1)
    arguments, others = parser.parse_known_args()
    with open_folder() as folder:
        env = replay_environment(folder / "replay")
        with running_stack(folder / "data", "replay", env=env) as stack:
            url, key = stack.running.api_url, stack.running.api_key
            with client_of(url, key) as api:
                settings = configuration(ids_of_something(api))
            (folder / "schemathesis.toml").write_text(settings)
            command = [
                str(Path(sys.executable).with_name("schemathesis")),
                f"--config-file={folder / 'schemathesis.toml'}",
                "run",
                f"{url}/openapi.json",
                f"--header=Authorization: Bearer {key}",
                f"--checks={','.join(CHECKS)}",
                f"--max-time={arguments.seconds}",
                f"--seed={arguments.seed}",
                "--continue-on-failure",
                "--request-timeout=30",
                # Rows pile up and documents are large; the time is bounded anyway.
                "--suppress-health-check=all",
                *others,
            ]
            hooks = {"SCHEMATHESIS_HOOKS": "tests.fuzz_hooks", "PYTHONPATH": str(ROOT)}
            done = subprocess.run(command, cwd=folder, env=os.environ | hooks, check=False)
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
