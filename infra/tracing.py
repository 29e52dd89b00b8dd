"""Exports spans of a process by OTLP, as OpenTelemetry's own environment variables say."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import structlog
from opentelemetry import trace

from db.tracing import wanted_span_id

_log = structlog.get_logger(__name__)

_SWITCHES = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
_PROTOCOL = "http/protobuf"

_FLUSH_LIMIT_S = 2.0
"""A process that stops waits so long for a collector that is slow or away."""


@contextmanager
def exporting(service: str) -> Iterator[None]:
    """Export spans until the end of the block, if an endpoint is set; near-free otherwise.

    What cannot be exported is lost, and the process serves on: it warns when the extra `otel` is
    not installed, or the protocol is another one than OTLP over HTTP.

    Args:
        service: `service.name` of the spans, unless `OTEL_SERVICE_NAME` is set.
    """
    trouble = _trouble()
    if trouble is not None:
        _log.warning("tracing.off", reason=trouble)
    if trouble is not None or not _is_wanted():
        yield
        return
    # Half a second and 20 MB, which only those pay who want it.
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import SERVICE_NAME, Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor
    from opentelemetry.sdk.trace.id_generator import RandomIdGenerator

    class Ids(RandomIdGenerator):
        """Random ids, but for the span of a job: others know its id before it is recorded."""

        def generate_span_id(self) -> int:
            return wanted_span_id.get() or super().generate_span_id()

    provider = TracerProvider(
        resource=Resource.create({SERVICE_NAME: os.environ.get("OTEL_SERVICE_NAME", service)}),
        id_generator=Ids(),
        shutdown_on_exit=False,
    )
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)
    try:
        yield
    finally:
        # Its own time limit is that of an export, which supervisors do not wait for.
        flush = threading.Thread(target=provider.shutdown, name="flush", daemon=True)
        flush.start()
        flush.join(_FLUSH_LIMIT_S)


def _is_wanted() -> bool:
    is_disabled = os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true"
    is_none = os.environ.get("OTEL_TRACES_EXPORTER", "").lower() == "none"
    return any(map(os.environ.get, _SWITCHES)) and not is_disabled and not is_none


def _trouble() -> str | None:
    """Why spans that are wanted cannot be exported."""
    if not _is_wanted():
        return None
    protocol = next(filter(None, map(os.environ.get, _PROTOCOLS)), _PROTOCOL)
    if protocol != _PROTOCOL:
        return f"the protocol is {protocol}: set {_PROTOCOLS[1]}={_PROTOCOL}"
    try:
        import opentelemetry.exporter.otlp.proto.http
        import opentelemetry.sdk  # noqa: F401
    except ModuleNotFoundError:
        return "OpenTelemetry is not installed here: pip install 'slackline[otel]'"
    return None
