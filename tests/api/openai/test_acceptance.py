"""The official clients, unmodified, against a live server with a worker.

Each version lives in a small environment of its own that the first run makes under the user's
cache folder. The three run at once, each as a tenant of its own, so none may see what the others
do: the listings that they check would be wrong.
"""

import os
import subprocess
import sys
import venv
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from db import keys
from db.session import connect, session_factory, transaction
from db.tenants import set_tenant
from tests.replay_files import replay_environment
from tests.stack import Stack, open_folder, running_stack

pytestmark = pytest.mark.acceptance

VERSIONS = ("1.109.1", "2.37.0", "3.52.0")
LIMITS = {"SLACKLINE_MAX_BATCH_FILE_BYTES": "2000000"}
SMALL_QUOTA = 1_000
"""Queued tokens of the second tenant of each version; a batch of ten requests counts for more."""
SCRIPT = Path(__file__).with_name("acceptance.py")


def python_with_client(version: str) -> Path:
    """A Python that has this version of the client and nothing else; installed once."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    python_version = f"{sys.version_info.major}.{sys.version_info.minor}"
    folder = cache / "slackline" / "openai" / f"{version}-py{python_version}"
    python = folder / "bin" / "python"
    done = folder / "installed"
    if not done.exists():
        venv.create(folder, clear=True, symlinks=True)
        # The pip of this environment installs into the other one, which has none.
        pip = [sys.executable, "-m", "pip", "--python", str(python)]
        options = ["--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, "install", *options, f"openai=={version}"], check=True)
        done.touch()
    return python


def new_key(stack: Stack, tenant: str, max_queued_tokens: int | None = None) -> str:
    """A key of a new tenant."""
    engine = connect(stack.running.database_url, pool_size=1)
    now = datetime.now(UTC)
    secret = keys.new_secret()
    digest = keys.hash_secret(secret)
    with transaction(session_factory(engine)) as session:
        tenant_id = keys.create_tenant(session, name=tenant, now=now)
        set_tenant(session, tenant_id, {"max_queued_tokens": max_queued_tokens})
        keys.insert_api_key(session, tenant_id=tenant_id, key_sha256=digest, label=tenant, now=now)
    engine.dispose()
    return secret


@pytest.fixture(scope="module")
def runs() -> Iterator[dict[str, subprocess.Popen[str]]]:
    """The script under every version of the client, all running."""
    pythons = {version: python_with_client(version) for version in VERSIONS}
    with open_folder() as folder:
        env = replay_environment(folder / "replay") | LIMITS
        with running_stack(folder / "data", "replay", env=env) as stack:
            base_url = f"{stack.running.api_url}/v1"
            started = {
                version: subprocess.Popen(
                    [
                        *(str(python), "-I", str(SCRIPT), base_url, new_key(stack, version)),
                        new_key(stack, f"{version}, little", SMALL_QUOTA),
                    ],
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    text=True,
                )
                for version, python in pythons.items()
            }
            yield started
            for run in started.values():
                run.kill()
                run.communicate()


@pytest.mark.parametrize("version", VERSIONS)
def test_the_official_client_finds_what_it_expects(
    runs: dict[str, subprocess.Popen[str]], version: str
) -> None:
    output, _ = runs[version].communicate(timeout=240)
    print(output)  # noqa: T201
    assert runs[version].returncode == 0, output
    assert f"openai {version}: passed" in output
