"""One envelope for every error: `{"error": {"message", "type", "param", "code"}}`."""

import math
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

import psycopg
import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from starlette.exceptions import HTTPException

_log = structlog.get_logger(__name__)

_RETRY_STORE_S = 2
_MAX_RETRY_AFTER_S = 120
"""Official clients of OpenAI give up at once when told to wait longer."""


class ApiError(Exception):
    """The request cannot be served; the message tells the client what to do.

    Attributes:
        status: HTTP status.
        code: Stable word for programs; None where OpenAI's own API sends none.
        param: Field, parameter or header at fault, if one is.
        extra: More fields of the `error` object.
    """

    def __init__(
        self,
        status: int,
        code: str | None,
        message: str,
        *,
        param: str | None = None,
        kind: str | None = None,
        headers: Mapping[str, str] | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.param = param
        self.kind = kind or _kind_of(status)
        self.headers = dict(headers or {})
        self.extra = dict(extra or {})

    def envelope(self) -> dict[str, Any]:
        """The body of the response."""
        error = {
            "message": self.message,
            "type": self.kind,
            "param": self.param,
            "code": self.code,
            **self.extra,
        }
        return {"error": error}

    def response(self) -> JSONResponse:
        """The envelope with its status and headers."""
        return JSONResponse(self.envelope(), self.status, self.headers)


def invalid(param: str | None, message: str, *, code: str = "invalid_value") -> ApiError:
    """A 400 about one parameter."""
    return ApiError(400, code, message, param=param)


def not_found(what: str, name: str) -> ApiError:
    """A 404; also the answer for another tenant's object, so that ids cannot be probed."""
    return ApiError(404, "not_found", f"No {what} found with id '{name[:100]}'.")


def store_unavailable() -> ApiError:
    """A 503: Postgres does not answer."""
    return ApiError(
        503,
        "store_unavailable",
        f"The database does not answer. Retry in {_RETRY_STORE_S} seconds.",
        headers={"Retry-After": str(_RETRY_STORE_S)},
    )


def server_busy(why: str) -> ApiError:
    """A 503: this server has more to do than it can now."""
    return ApiError(
        503,
        "server_busy",
        f"{why} Retry in {_RETRY_STORE_S} seconds.",
        headers={"Retry-After": str(_RETRY_STORE_S)},
    )


def stopping() -> ApiError:
    """A 503: the request took longer than a stop of the server waits."""
    return ApiError(
        503,
        "server_stopping",
        f"The server stops. Retry in {_RETRY_STORE_S} seconds.",
        headers={"Retry-After": str(_RETRY_STORE_S), "Connection": "close"},
    )


def retry_after(wait_s: float) -> str:
    """Value of `Retry-After`: whole seconds, and never so many that clients give up."""
    return str(min(max(math.ceil(wait_s), 1), _MAX_RETRY_AFTER_S))


def internal(request_id: str) -> ApiError:
    """A 500 that names the request to look up in the log."""
    return ApiError(
        500,
        "internal_error",
        f"The server failed on this request. Retry it, and quote request id {request_id} if it"
        " fails again.",
    )


def validation_error(errors: Sequence[Mapping[str, Any]], prefix: str = "") -> ApiError:
    """A 400 from pydantic's list of errors: names the first field at fault and counts the rest."""
    first = errors[0]
    where = [part for part in first["loc"] if part not in ("query", "path", "header", "body")]
    param = prefix + "".join(
        f"[{part}]" if isinstance(part, int) else f".{part}" for part in where
    ).removeprefix("." if not prefix else "")
    reason = str(first["msg"])
    if first["type"] == "missing":
        code, message = "missing_required_parameter", f"Missing required parameter: '{param}'."
    elif first["type"] == "extra_forbidden":
        code, message = "unknown_parameter", f"Unknown parameter: '{param}'. Remove it."
    else:
        code = "invalid_value"
        message = f"Invalid value for '{param}': {reason[:1].lower()}{reason[1:]}."
    if len(errors) > 1:
        message += f" ({len(errors) - 1} more invalid.)"
    return ApiError(400, code, message, param=param)


def install(app: FastAPI) -> None:
    """Answer every exception of a route with the envelope."""
    app.add_exception_handler(ApiError, _on_api_error)
    app.add_exception_handler(RequestValidationError, _on_validation_error)
    app.add_exception_handler(HTTPException, _on_http_exception)
    app.add_exception_handler(PoolTimeoutError, _on_store_error)
    app.add_exception_handler(OperationalError, _on_store_error)
    app.add_exception_handler(DBAPIError, _on_store_error)


def _kind_of(status: int) -> str:
    if status == HTTPStatus.UNAUTHORIZED:
        return "authentication_error"
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return "server_error"
    return "invalid_request_error"


def _on_api_error(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, ApiError)
    return error.response()


def _on_validation_error(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    return validation_error(error.errors()).response()


def _on_http_exception(request: Request, error: Exception) -> JSONResponse:
    """404 and 405 of the router, and what starlette's form parser refuses."""
    assert isinstance(error, HTTPException)
    path = request.url.path[:200]
    if error.status_code == HTTPStatus.NOT_FOUND:
        message = f"No such path: {path}. GET /openapi.json lists the paths."
    elif error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        allowed = (error.headers or {}).get("Allow", "")
        message = f"{request.method} is not allowed on {path}. Use {allowed or 'another method'}."
    else:
        message = str(error.detail)
    code = HTTPStatus(error.status_code).phrase.lower().replace(" ", "_")
    return ApiError(error.status_code, code, message, headers=error.headers).response()


def _on_store_error(request: Request, error: Exception) -> JSONResponse:
    """What passes is a 503 to retry, and is logged; any other database error is our bug."""
    cause = error.orig if isinstance(error, DBAPIError) else None
    if isinstance(error, PoolTimeoutError):
        answer = server_busy("All connections of this server to the database are in use.")
    elif isinstance(cause, psycopg.errors.IdleInTransactionSessionTimeout):
        answer = server_busy("This server took too long between two steps of the request.")
    elif isinstance(error, OperationalError) or (
        isinstance(error, DBAPIError) and error.connection_invalidated
    ):
        answer = store_unavailable()
    else:
        raise error
    _log.warning(
        "request.not_served",
        method=request.method,
        path=request.url.path,
        code=answer.code,
        error=str(cause or error),
        **request.path_params,  # The ids of what it was about.
    )
    return answer.response()
