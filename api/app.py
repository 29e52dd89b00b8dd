"""Builds the HTTP application: store, routes, errors and metrics."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Any

from fastapi import FastAPI
from prometheus_client import CollectorRegistry, Gauge, ProcessCollector

from api import errors
from api.examples import add_examples
from api.feed import Feed
from api.openai.clerk import Clerk
from api.page import routes as page
from api.rate_limits import RateLimits
from api.rehearsal import rehearsing
from api.routes import (
    batches,
    changes,
    costs,
    events,
    files,
    grades,
    health,
    jobs,
    keys,
    metrics,
    quotes,
    refusals,
    reports,
    results,
    tenant,
    timelines,
    webhooks,
    workers,
)
from api.schemas.openapi import body_schemas
from api.schemas.operations import ErrorOut
from api.schemas.submission import submission_schemas
from api.settings import ApiSettings
from api.telemetry import RequestMetrics, Telemetry
from api.verdicts import SUBMISSIONS
from api.webhooks.deliverer import Deliverer
from api.webhooks.metrics import DeliveryMetrics
from db.session import connect, session_factory

_TAGS = [
    {"name": "jobs", "description": "Submit problem sets with a deadline and follow them."},
    {"name": "events", "description": "What happens to jobs, as pages or as a live stream."},
    {"name": "files", "description": "Files for batches and of them, as in the OpenAI API."},
    {"name": "batches", "description": "Files of requests, as in the OpenAI API."},
    {"name": "quotes", "description": "Ask what a deadline would buy before submitting."},
    {"name": "results", "description": "Answers, votes and latency traces."},
    {"name": "grades", "description": "The grade book: answers of others and ours, graded."},
    {"name": "reports", "description": "Latency and attainment over time."},
    {"name": "webhooks", "description": "Be told of the ends of jobs and batches."},
    {"name": "keys", "description": "Keys of your tenant, for a key with the scope `admin`."},
    {"name": "workers", "description": "Who serves which model."},
    {"name": "operations", "description": "Health and metrics; no key needed."},
]
_KEYED: dict[int | str, dict[str, Any]] = {
    400: {"model": ErrorOut, "description": "A parameter is invalid; `param` names it."},
    401: {"model": ErrorOut, "description": "The API key is missing, unknown or not in force."},
    403: {"model": ErrorOut, "description": "The API key lacks a scope; `scope` names it."},
    429: {"model": ErrorOut, "description": "Too many requests; `Retry-After` says when to."},
    503: {
        "model": ErrorOut,
        "description": "`store_unavailable`: the database does not answer; or `server_busy`: too"
        " many requests at once. `Retry-After` says when to retry.",
    },
}

_UNTRACED = ("/healthz", "/readyz", "/metrics")
"""What is asked every few seconds for ever."""


def create_app(settings: ApiSettings) -> FastAPI:
    """An application on the store of `settings`; the store need not answer yet."""
    engine = connect(settings.database_url, pool_size=settings.pool_size)
    registry = CollectorRegistry()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        deliverer = Deliverer(app.state.sessions, settings.webhooks, deliveries)
        rehearsals = rehearsing(app.state.sessions, settings.scheduler)
        async with deliverer.running(), rehearsals:
            with app.state.clerk.running(), app.state.feed.running():
                yield
        # A cancelled task leaves its thread behind, whose connection must find its pool.
        await asyncio.get_running_loop().shutdown_default_executor()
        engine.dispose()

    app = _Application(
        title="Slackline",
        version=version("slackline"),
        summary="Answers problem sets with a language model by a deadline.",
        openapi_tags=_TAGS,
        lifespan=lifespan,
        redirect_slashes=False,
        # Each request has a span when the process exports spans; see `db.tracing`.
        telemetry={
            "operation_spans": False,
            "metrics": False,
            "logs": False,
            "auto_configure": False,
            "exclude": lambda scope: scope["path"] in _UNTRACED,
        },
    )
    app.state.settings = settings
    app.state.sessions = session_factory(engine)
    app.state.rate_limits = RateLimits(settings)
    app.state.turns = asyncio.Semaphore(max(1, settings.pool_size // 2))
    app.state.clerk = Clerk(app.state.sessions, settings)
    app.state.feed = Feed(
        app.state.sessions, settings.database_url, max_followers=settings.max_streams
    )
    app.state.registry = registry
    ProcessCollector(registry=registry)
    registry.register(SUBMISSIONS)
    streams = Gauge("slackline_event_streams", "Open streams of events.", registry=registry)
    streams.set_function(lambda: app.state.feed.num_followers)
    deliveries = DeliveryMetrics(registry)
    worker_timeout_s = settings.scheduler.worker_timeout_s
    registry.register(metrics.StoreCollector(app.state.sessions, worker_timeout_s=worker_timeout_s))
    app.add_middleware(Telemetry, metrics=RequestMetrics(registry))
    errors.install(app)
    for noun in (
        jobs,
        changes,
        costs,
        events,
        files,
        batches,
        grades,
        quotes,
        refusals,
        results,
        timelines,
        reports,
        webhooks,
        workers,
        tenant,
        keys,
    ):
        app.include_router(noun.router, responses=_KEYED)
    for operation in (health, metrics, page):
        app.include_router(operation.router)
    return app


class _Application(FastAPI):
    """An application whose OpenAPI document tells of its own validation errors only."""

    def openapi(self) -> dict[str, Any]:
        """The document without FastAPI's 422, in whose place stands a 400 with the envelope."""
        if self.openapi_schema is None:
            document = super().openapi()
            for methods in document["paths"].values():
                for operation in methods.values():
                    if "HTTPValidationError" in str(operation["responses"].get("422")):
                        del operation["responses"]["422"]
            schemas = document["components"]["schemas"]
            for name in ("HTTPValidationError", "ValidationError"):
                schemas.pop(name, None)
            # Bodies are read by `api.body`, so FastAPI does not know their parts.
            schemas |= submission_schemas() | body_schemas()
            add_examples(document)
        return super().openapi()
