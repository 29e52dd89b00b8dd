"""The message on the wire, and a broker that is away."""

import json
import socket
import time

import pytest
import redis

from infra.servers import free_port
from scheduler.dispatch import celery_sender


def test_a_message_is_a_task_name_and_a_batch_id_on_the_workers_queue(redis_url: str) -> None:
    assert celery_sender(redis_url)("w1", 42)
    with redis.Redis.from_url(redis_url) as client:
        queued = client.lrange("w1", 0, -1)
    assert isinstance(queued, list)
    (message,) = map(json.loads, queued)
    assert message["headers"]["task"] == "slackline.run_batch"
    assert message["content-type"] == "application/json"


def test_messages_flow_again_after_redis_was_flushed(redis_url: str) -> None:
    send = celery_sender(redis_url)
    with redis.Redis.from_url(redis_url) as client:
        assert send("w1", 1)
        client.flushall()
        assert send("w1", 2)
        assert client.llen("w1") == 1


def test_a_refused_connection_fails_at_once() -> None:
    began_s = time.monotonic()
    assert not celery_sender(f"redis://127.0.0.1:{free_port()}/0")("w1", 1)
    assert time.monotonic() - began_s < 5


@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
def test_a_broker_that_does_not_answer_is_given_up_quickly() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        began_s = time.monotonic()
        assert not celery_sender(f"redis://127.0.0.1:{silent.getsockname()[1]}/0")("w1", 1)
        assert time.monotonic() - began_s < 5
