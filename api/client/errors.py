"""The one exception of the client."""

from collections.abc import Mapping
from typing import Any


class SlacklineError(Exception):
    """A request failed; `str()` of it is one line that says what to do.

    Attributes:
        status: HTTP status; None when no response came.
        kind: The server's class of the error; `client_error` when none came.
        code: The server's word for the error; `connection_error` when no response came.
        param: Field at fault, if one is.
        retry_after_s: Pause that the server asks for before the same again, if it does.
        details: Further fields of the error, such as `earliest_finish_at` of
            `deadline_infeasible` or `line` of `invalid_json_line`.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        kind: str = "client_error",
        code: str = "error",
        param: str | None = None,
        retry_after_s: float | None = None,
        details: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        self.kind = kind
        self.code = code
        self.param = param
        self.retry_after_s = retry_after_s
        self.details = dict(details or {})

    def envelope(self) -> dict[str, Any]:
        """The error as the server words one."""
        error = {
            "message": self.message,
            "type": self.kind,
            "param": self.param,
            "code": self.code,
            **self.details,
        }
        return {"error": error}
