"""The Python client: submit a problem set, follow it, read answers and reports."""

import time
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

from api.client import calls, control_calls, webhook_calls
from api.client.errors import SlacklineError
from api.client.methods import documented
from api.client.requests import Call, Pages, Stream
from api.client.shapes import END_KINDS, TERMINAL_STATES, Event, Job
from api.client.transport import Server, Transport

P = ParamSpec("P")
T = TypeVar("T")


def _answer(describe: Callable[P, Call[T]]) -> Callable[Concatenate[Any, P], T]:
    def method(self: "Client", /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self._transport.answer(describe(*args, **kwargs))

    return documented(describe, method)


def _items(describe: Callable[P, Pages[T]]) -> Callable[Concatenate[Any, P], Iterator[T]]:
    def method(self: "Client", /, *args: P.args, **kwargs: P.kwargs) -> Iterator[T]:
        return self._transport.items(describe(*args, **kwargs))

    return documented(describe, method, Iterator)


def _stream(describe: Callable[P, Stream[T]]) -> Callable[Concatenate[Any, P], Iterator[T]]:
    def method(self: "Client", /, *args: P.args, **kwargs: P.kwargs) -> Iterator[T]:
        return self._transport.stream(describe(*args, **kwargs))

    return documented(describe, method, Iterator)


class Client:
    """Talks to one Slackline server. Thread-safe; close it or use it in a `with` statement.

    What each method asks, takes and raises is described in `api.client.calls`. `AsyncClient` has
    the same methods.

    Args:
        base_url: Defaults to `SLACKLINE_URL`, then to the embedded mode's address.
        api_key: Defaults to `SLACKLINE_API_KEY`, then to the embedded mode's key.
        timeout_s: Longest wait for a part of one response.
        retry_for_s: How long to go on trying while the server cannot be reached, stops or asks
            for a pause.
    """

    def __init__(
        self,
        base_url: str | None = None,
        api_key: str | None = None,
        *,
        timeout_s: float = 60.0,
        retry_for_s: float = 10.0,
    ) -> None:
        self._transport = Transport(Server(base_url, api_key, timeout_s, retry_for_s))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._transport.close()

    submit = _answer(calls.submit)
    quote = _answer(calls.quote)
    explain = _answer(calls.explain)
    job = _answer(calls.job)
    jobs = _items(calls.jobs)
    results = _stream(calls.results)
    grades = _stream(calls.grades)
    grade_book = _stream(calls.grade_book)
    events = _items(calls.events)
    change = _answer(control_calls.change)
    retry = _answer(control_calls.retry)
    cancel = _answer(calls.cancel)
    cost = _answer(calls.cost)
    report = _answer(calls.report)
    comparison = _answer(calls.comparison)
    workers = _answer(calls.workers)
    create_webhook = _answer(webhook_calls.create_webhook)
    webhook = _answer(webhook_calls.webhook)
    webhooks = _answer(webhook_calls.webhooks)
    change_webhook = _answer(webhook_calls.change_webhook)
    rotate_webhook_secret = _answer(webhook_calls.rotate_webhook_secret)
    delete_webhook = _answer(webhook_calls.delete_webhook)
    deliveries = _items(webhook_calls.deliveries)
    redeliver = _answer(webhook_calls.redeliver)
    redeliver_dead = _answer(webhook_calls.redeliver_dead)

    def follow(self, job_id: str, *, after: int = 0) -> Iterator[Event]:
        """Events of the job as they come, its last one last; `job.progress` tells how far it is.

        A stream that breaks off is taken up again behind its last event.

        Args:
            after: Id of the last event that you have.
        """
        while True:
            is_silent = True
            events = control_calls.event_stream(job_id, after)
            try:
                for event in self._transport.stream(events):
                    after, is_silent = event["id"] or after, False
                    yield event
                    if event["kind"] in END_KINDS:
                        return
            except SlacklineError as error:
                if is_silent or error.code != "connection_error":
                    raise
            if is_silent and self.job(job_id)["state"] in TERMINAL_STATES:
                return

    def watch(self, job_id: str, *, poll_s: float = 0.5) -> Iterator[Job]:
        """The job as it changes, its final state last."""
        while True:
            job = self.job(job_id)
            yield job
            if job["state"] in TERMINAL_STATES:
                return
            time.sleep(poll_s)

    def wait(self, job_id: str, *, poll_s: float = 0.5) -> Job:
        """The job once it has ended."""
        return list(self.watch(job_id, poll_s=poll_s))[-1]
