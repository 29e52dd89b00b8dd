"""Brings a database to the schema of `db.models`.

The migrations are Python files inside this package, so an installed wheel carries them. Every
upgrade runs in one transaction under an advisory lock: two processes that start together migrate
once, and a migration that fails leaves the schema as it was.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool

from db.session import normalize_url

_LOCK_KEY = 0x534C4B4D
"""Advisory lock of migrations; any constant that no other lock of Slackline uses."""


def upgrade(url: str, revision: str = "head") -> None:
    """Apply the migrations up to `revision`; nothing happens when they are applied."""
    with _configured(url) as config:
        command.upgrade(config, revision)


def downgrade(url: str, revision: str = "base") -> None:
    """Undo the migrations after `revision`; `base` drops every table."""
    with _configured(url) as config:
        command.downgrade(config, revision)


def current(url: str) -> str | None:
    """The revision that the database is at; None before the first upgrade."""
    engine = create_engine(normalize_url(url), poolclass=NullPool)
    with engine.connect() as connection:
        return MigrationContext.configure(connection).get_current_revision()


def head() -> str | None:
    """The newest revision that this code knows."""
    return ScriptDirectory.from_config(_config()).get_current_head()


def _config() -> Config:
    config = Config()
    # ConfigParser reads `%` as interpolation.
    location = str(Path(__file__).parent / "migrations").replace("%", "%%")
    config.set_main_option("script_location", location)
    return config


@contextmanager
def _configured(url: str) -> Iterator[Config]:
    """A configuration whose `connection` holds the migration lock until the commit."""
    engine = create_engine(normalize_url(url), poolclass=NullPool)
    with engine.begin() as connection:
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK_KEY})
        config = _config()
        config.attributes["connection"] = connection
        yield config
