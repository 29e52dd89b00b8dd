"""What can be seen of a process from outside: its log, its metrics and its traces."""

from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import disable_created_metrics, start_http_server
from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from api.client.errors import SlacklineError
from infra import logs, tracing
from infra.wrong_settings import naming_wrong_settings

METRICS_PORT = "SLACKLINE_METRICS_PORT"


class ObservedSettings(BaseSettings):
    """Read from the environment of the API, the scheduler and workers; `SLACKLINE_` plus the name.

    Traces are switched on by OpenTelemetry's own variables, see `infra.tracing`.

    Attributes:
        log_json: One JSON object per log line, for collectors.
        metrics_port: Where a scheduler or a worker serves its metrics; nowhere by default. The API
            has them under `/metrics`.
        metrics_host: Address to serve them on.
    """

    model_config = SettingsConfigDict(env_prefix="SLACKLINE_", env_ignore_empty=True)

    log_json: bool = False
    metrics_port: int | None = Field(default=None, ge=1, le=65535)
    metrics_host: str = "127.0.0.1"


@contextmanager
def observed(service: str, *, serves_metrics: bool = True) -> Iterator[None]:
    """Log, serve metrics and export spans, as the environment says, until the end of the block.

    Args:
        serves_metrics: False for a process that has another way to serve them.

    Raises:
        SlacklineError: A setting is wrong, or the port is taken.
    """
    settings = _settings()
    logs.configure(as_json=settings.log_json)
    port = settings.metrics_port if serves_metrics else None
    with tracing.exporting(f"slackline-{service}"), serving_metrics(settings.metrics_host, port):
        yield


def metrics_environments(num_processes: int) -> list[dict[str, str]]:
    """Environments for processes of one machine: each serves its metrics on the next port.

    Raises:
        SlacklineError: A setting is wrong.
    """
    first = _settings().metrics_port
    if first is None:
        return [{}] * num_processes
    return [{METRICS_PORT: str(first + number)} for number in range(num_processes)]


def _settings() -> ObservedSettings:
    with naming_wrong_settings():
        return ObservedSettings()


@contextmanager
def serving_metrics(host: str, port: int | None) -> Iterator[None]:
    """Serve this process's metrics until the end of the block; not at all without a port.

    Raises:
        SlacklineError: The port is taken.
    """
    # The instant at which each series began; nobody asks, and it doubles their number.
    disable_created_metrics()  # type: ignore[no-untyped-call]
    if port is None:
        yield
        return
    try:
        server, thread = start_http_server(port, host)
    except OSError as error:
        message = f"Metrics cannot be served on {host}:{port} ({error.strerror})."
        raise SlacklineError(
            f"{message} Set {METRICS_PORT} to a free port.", code="port_taken"
        ) from None
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
