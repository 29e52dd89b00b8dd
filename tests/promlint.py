"""What `promtool check metrics` says of a metrics page, and our own rules of labels.

The rules are those of Prometheus' naming practices (https://prometheus.io/docs/practices/naming/)
as the promlint package of client_golang has them, by name of its rule.
"""

import re
from collections.abc import Iterator

from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

_BASE_OF = {
    **dict.fromkeys(("minutes", "hours", "days", "weeks", "milliseconds"), "seconds"),
    **dict.fromkeys(("microseconds", "nanoseconds"), "seconds"),
    **dict.fromkeys(("bits", "kilobytes", "megabytes", "gigabytes", "kibibytes"), "bytes"),
    **dict.fromkeys(("mebibytes", "gibibytes"), "bytes"),
    **dict.fromkeys(("percent", "percents", "percentage"), "ratio"),
    **dict.fromkeys(("fahrenheit", "kelvin"), "celsius"),
}
_ABBREVIATIONS = {"s", "ms", "us", "ns", "sec", "b", "kb", "mb", "gb", "tb", "pb", "m", "h", "d"}
_TYPES = ("counter", "gauge", "histogram", "summary", "untyped")
_SNAKE_CASE = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")

LABELS = {"method", "route", "status", "state", "deadline", "verdict", "reason", "outcome"} | {
    "finish_reason",
    "grade",
    "event",
}
"""Labels whose values are bounded: words of ours, or route templates. No tenant, job or batch."""
INFO_LABELS = {"worker", "model", "engine"}
MAX_SERIES = 5_000
"""Of one process; Prometheus takes millions of all."""


def problems_of(page: str) -> list[str]:
    """What is wrong with a metrics page; one line each."""
    families = list(text_string_to_metric_families(page))
    found = [f"{family.name}: {what}" for family in families for what in _problems(family)]
    names = [line.split()[2] for line in page.splitlines() if line.startswith("# TYPE ")]
    found += [f"{name}: declared twice" for name in sorted(set(names)) if names.count(name) > 1]
    num_series = sum(len(family.samples) for family in families)
    if num_series > MAX_SERIES:
        found.append(f"{num_series} series")
    return found


def _problems(family: Metric) -> Iterator[str]:
    words = family.name.split("_")
    if not family.documentation.strip():
        yield "no help text (Help)"
    for word in words:
        if word in _BASE_OF:
            yield f"use base unit '{_BASE_OF[word]}' instead of '{word}' (MetricUnits)"
        if word in _ABBREVIATIONS:
            yield f"abbreviated unit '{word}' (UnitAbbreviations)"
        if word in _TYPES:
            yield f"type '{word}' in the name (MetricTypeInName)"
    if not _SNAKE_CASE.fullmatch(family.name):
        yield "not in snake_case (CamelCase, ReservedChars)"
    names = {sample.name for sample in family.samples}
    if family.type == "counter" and names - {f"{family.name}_total"}:
        yield "a counter that does not end in _total (Counter)"
    if family.type != "counter" and family.name.endswith("_total"):
        yield "ends in _total and is no counter (Counter)"
    if family.type != "histogram" and family.name.endswith(("_bucket", "_count", "_sum")):
        yield "named like a part of a histogram (HistogramSummaryReserved)"
    yield from _problems_of_labels(family)


def _problems_of_labels(family: Metric) -> Iterator[str]:
    seen = set()
    for sample in family.samples:
        labels = dict(sample.labels)
        if family.type == "histogram" and sample.name.endswith("_bucket"):
            if "le" not in labels:
                yield "a bucket without le (HistogramSummaryReserved)"
            labels.pop("le", None)
        if family.name.startswith("slackline_"):
            known = LABELS | INFO_LABELS if family.name.endswith("_info") else LABELS
            for name in labels.keys() - known:
                yield f"label '{name}' is not known to be bounded"
        elif labels.keys() & {"le", "quantile", "job", "instance"}:
            yield "a label that is reserved"
        key = (sample.name, tuple(sorted(sample.labels.items())))
        if key in seen:
            yield f"duplicate series {key}"
        seen.add(key)
