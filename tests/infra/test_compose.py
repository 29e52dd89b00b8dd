"""docker-compose.yml against the Compose schema and against the commands that it runs."""

import re
import subprocess
import sys
import tomllib
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from typer.testing import CliRunner

from db.keys import find_key, hash_secret
from db.session import SessionFactory, transaction
from infra.command import app
from infra.observed import ObservedSettings
from infra.services import WORKER_GRACE_S
from worker.settings import WorkerSettings

ROOT = Path(__file__).parents[2]
COMPOSE = ROOT / "docker-compose.yml"
SERVICES: dict[str, dict[str, Any]] = yaml.safe_load(COMPOSE.read_text())["services"]
OURS = sorted(name for name, service in SERVICES.items() if "build" in service)


def parse(arguments: list[str]) -> None:
    """Resolve a `slackline` command line down to its last option, without running it."""
    command: Any = typer.main.get_command(app)
    while hasattr(command, "commands"):
        name, *arguments = arguments
        command = command.commands[name]
    command.make_context("slackline", arguments)


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in SERVICES["api"]["environment"].items():
        monkeypatch.setenv(name, value)


def test_it_fits_the_compose_schema() -> None:
    check = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec"]
    done = subprocess.run([*check, str(COMPOSE)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", OURS)
def test_its_commands_are_commands_of_slackline(name: str) -> None:
    parse(SERVICES[name]["command"])


@pytest.mark.parametrize("name", [name for name in OURS if name != "migrate"])
def test_its_health_checks_are_commands_of_slackline(name: str) -> None:
    kind, program, *arguments = SERVICES[name]["healthcheck"]["test"]
    assert (kind, program) == ("CMD", "slackline")
    parse(arguments)


def test_every_service_waited_for_exists_and_can_be_waited_for() -> None:
    for service in SERVICES.values():
        depends_on = service.get("depends_on", {})
        if isinstance(depends_on, list):
            assert set(depends_on) <= set(SERVICES)
            continue
        for other, condition in depends_on.items():
            if condition["condition"] == "service_healthy":
                assert "healthcheck" in SERVICES[other]
            else:
                assert SERVICES[other]["restart"] == "no"


def test_the_environment_is_what_processes_read() -> None:
    observed = {f"SLACKLINE_{name}".upper() for name in ObservedSettings.model_fields}
    names = set(SERVICES["worker"]["environment"]) - observed
    assert names == {"DATABASE_URL", "REDIS_URL", "OTEL_EXPORTER_OTLP_ENDPOINT"}


def test_the_worker_on_gpus_runs_the_vllm_that_is_tested(monkeypatch: pytest.MonkeyPatch) -> None:
    service = SERVICES["worker-gpu"]
    command = service["command"]
    assert command[command.index("--engine") + 1] == "vllm"
    assert service["build"]["target"] == "vllm"
    pin = re.search(r'^vllm = \["(vllm==.+)"\]$', (ROOT / "pyproject.toml").read_text(), re.M)
    assert pin is not None
    assert f'"{pin[1]}"' in (ROOT / "infra" / "Dockerfile").read_text()
    for name, value in service["environment"].items():
        monkeypatch.setenv(name, value.replace("${SLACKLINE_GPUS:-1}", "2"))
    monkeypatch.setenv("SLACKLINE_NAME", "worker-gpu")
    read = WorkerSettings.model_validate({})
    assert read.vllm.tensor_parallel_size == 2


@pytest.mark.parametrize("name", ["worker", "worker-gpu"])
def test_a_worker_that_is_made_anew_finds_what_it_measured_before(name: str) -> None:
    folder = WorkerSettings.model_fields["data_dir"].default.relative_to(Path.home())
    target = f"/home/slackline/{folder}"
    assert f"profiles:{target}" in SERVICES[name]["volumes"]
    # A volume takes its owner from the folder of the image.
    assert target in (ROOT / "infra" / "Dockerfile").read_text()
    # Part of the profile's file name, and a new random word for every container by default.
    assert SERVICES[name]["hostname"] == name_of_worker(SERVICES[name]["command"])


def name_of_worker(command: list[str]) -> str:
    return command[command.index("--name") + 1]


@pytest.mark.parametrize("name", ["worker", "worker-gpu"])
def test_a_worker_has_time_to_give_its_batches_back(name: str) -> None:
    assert SERVICES[name]["stop_grace_period"] == f"{WORKER_GRACE_S:.0f}s"


def test_the_key_that_its_header_tells_to_make_opens_the_api(
    sessions: SessionFactory, database_url: str
) -> None:
    before, _, rest = COMPOSE.read_text().partition("docker compose run --rm api ")
    assert before.endswith("key: ")
    made = CliRunner().invoke(app, rest.splitlines()[0].split(), env={"DATABASE_URL": database_url})
    assert made.exit_code == 0, made.output
    secret, _, tenant_id, _ = made.output.split()
    with transaction(sessions) as session:
        key = find_key(session, key_sha256=hash_secret(secret), now=datetime.now(UTC))
    assert key is not None
    assert key.tenant_id == tenant_id


def test_a_key_for_an_unknown_tenant_is_refused_in_words(database_url: str) -> None:
    arguments = ["keys", "create", "--label", "me", "--tenant", "ten_nobody"]
    made = CliRunner().invoke(app, arguments, env={"DATABASE_URL": database_url})
    assert made.exit_code == 1
    assert "No tenant has the id 'ten_nobody'" in str(made.exception) + made.output


def test_the_images_run_the_command_with_every_package_and_extra() -> None:
    dockerfile = (ROOT / "infra" / "Dockerfile").read_text()
    assert 'ENTRYPOINT ["slackline"]' in dockerfile
    allowed = (ROOT / "infra" / "Dockerfile.dockerignore").read_text().splitlines()
    for stage in {SERVICES[name]["build"]["target"] for name in OURS}:
        assert f" AS {stage}\n" in dockerfile
    # Whatever the API offers is there: it runs in the last image, in the other one only workers.
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = set(project["optional-dependencies"]) - {"bench", "dev", "test"}
    installed = re.findall(r'pip install --no-cache-dir "\.\[(.*)\]"', dockerfile)
    assert [set(names.split(",")) for names in installed] == [{"vllm"}, extras - {"vllm"}]
    for package in ("api", "db", "scheduler", "worker", "infra"):
        assert f"COPY {package} {package}" in dockerfile
        assert f"!{package}" in allowed
