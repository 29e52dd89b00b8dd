"""What every route may ask for: settings, sessions and the time."""

from datetime import UTC, datetime
from typing import Annotated

from fastapi import Depends, Request

from api.settings import ApiSettings
from db.session import SessionFactory


def _settings(request: Request) -> ApiSettings:
    settings = request.app.state.settings
    assert isinstance(settings, ApiSettings)
    return settings


def _sessions(request: Request) -> SessionFactory:
    sessions: SessionFactory = request.app.state.sessions
    return sessions


def utc_now() -> datetime:
    """The clock of the API; everything below takes `now` as an argument."""
    return datetime.now(UTC)


Settings = Annotated[ApiSettings, Depends(_settings)]
Sessions = Annotated[SessionFactory, Depends(_sessions)]
