"""Postgres and Redis from wheels, run for real."""

import os
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
import redis

from infra.servers import Postgres, Redis, free_port, is_port_free
from infra.supervisor import Supervisor
from tests.stack import open_folder


@pytest.fixture
def folder() -> Iterator[Path]:
    with open_folder() as it:
        yield it


@contextmanager
def running(folder: Path) -> Iterator[tuple[Postgres, Redis, Supervisor]]:
    """Both servers in a folder, stopped at the end."""
    logs = folder / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    postgres = Postgres(folder / "postgres")
    cache = Redis(folder / "redis", free_port())
    supervisor = Supervisor(logs, lambda *_: None)
    try:
        supervisor.start([postgres.child(), cache.child()])
        yield postgres, cache, supervisor
    finally:
        supervisor.stop()
        postgres.close()


def test_both_servers_run_in_a_deep_folder_and_keep_postgres_data(folder: Path) -> None:
    deep = folder / "with a space" / ("d" * 120)
    with running(deep) as (postgres, cache, _):
        with psycopg.connect(postgres.url) as connection:
            connection.execute("CREATE TABLE kept AS SELECT 7 AS value")
            assert connection.execute("SHOW fsync").fetchone() == ("on",)
        with redis.Redis.from_url(cache.url) as client:
            client.set("forgotten", 1)
        socket_dir = postgres.socket_dir
        assert socket_dir.is_dir()
    assert not socket_dir.exists()
    assert not (deep / "postgres" / "postmaster.pid").exists()
    with running(deep) as (postgres, cache, _):
        with psycopg.connect(postgres.url) as connection:
            assert connection.execute("SELECT value FROM kept").fetchone() == (7,)
        with redis.Redis.from_url(cache.url) as client:
            assert client.get("forgotten") is None


def test_redis_refuses_those_without_its_password(folder: Path) -> None:
    with running(folder) as (_, cache, _), redis.Redis(port=cache.port) as stranger:
        with pytest.raises(redis.AuthenticationError):
            stranger.ping()
        config = folder / "redis" / "redis.conf"
        assert stat.S_IMODE(config.stat().st_mode) == 0o600


def test_postgres_starts_over_a_pid_file_of_a_dead_or_foreign_process(folder: Path) -> None:
    with running(folder) as (postgres, _, _):
        pid_file = (postgres.data_dir / "postmaster.pid").read_text()
    own = "\n".join([str(os.getpid()), *pid_file.splitlines()[1:]]) + "\n"
    (folder / "postgres" / "postmaster.pid").write_text(own)
    with running(folder) as (postgres, _, _):
        assert postgres.is_ready()


def test_a_port_in_use_is_not_free() -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        port = server.getsockname()[1]
        assert not is_port_free("127.0.0.1", port)
    assert is_port_free("127.0.0.1", free_port())
