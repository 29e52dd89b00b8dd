"""The frame of the command line: every command takes `--json`, and all fail alike.

Theory of operation: a command says what it needs by the types of its parameters. For a `Screen`
the command line gets `--json`; for a `Client` it gets `--url` and `--api-key`. A command writes
through its screen and fails by raising `SlacklineError`; the frame turns that into a message or an
envelope, and an exit code. `App` registers commands no other way, so none can go without.
"""

import inspect
import sys
from collections.abc import Callable, Sequence
from functools import wraps
from typing import Annotated, Any, TypeVar

import typer
from typer.core import TyperGroup

from api.client.client import Client
from api.client.errors import SlacklineError
from api.client.screen import ExitCode, Screen
from api.client.transport import DEFAULT_API_KEY, DEFAULT_URL

RETRY_FOR_S = 3.0
"""Someone sits in front of a command: give up on a server that is down sooner than a program."""

Function = TypeVar("Function", bound=Callable[..., Any])


def _option(name: str, kind: Any, default: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=kind, default=default)


_JSON = _option(
    "as_json", Annotated[bool, typer.Option("--json", help="Write JSON for programs.")], False
)
_CONNECTION = (
    _option(
        "url",
        Annotated[str, typer.Option(envvar="SLACKLINE_URL", help="Address of the server.")],
        DEFAULT_URL,
    ),
    _option(
        "api_key",
        Annotated[str, typer.Option(envvar="SLACKLINE_API_KEY", help="Your API key.")],
        DEFAULT_API_KEY,
    ),
)


class _Group(TyperGroup):
    """Says what is wrong with the command line itself as JSON too."""

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
        **extra: Any,
    ) -> Any:
        """As typer does, but for `--json`: the envelope instead of a drawn message."""
        words = sys.argv[1:] if args is None else list(args)
        as_json = standalone_mode and "--json" in words
        try:
            code = super().main(
                args,
                prog_name,
                complete_var,
                standalone_mode=standalone_mode and not as_json,
                windows_expand_args=windows_expand_args,
                **extra,
            )
        except typer.TyperException as error:
            if not as_json:
                raise
            message = error.format_message()
            Screen(as_json=True).fail(SlacklineError(message, code="usage_error"))
            sys.exit(error.exit_code)
        if as_json:
            sys.exit(code)
        return code


class App(typer.Typer):
    """A group of commands that all take `--json`."""

    def __init__(self, **settings: Any) -> None:
        # Logs of servers want plain tracebacks, and people want messages rather than either.
        super().__init__(
            cls=_Group, no_args_is_help=True, pretty_exceptions_enable=False, **settings
        )

    def command(self, name: str | None = None, **settings: Any) -> Callable[[Function], Function]:
        """Register a command under its function's name, or another."""
        register = super().command(name, **settings)

        def add(function: Function) -> Function:
            register(_framed(function))
            return function

        return add


def _framed(function: Callable[..., Any]) -> Callable[..., None]:
    """The function as typer calls it."""
    signature = inspect.signature(function, eval_str=True)
    own, given = [], {}
    for parameter in signature.parameters.values():
        if parameter.annotation in (Screen, Client):
            given[parameter.annotation] = parameter.name
        else:
            own.append(parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY))
    options = [*own, _JSON, *(_CONNECTION if Client in given else ())]

    @wraps(function)
    def framed(*, as_json: bool, **values: Any) -> None:
        screen = Screen(as_json=as_json)
        if Screen in given:
            values[given[Screen]] = screen
        try:
            if Client in given:
                url, api_key = values.pop("url"), values.pop("api_key")
                with Client(url, api_key, retry_for_s=RETRY_FOR_S) as client:
                    function(**values, **{given[Client]: client})
            else:
                function(**values)
        except SlacklineError as error:
            screen.fail(error)
            raise typer.Exit(ExitCode.of(error)) from None

    framed.__signature__ = signature.replace(parameters=options)  # type: ignore[attr-defined]
    framed.__annotations__ = {parameter.name: parameter.annotation for parameter in options}
    return framed
