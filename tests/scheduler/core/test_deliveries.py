"""When a failed delivery is tried again."""

from hypothesis import given
from hypothesis import strategies as st

from scheduler.core.deliveries import OF_JOBS, WebhookKind, retry_delay_s
from scheduler.core.event_kinds import ENDS, EventKind

DELAYS_S = (5.0, 300.0, 1800.0)


@given(st.integers(1, 3), st.floats(0, 1, exclude_max=True))
def test_a_retry_comes_after_its_delay_stretched_by_a_fifth_at_most(
    num_attempts: int, draw: float
) -> None:
    delay_s = retry_delay_s(DELAYS_S, num_attempts, draw)
    assert delay_s is not None
    assert 1.0 <= delay_s / DELAYS_S[num_attempts - 1] <= 1.2


def test_after_the_last_delay_there_is_no_retry() -> None:
    assert retry_delay_s(DELAYS_S, 4, 0.5) is None
    assert retry_delay_s((), 1, 0.5) is None


def test_every_end_of_a_job_is_told_and_no_batch_of_a_worker() -> None:
    assert set(OF_JOBS) >= ENDS
    assert EventKind.BATCH_CANCELLED not in OF_JOBS
    assert {kind.value for kind in OF_JOBS.values()} == {
        kind.value for kind in WebhookKind if kind.value.startswith("job.")
    }
