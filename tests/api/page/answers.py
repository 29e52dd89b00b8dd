"""What the API answered to a tab, and whether all that the tab shows is in it."""

from collections.abc import Iterator
from datetime import datetime
from typing import Any
from urllib.parse import parse_qs, urlsplit

from playwright.sync_api import Page, Response

_DERIVED = {
    "took_s": ("created_at", "finished_at"),
    "before_s": ("finished_at", "deadline_at"),
}
"""Seconds between two instants of a job."""
_FORECASTS = {
    "admitted_s": ("admitted", "finish_at"),
    "admitted_p95_s": ("admitted", "finish_p95_at"),
    "predicted_s": ("predicted", "finish_at"),
    "predicted_p95_s": ("predicted", "finish_p95_at"),
}
"""Seconds from a job's submission to an instant of a forecast."""


class Answers:
    """The documents that one view reads, the latest of each address; made before it is opened.

    A browser keeps a document until the tab goes elsewhere, so look while the view is open.
    """

    def __init__(self, page: Page) -> None:
        self._responses: dict[str, Response] = {}
        page.on("response", self._keep)

    def _keep(self, response: Response) -> None:
        if "/v1/" in response.url and response.ok:
            self._responses[response.url] = response

    def _documents(self) -> dict[str, Any]:
        # Reading one lets others arrive.
        return {
            url: response.json()
            for url, response in list(self._responses.items())
            if response.headers.get("content-type", "").startswith("application/json")
        }

    def reports(self, name: str, **query: str | None) -> Any:
        """The report that was asked with these parameters; None is one that was not given."""
        for url, document in self._documents().items():
            parts = urlsplit(url)
            asked = {key: values[0] for key, values in parse_qs(parts.query).items()}
            if parts.path == f"/v1/reports/{name}" and all(
                asked.get(key) == value for key, value in query.items()
            ):
                return document
        raise AssertionError((name, query, list(self._responses)))

    def numbers(self) -> dict[str, set[float]]:
        """Every number that was answered, by the last name of its path, and all under ""."""
        found: dict[str, set[float]] = {"": set()}
        for document in self._documents().values():
            for name, value in _leaves(document):
                for key in {"", name, name.rpartition(".")[2]}:
                    found.setdefault(key, set()).add(value)
            for job in _jobs(document):
                for name, value in _of_job(job):
                    found.setdefault(name, set()).add(value)
                    found[""].add(value)
        return found


def _leaves(value: Any, path: str = "") -> Iterator[tuple[str, float]]:
    """Numbers with the last two names of their paths, entries of lists as their list."""
    if isinstance(value, dict):
        for name, part in value.items():
            yield from _leaves(part, f"{path.rpartition('.')[2]}.{name}" if path else name)
    elif isinstance(value, list):
        for part in value:
            yield from _leaves(part, path)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield path, float(value)


def _jobs(document: Any) -> list[dict[str, Any]]:
    listed = document.get("data", []) if isinstance(document, dict) else []
    return [each for each in (document, *listed) if isinstance(each, dict) and "progress" in each]


def _of_job(job: dict[str, Any]) -> Iterator[tuple[str, float]]:
    """What the page works out of a job's own values."""
    progress = job["progress"]
    yield (
        "num_done",
        float(sum(progress[s] for s in ("answered", "expired", "failed", "cancelled"))),
    )
    took_s = None
    for name, (first, last) in _DERIVED.items():
        if job[first] and job[last]:
            yield name, _between(job[first], job[last])
    if job["finished_at"]:
        took_s = _between(job["created_at"], job["finished_at"])
    for name, (forecast, at) in _FORECASTS.items():
        if job[forecast]:
            predicted_s = _between(job["created_at"], job[forecast][at])
            yield name, predicted_s
            if name == "admitted_s" and took_s is not None:
                yield "off_s", took_s - predicted_s
        if job[forecast] and forecast == "admitted":
            yield "admitted_accuracy", job[forecast]["accuracy"]
        elif job[forecast]:
            yield "predicted_accuracy", job[forecast]["accuracy"]
    if job["accuracy"] is not None:
        yield "accuracy_off", job["accuracy"] - job["admitted"]["accuracy"]


def _between(first: str, last: str) -> float:
    """Seconds, from instants as a browser has them: of whole milliseconds."""
    since, until = (datetime.fromisoformat(each) for each in (first, last))
    millis = [1000 * int(at.timestamp()) + at.microsecond // 1000 for at in (since, until)]
    return (millis[1] - millis[0]) / 1000
