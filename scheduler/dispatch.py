"""Sends batches to workers: the only `send_task` of Slackline.

A message is a hint, Postgres is the truth: it carries a batch id and nothing else. Publishing
never retries and waits half a second at most for the broker, so that a dead Redis cannot hold up
a tick. A message that was lost is sent again by a later tick; a doubled one finds its batch
claimed.
"""

from collections.abc import Callable

import structlog
from celery import Celery
from kombu.exceptions import KombuError, OperationalError

from scheduler.core.messages import RUN_BATCH

_log = structlog.get_logger(__name__)

Send = Callable[[str, int], bool]
"""Tell the worker of this name to run this batch; False when the broker did not take it."""

_BROKER_TIMEOUT_S = 0.5
"""A broker on the same network answers in a millisecond."""


def celery_sender(redis_url: str) -> Send:
    """A sender that publishes on the worker's own queue; failures are logged."""
    app = Celery("slackline.scheduler", broker=redis_url, set_as_current=False)
    app.conf.update(
        task_serializer="json",
        accept_content=["json"],
        task_ignore_result=True,
        task_publish_retry=False,
        broker_connection_timeout=_BROKER_TIMEOUT_S,
        broker_transport_options={
            "socket_timeout": _BROKER_TIMEOUT_S,
            "socket_connect_timeout": _BROKER_TIMEOUT_S,
            "max_retries": 0,
        },
    )

    def send(worker_name: str, batch_id: int) -> bool:
        try:
            app.send_task(RUN_BATCH, args=[batch_id], queue=worker_name, retry=False)
        except (KombuError, OperationalError, OSError) as error:
            _log.warning("batch.not_sent", batch_id=batch_id, worker=worker_name, error=str(error))
            return False
        return True

    return send
