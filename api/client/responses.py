"""What comes back: JSON or a `SlacklineError`, and whether the same again may do better."""

from typing import Any

import httpx
from tenacity import (
    RetryCallState,
    retry_if_exception,
    stop_before_delay,
    wait_exponential,
    wait_random,
)

from api.client.errors import SlacklineError

_PASSING_CODES = frozenset(
    {"store_unavailable", "server_busy", "server_stopping", "connection_error"}
)
_GATEWAY_STATUSES = frozenset({502, 504})
_BACKOFF = wait_exponential(multiplier=0.1, max=2.0) + wait_random(0.0, 0.1)


def retrying(retry_for_s: float) -> dict[str, Any]:
    """Arguments of tenacity: what passes is tried again, with backoff, for so long.

    A pause that the server asks for in `Retry-After` is kept; where it would end too late, the
    failure is raised at once.
    """
    return {
        "retry": retry_if_exception(_is_passing),
        "wait": _pause_s,
        "stop": stop_before_delay(retry_for_s),
        "reraise": True,
    }


def document(response: httpx.Response) -> Any:
    """The JSON of a response that was read.

    Raises:
        SlacklineError: The server refused or failed, or is none of ours.
    """
    if not response.is_success:
        raise failure(response)
    try:
        return response.json()
    except ValueError:
        raise SlacklineError(
            f"{response.url} did not answer with JSON; is it a Slackline server?",
            status=response.status_code,
            code="invalid_response",
        ) from None


def failure(response: httpx.Response) -> SlacklineError:
    """The server's envelope as an exception; proxies answer without one."""
    wait = response.headers.get("Retry-After", "")
    retry_after_s = float(wait) if wait.isdecimal() else None
    try:
        error = dict(response.json()["error"])
        message = str(error.pop("message"))
    except (ValueError, KeyError, TypeError):
        return SlacklineError(
            f"HTTP {response.status_code} {response.reason_phrase} from {response.url}",
            status=response.status_code,
            code="http_error",
            retry_after_s=retry_after_s,
        )
    kind, code, param = (error.pop(name, None) for name in ("type", "code", "param"))
    return SlacklineError(
        message,
        status=response.status_code,
        kind=str(kind or "error"),
        code=str(code or "error"),
        param=param,
        retry_after_s=retry_after_s,
        details=error,
    )


def unreachable(base_url: str, error: Exception) -> SlacklineError:
    """No response came."""
    reason = str(error) or type(error).__name__
    is_lasting = isinstance(error, httpx.UnsupportedProtocol)
    return SlacklineError(
        f"Cannot reach Slackline at {base_url} ({reason}). Start it with 'slackline up', or set"
        " SLACKLINE_URL.",
        code="invalid_url" if is_lasting else "connection_error",
    )


def _is_passing(error: BaseException) -> bool:
    """Whether the same request may succeed in a moment."""
    return isinstance(error, SlacklineError) and (
        error.code in _PASSING_CODES
        or error.status in _GATEWAY_STATUSES
        or (error.status == 429 and error.retry_after_s is not None)
    )


def _pause_s(state: RetryCallState) -> float:
    error = state.outcome.exception() if state.outcome else None
    asked_s = error.retry_after_s if isinstance(error, SlacklineError) else None
    return max(_BACKOFF(state), asked_s or 0.0)
