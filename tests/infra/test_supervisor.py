"""The supervisor on real, small child processes."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from infra.processes import ChildSpec
from infra.restarts import RestartPolicy
from infra.supervisor import StackFailedError, Supervisor

ROOT = Path(__file__).parents[2]
SLEEPER = "import time; print('hello', flush=True); time.sleep(60)"
POLICY = RestartPolicy(max_deaths=3, window_s=30.0, first_delay_s=0.01, max_delay_s=0.01)


def child(name: str, code: str, is_ready: Callable[[], bool] = lambda: True) -> ChildSpec:
    return ChildSpec(
        name=name,
        argv=(sys.executable, "-c", code),
        is_ready=is_ready,
        ready_timeout_s=1.0,
        grace_s=0.5,
    )


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def supervisor(tmp_path: Path, said: list[str]) -> Iterator[Supervisor]:
    it = Supervisor(tmp_path, lambda name, line: said.append(f"{name}: {line}"), POLICY)
    yield it
    it.stop()


def pid_of(supervisor: Supervisor) -> int:
    pid = supervisor.children[0].pid
    assert pid is not None
    return pid


def tick_until(supervisor: Supervisor, condition: Callable[[], bool]) -> None:
    give_up_at = time.monotonic() + 10.0
    while not condition():
        assert time.monotonic() < give_up_at
        supervisor.tick()
        time.sleep(0.01)


def test_start_returns_when_every_child_is_ready(supervisor: Supervisor, said: list[str]) -> None:
    assert supervisor.start([child("one", SLEEPER), child("two", SLEEPER)])
    assert all(psutil.pid_exists(each.pid) for each in supervisor.children if each.pid)
    assert {line.split(":")[0] for line in said} == {"one", "two"}


def test_a_killed_child_is_restarted(supervisor: Supervisor, said: list[str]) -> None:
    supervisor.start([child("one", SLEEPER)])
    first = pid_of(supervisor)
    os.kill(first, signal.SIGKILL)
    tick_until(supervisor, lambda: pid_of(supervisor) != first)
    assert psutil.pid_exists(pid_of(supervisor))
    assert any("was killed by SIGKILL; restarting" in line for line in said)


def test_a_child_that_exits_during_its_first_start_ends_the_run(supervisor: Supervisor) -> None:
    broken = child("broken", "raise SystemExit('no such model')", is_ready=lambda: False)
    broken = replace(broken, ready_timeout_s=30.0)
    with pytest.raises(StackFailedError, match=r"(?s)exited with code 1 during.*no such model"):
        supervisor.start([broken])


def test_a_child_that_keeps_dying_ends_the_run(supervisor: Supervisor) -> None:
    supervisor.start([child("one", SLEEPER)])

    def kill() -> bool:
        with suppress(ProcessLookupError):
            os.kill(pid_of(supervisor), signal.SIGKILL)
        return False

    with pytest.raises(StackFailedError, match="3 times within 30 s"):
        tick_until(supervisor, kill)


def test_a_child_that_never_gets_ready_ends_the_run(supervisor: Supervisor, tmp_path: Path) -> None:
    log = tmp_path / "slow.log"

    def says_hello_only() -> bool:
        while "hello" not in log.read_text():
            time.sleep(0.01)
        return False

    with pytest.raises(StackFailedError, match=r"(?s)did not get ready in time.*hello"):
        supervisor.start([child("slow", SLEEPER, is_ready=says_hello_only)])


def test_a_requested_stop_ends_a_start(supervisor: Supervisor) -> None:
    supervisor.request_stop()
    assert not supervisor.start([child("one", SLEEPER, is_ready=lambda: False)])


def test_a_server_outlives_the_children_that_were_started_after_it(
    supervisor: Supervisor, tmp_path: Path
) -> None:
    ends = tmp_path / "ends"
    slow_to_leave = f"""
import signal, sys, time
def leave(*_):
    time.sleep(float(sys.argv[1]))
    print(sys.argv[2], file=open({str(ends)!r}, "a"))
    raise SystemExit
signal.signal(signal.SIGTERM, leave)
print("listening", flush=True)
time.sleep(60)
"""

    def leaver(name: str, delay_s: float) -> ChildSpec:
        log = tmp_path / f"{name}.log"
        spec = child(name, slow_to_leave, is_ready=lambda: "listening" in log.read_text())
        return replace(spec, argv=(*spec.argv, str(delay_s), name), ready_timeout_s=10, grace_s=5)

    supervisor.start([leaver("server", 0.0)])
    supervisor.start([leaver("client", 0.3)])
    supervisor.stop()
    assert ends.read_text().split() == ["client", "server"]


def test_stop_kills_what_ignores_the_signal_and_its_whole_session(supervisor: Supervisor) -> None:
    stubborn = (
        "import os, signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
        "grandchild = os.fork(); print('mine', os.getpid(), flush=True); time.sleep(60)"
    )
    supervisor.start([child("stubborn", stubborn)])
    log = supervisor.children[0].log_path
    tick_until(supervisor, lambda: log.read_text().count("mine") == 2)
    pids = [int(line.split()[1]) for line in log.read_text().splitlines()]
    supervisor.stop()
    assert not any(is_alive(pid) for pid in pids)


@pytest.mark.skipif(sys.platform != "linux", reason="PR_SET_PDEATHSIG is Linux")
def test_children_do_not_outlive_a_killed_supervisor(tmp_path: Path) -> None:
    script = f"""
import sys, time
from pathlib import Path
from infra.processes import Child, ChildSpec
child = Child(
    ChildSpec(name="one", argv=(sys.executable, "-c", {SLEEPER!r}), is_ready=lambda: True),
    Path({str(tmp_path / "one.log")!r}),
)
child.start()
print(child.pid, flush=True)
time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        give_up_at = time.monotonic() + 10.0
        while "hello" not in (tmp_path / "one.log").read_text():
            assert time.monotonic() < give_up_at
            time.sleep(0.01)
        assert is_alive(pid)
        parent.kill()
    while is_alive(pid):
        assert time.monotonic() < give_up_at
        time.sleep(0.01)


@pytest.mark.skipif(sys.platform != "linux", reason="PR_SET_PDEATHSIG is Linux")
def test_servers_of_the_tests_do_not_outlive_a_killed_pytest(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text("from tests.conftest import *\n")
    pids = tmp_path / "pids"
    (tmp_path / "test_it.py").write_text(f"""
import os, time
from pathlib import Path
import psutil
def test_it(postgres_url, redis_server_url):
    children = psutil.Process().children(recursive=True)
    Path({str(pids)!r} + ".part").write_text(" ".join(str(child.pid) for child in children))
    Path({str(pids)!r} + ".part").rename({str(pids)!r})
    time.sleep(60)
""")
    run = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", str(tmp_path / "test_it.py")]
    options = ["--rootdir", str(tmp_path), "-c", os.devnull]
    with subprocess.Popen([*run, *options], cwd=ROOT, stdout=subprocess.DEVNULL) as parent:
        give_up_at = time.monotonic() + 60.0
        while not pids.exists():
            assert parent.poll() is None
            assert time.monotonic() < give_up_at
            time.sleep(0.05)
        parent.kill()
    children = [int(pid) for pid in pids.read_text().split()]
    assert len(children) >= 2
    while any(is_alive(pid) for pid in children):
        assert time.monotonic() < give_up_at
        time.sleep(0.05)


def is_alive(pid: int) -> bool:
    """Whether it runs; an orphan that nobody waits for may stay as a zombie."""
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
