"""Reads a deadline: a duration like `90s` or an RFC 3339 instant with an offset."""

import re
from datetime import UTC, datetime, timedelta

from api.errors import invalid
from api.settings import ApiSettings

_UNIT_S = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
_DURATION = re.compile(r"(\d{1,9}(?:\.\d{1,6})?)([smhd])", re.ASCII)
_INSTANT = re.compile(
    r"\d{4}-\d{2}-\d{2}[Tt ]\d{2}:\d{2}:\d{2}(\.\d{1,9})?([Zz]|[+-]\d{2}:\d{2})", re.ASCII
)
_FORMS = (
    'Give a duration such as "90s", "10m", "2h" or "1d", or an RFC 3339 time with an offset'
    ' such as "2030-01-31T12:00:00Z".'
)


def check_form(text: str, param: str = "deadline") -> None:
    """Refuse what is neither a duration nor an instant, whatever the time is.

    Raises:
        ApiError: 400 `invalid_deadline`.
    """
    _parse(text, param)


def deadline_at(
    text: str, now: datetime, settings: ApiSettings, param: str = "deadline"
) -> datetime:
    """The instant that `text` means; a duration counts from `now`.

    Args:
        param: What a refusal names.

    Raises:
        ApiError: 400 `invalid_deadline`: not in a known form, past, too soon or too far.
    """
    meant = _parse(text, param)
    time_left = meant if isinstance(meant, timedelta) else meant - now
    time_left_s = time_left.total_seconds()
    if time_left_s <= 0:
        raise _refusal(
            param, f"The deadline {text} is in the past; the server's time is {show(now)}."
        )
    if time_left_s < settings.min_deadline_s:
        raise _refusal(
            param,
            f"The deadline {text} is too soon: it must be at least {settings.min_deadline_s:g}"
            " seconds away.",
        )
    if time_left_s > settings.max_deadline_s:
        raise _refusal(
            param,
            f"The deadline {text} is too far: it must be at most"
            f" {settings.max_deadline_s / 86_400:g} days away.",
        )
    return now + time_left


def _parse(text: str, param: str) -> timedelta | datetime:
    duration = _DURATION.fullmatch(text.strip())
    if duration:
        # Nine digits of days stay inside timedelta's range.
        return timedelta(seconds=float(duration[1]) * _UNIT_S[duration[2]])
    if _INSTANT.fullmatch(text.strip()):
        try:
            return datetime.fromisoformat(text.strip().upper()).astimezone(UTC)
        except (ValueError, OverflowError):
            pass
    raise _refusal(param, f"Cannot read the deadline {text[:100]!r}. {_FORMS}")


def _refusal(param: str, message: str) -> Exception:
    return invalid(param, message, code="invalid_deadline")


def show(at: datetime) -> str:
    """An instant in UTC, to the second."""
    return at.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
