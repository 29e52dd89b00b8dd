"""When a batch that could not be handled is tried again."""

from datetime import timedelta

from db.models import OpenaiBatch

_MAX_WAIT_S = 30.0


def retry_wait(batch: OpenaiBatch) -> timedelta:
    """How long others go first; doubles with every try, up to 30 seconds."""
    return timedelta(seconds=min(2.0 ** min(batch.epoch, 10), _MAX_WAIT_S))
