"""The only words that processes share on the wire."""

RUN_BATCH = "slackline.run_batch"
"""Celery task that solves one batch; its one argument is the batch id."""

WAKE_CHANNEL = "slackline_wake"
"""Postgres channel that asks the scheduler for a tick; the payload is empty."""

EVENT_CHANNEL = "slackline_events"
"""Postgres channel that says that events were stored; the payload is empty."""
