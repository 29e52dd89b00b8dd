"""The Celery app: a postman that may lose, double or delay messages without harm.

Theory of operation: a message is a batch id on the queue named after the worker. Truth is in
Postgres: the task claims the batch or returns, and a batch whose message is lost is sent again by
the scheduler. So nothing here guarantees delivery, and everything here is about coming back: the
consumer reconnects for ever when the broker is killed, restarted or emptied.
"""

from collections.abc import Callable
from typing import Any

from celery import Celery
from celery.app.amqp import AMQP
from kombu.connection import Connection

from scheduler.core.messages import RUN_BATCH

VISIBILITY_TIMEOUT_S = 3600
"""A message unacknowledged this long is delivered again. Far above any batch, though a second
delivery would only find the batch claimed; rescue does not wait for it."""


class SteadyConnection(Connection):
    """Tries to connect again every second; kombu waits up to half a minute between attempts."""

    def ensure_connection(self, *args: Any, **options: Any) -> Any:
        """Connect, with the caller's options but a steady interval."""
        steady = {"interval_start": 1, "interval_step": 0, "interval_max": 1}
        return super().ensure_connection(  # type: ignore[no-untyped-call]
            *args, **(options | steady)
        )


class SteadyAMQP(AMQP):  # type: ignore[misc]
    """Makes the app's connections steady ones."""

    Connection = SteadyConnection


def create_app(
    redis_url: str, *, queue: str, num_threads: int, run_batch: Callable[[int], object]
) -> Celery:
    """Make the app of one worker.

    Args:
        queue: The worker's name.
        num_threads: Batches that run at once.
        run_batch: Solves a batch; must be safe to call for a batch that is not there to claim.
    """
    app = Celery("slackline", broker=redis_url, set_as_current=False, amqp=SteadyAMQP)
    app.conf.update(
        task_serializer="json",
        accept_content=["json"],
        task_ignore_result=True,
        task_acks_late=True,
        task_reject_on_worker_lost=True,
        # A fault is retried by the scheduler, with the time that is left, not by the broker.
        task_acks_on_failure_or_timeout=True,
        task_default_queue=queue,
        worker_pool="threads",
        worker_concurrency=num_threads,
        worker_prefetch_multiplier=1,
        worker_enable_remote_control=False,
        worker_send_task_events=False,
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
        # The batch goes on without the broker; its results go to Postgres.
        worker_cancel_long_running_tasks_on_connection_loss=False,
        broker_connection_retry=True,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_transport_options={
            "visibility_timeout": VISIBILITY_TIMEOUT_S,
            # Dead peers are noticed; without these a half-open connection waits for ever.
            "socket_keepalive": True,
            "socket_connect_timeout": 5,
            "health_check_interval": 10,
        },
    )

    @app.task(name=RUN_BATCH, ignore_result=True)  # type: ignore[untyped-decorator]
    def run(batch_id: int) -> None:
        run_batch(int(batch_id))

    return app
