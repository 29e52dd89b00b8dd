"""What the environment may say of logs, metrics and traces."""

import socket

import pytest
from opentelemetry import trace
from structlog.testing import capture_logs

from api.client.errors import SlacklineError
from infra.observed import metrics_environments, serving_metrics
from infra.tracing import exporting


def test_each_process_of_a_machine_has_a_metrics_port_of_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("SLACKLINE_METRICS_PORT", raising=False)
    assert metrics_environments(2) == [{}, {}]
    monkeypatch.setenv("SLACKLINE_METRICS_PORT", "9464")
    ports = [environment["SLACKLINE_METRICS_PORT"] for environment in metrics_environments(3)]
    assert ports == ["9464", "9465", "9466"]


@pytest.mark.parametrize("port", ["many", "0", "65536"])
def test_a_wrong_port_is_named(monkeypatch: pytest.MonkeyPatch, port: str) -> None:
    monkeypatch.setenv("SLACKLINE_METRICS_PORT", port)
    with pytest.raises(SlacklineError, match="SLACKLINE_METRICS_PORT"):
        metrics_environments(1)


def test_a_port_that_is_taken_is_refused_with_what_to_do() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as taken,
        pytest.raises(SlacklineError, match="Set SLACKLINE_METRICS_PORT to a free port"),
        serving_metrics("127.0.0.1", taken.getsockname()[1]),
    ):
        pass


@pytest.mark.parametrize(
    ("variable", "value", "warning"),
    [
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc", "set OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf"),
        ("OTEL_SDK_DISABLED", "true", None),
        ("OTEL_TRACES_EXPORTER", "none", None),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "", None),
    ],
)
def test_a_process_serves_on_without_traces(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, warning: str | None
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
    monkeypatch.setenv(variable, value)
    with capture_logs() as logs, exporting("slackline-test"):
        assert isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider)
    reasons = [line["reason"] for line in logs if line["event"] == "tracing.off"]
    assert len(reasons) == (warning is not None)
    assert warning is None or warning in reasons[0]
