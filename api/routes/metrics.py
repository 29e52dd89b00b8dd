"""Prometheus metrics; gauges are read from the store at each scrape. No tenant labels."""

from collections.abc import Iterable, Iterator

from fastapi import APIRouter, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST, Metric, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector
from sqlalchemy.exc import SQLAlchemyError

from api.dependencies import utc_now
from db import gauges
from db.session import SessionFactory, transaction
from scheduler.core.states import JOB_TRANSITIONS, JobState, terminal_states

router = APIRouter(tags=["operations"])

_LIVE = tuple(state for state in JobState if state not in terminal_states(JOB_TRANSITIONS))


class StoreCollector(Collector):
    """Reads the store's gauges when Prometheus asks."""

    def __init__(self, sessions: SessionFactory, *, worker_timeout_s: float) -> None:
        self._sessions = sessions
        self._worker_timeout_s = worker_timeout_s

    def describe(self) -> Iterable[Metric]:
        """Nothing: registering must not touch the store."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """All gauges, or only `slackline_store_up` 0 while the store does not answer."""
        up = GaugeMetricFamily("slackline_store_up", "Whether Postgres answered this scrape.")
        try:
            with transaction(self._sessions) as session:
                read = gauges.read_gauges(
                    session, worker_timeout_s=self._worker_timeout_s, now=utc_now()
                )
        except SQLAlchemyError:
            up.add_metric((), 0)
            yield up
            return
        up.add_metric((), 1)
        yield up
        yield GaugeMetricFamily(
            "slackline_pending_problems",
            "Problems of live jobs that no worker holds.",
            value=read.num_pending_problems,
        )
        jobs = GaugeMetricFamily("slackline_live_jobs", "Unfinished jobs.", labels=("state",))
        for state in _LIVE:
            jobs.add_metric((state.value,), read.num_live_jobs.get(state.value, 0))
        yield jobs
        yield GaugeMetricFamily(
            "slackline_jobs_at_risk",
            "Live jobs whose promised deadline is at risk.",
            value=read.num_jobs_at_risk,
        )
        yield GaugeMetricFamily(
            "slackline_live_workers",
            "Workers with a recent heartbeat.",
            value=read.num_workers,
        )
        yield GaugeMetricFamily(
            "slackline_pending_webhook_deliveries",
            "Events on their way to webhooks: not sent yet, or waiting for another attempt.",
            value=read.num_pending_deliveries,
        )
        slack = GaugeMetricFamily(
            "slackline_min_slack_seconds",
            "Least slack of a live job: deadline less predicted finish; absent without a job.",
        )
        if read.min_slack_s is not None:
            slack.add_metric((), read.min_slack_s)
        yield slack


@router.get("/metrics", summary="Prometheus metrics", response_class=Response)
def metrics(request: Request) -> Response:
    """The text format."""
    return Response(generate_latest(request.app.state.registry), media_type=CONTENT_TYPE_LATEST)
