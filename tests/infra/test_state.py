"""The lock and the state file of a data folder."""

import fcntl
import os
import stat
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from infra.processes import identity
from infra.state import LOCK_FILE, STATE_FILE, DataFolder, DataFolderBusyError, Running

RUNNING = Running(
    pid=os.getpid(),
    api_url="http://127.0.0.1:8000",
    api_key="sk-slk-local",
    database_url="postgresql:///x",
    redis_url="redis:///0",
)


def test_a_second_holder_is_refused_and_told_who_runs(tmp_path: Path) -> None:
    with DataFolder(tmp_path) as folder:
        folder.write(RUNNING)
        with pytest.raises(DataFolderBusyError, match=r"http://127.0.0.1:8000.*slackline down"):
            DataFolder(tmp_path).__enter__()


def test_somebody_who_only_looks_at_the_lock_is_no_holder(tmp_path: Path) -> None:
    folder = DataFolder(tmp_path)
    folder.log_dir.mkdir()
    with (tmp_path / LOCK_FILE).open("ab") as look:
        fcntl.flock(look, fcntl.LOCK_SH)
        threading.Timer(0.05, fcntl.flock, (look, fcntl.LOCK_UN)).start()
        with folder:
            assert folder.is_locked()


def test_the_lock_and_the_state_go_with_their_holder(tmp_path: Path) -> None:
    with DataFolder(tmp_path) as folder:
        folder.write(RUNNING)
        assert folder.is_locked()
        assert folder.read() == RUNNING
    assert not folder.is_locked()
    assert folder.read() is None
    with DataFolder(tmp_path):
        pass


def test_a_state_file_of_another_version_is_no_obstacle(tmp_path: Path) -> None:
    (tmp_path / STATE_FILE).write_text('{"pid": 1, "since_then": "renamed"}')
    with DataFolder(tmp_path) as folder:
        assert folder.read() is None
        assert folder.end_strays() == []
    assert not (tmp_path / STATE_FILE).exists()


def test_the_state_file_is_for_its_owner_only(tmp_path: Path) -> None:
    with DataFolder(tmp_path) as folder:
        folder.write(RUNNING)
        assert stat.S_IMODE((tmp_path / STATE_FILE).stat().st_mode) == 0o600


def test_strays_of_a_killed_supervisor_are_ended(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as stray:
        created = identity(stray.pid)
        assert created is not None
        with DataFolder(tmp_path) as folder:
            folder.write(
                replace(RUNNING, children={"worker": stray.pid}, created={"worker": created})
            )
            assert folder.end_strays() == ["worker"]
        assert identity(stray.pid) is None


def test_a_reused_pid_is_left_alone(tmp_path: Path) -> None:
    with DataFolder(tmp_path) as folder:
        folder.write(replace(RUNNING, children={"worker": os.getpid()}, created={"worker": 1.0}))
        assert folder.end_strays() == []
