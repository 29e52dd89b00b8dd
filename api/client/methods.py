"""Makes methods of clients out of described calls, with their signatures and docstrings."""

import inspect
from collections.abc import Callable
from typing import Any, TypeVar, get_args

Method = TypeVar("Method", bound=Callable[..., Any])


def documented(describe: Callable[..., Any], method: Method, returns: Any = None) -> Method:
    """The method, as `help` and editors show it: the call's parameters, and what it brings.

    Args:
        returns: Generic type around what the call brings, such as `Iterator`.
    """
    signature = inspect.signature(describe, eval_str=True)
    (brought,) = get_args(signature.return_annotation)
    self = inspect.Parameter("self", inspect.Parameter.POSITIONAL_ONLY)
    method.__signature__ = signature.replace(  # type: ignore[attr-defined]
        parameters=[self, *signature.parameters.values()],
        return_annotation=returns[brought] if returns else brought,
    )
    method.__doc__ = describe.__doc__
    method.__name__ = describe.__name__
    return method
