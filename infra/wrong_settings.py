"""What a command says of an environment that it cannot work with."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

from pydantic import ValidationError
from pydantic_settings import SettingsError

from api.client.errors import SlacklineError


@contextmanager
def naming_wrong_settings() -> Iterator[None]:
    """Say in one line which variable is wrong and why, instead of pydantic's page.

    Raises:
        SlacklineError: `invalid_setting`; its `param` is the variable.
    """
    try:
        yield
    except ValidationError as error:
        wrong = error.errors(include_url=False)[0]
        name = "__".join(part for part in wrong["loc"] if isinstance(part, str)).upper()
        variable = name if name in ("DATABASE_URL", "REDIS_URL") else f"SLACKLINE_{name}"
        message = f"Wrong setting {variable}: {wrong['msg'].removeprefix('Value error, ')}"
        raise SlacklineError(message, code="invalid_setting", param=variable) from None
    except SettingsError as error:
        # Of a list or an object that is no JSON pydantic tells the outermost field only.
        field = re.search(r'field "(\w+)"', str(error))
        named = f"SLACKLINE_{field[1].upper()}" if field else None
        message = f"Wrong setting {named or error}: a list or an object must be JSON"
        raise SlacklineError(message, code="invalid_setting", param=named) from None
