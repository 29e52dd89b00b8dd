"""docker-compose.yml against the Compose schema and against the commands that it runs."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from infra.command import app

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
        for other, condition in service.get("depends_on", {}).items():
            if condition["condition"] == "service_healthy":
                assert "healthcheck" in SERVICES[other]
            else:
                assert SERVICES[other]["restart"] == "no"


def test_the_environment_is_what_processes_read() -> None:
    assert set(SERVICES["worker"]["environment"]) == {"DATABASE_URL", "REDIS_URL"}


def test_the_image_runs_the_command_and_copies_every_package() -> None:
    dockerfile = (ROOT / "infra" / "Dockerfile").read_text()
    assert 'ENTRYPOINT ["slackline"]' in dockerfile
    allowed = (ROOT / "infra" / "Dockerfile.dockerignore").read_text().splitlines()
    for package in ("api", "db", "scheduler", "worker", "infra"):
        assert f"COPY {package} {package}" in dockerfile
        assert f"!{package}" in allowed
