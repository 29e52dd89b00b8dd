"""`slackline keys`: API keys of all tenants, for the operator, who needs the database only."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from api.client.app import App
from api.client.errors import SlacklineError
from api.client.screen import Screen
from infra.server_commands import DatabaseUrl
from infra.tables import Row, table_of

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

app = App(help="API keys of a server.")

KeyId = Annotated[str, typer.Argument(help="Id of the key, key_..., as `list` shows it.")]


@contextmanager
def stored(database_url: str) -> "Iterator[Session]":
    """One transaction on the operator's database."""
    from db.session import connect, session_factory, transaction

    engine = connect(database_url, pool_size=1)
    try:
        with transaction(session_factory(engine)) as session:
            yield session
    finally:
        engine.dispose()


@app.command("create")
def create_key(
    screen: Screen,
    database_url: DatabaseUrl,
    label: Annotated[str, typer.Option(help="What the key is for.")],
    tenant: Annotated[
        str | None, typer.Option(help="Id of a tenant, ten_...; a new tenant by default.")
    ] = None,
    scopes: Annotated[
        str, typer.Option(help="What it may do: some of submit,read,admin.")
    ] = "submit,read",
    days: Annotated[
        float | None, typer.Option(min=0.0, help="It ends after so many days; never by default.")
    ] = None,
) -> None:
    """Make an API key and show it, this once."""
    from sqlalchemy.exc import IntegrityError

    from db import keys
    from db.models import Scope

    now = datetime.now(UTC)
    secret = keys.new_secret()
    try:
        wanted = [Scope(name.strip()) for name in scopes.split(",")]
    except ValueError:
        known = ", ".join(Scope)
        message = f"Scopes are some of {known}, with a comma between."
        raise SlacklineError(message, code="invalid_value", param="scopes") from None
    try:
        with stored(database_url) as session:
            tenant_id = tenant or keys.create_tenant(session, name=label, now=now)
            key_id = keys.insert_api_key(
                session,
                tenant_id=tenant_id,
                key_sha256=keys.hash_secret(secret),
                label=label,
                scopes=wanted,
                expires_at=None if days is None else now + timedelta(days=days),
                now=now,
            )
    except IntegrityError:
        message = f"No tenant has the id {tenant!r}. Leave out --tenant to make a new one."
        raise SlacklineError(message, code="not_found", param="tenant") from None
    _show_secret(screen, {"id": key_id, "tenant_id": tenant_id, "label": label, "secret": secret})


@app.command("list")
def list_keys(
    screen: Screen,
    database_url: DatabaseUrl,
    tenant: Annotated[str | None, typer.Option(help="Only keys of this tenant.")] = None,
) -> None:
    """List the keys that were not revoked. Secrets are not known any more."""
    from db import keys

    with stored(database_url) as session:
        rows: list[Row] = [
            {
                "id": key.id,
                "tenant_id": key.tenant_id,
                "label": key.label,
                "scopes": key.scopes,
                "created_at": key.created_at.isoformat(),
                "expires_at": key.expires_at and key.expires_at.isoformat(),
                "last_used_at": key.last_used_at and key.last_used_at.isoformat(),
            }
            for key in keys.list_keys(session, tenant)
        ]
    screen.show(rows, table_of)


@app.command("rotate")
def rotate_key(
    screen: Screen,
    database_url: DatabaseUrl,
    key: KeyId,
    grace_h: Annotated[
        float, typer.Option(min=0.0, help="Hours for which the secret before stays good.")
    ] = 24.0,
) -> None:
    """Give a key another secret and show it, this once."""
    from db import keys

    secret, now = keys.new_secret(), datetime.now(UTC)
    with stored(database_url) as session:
        rotated = keys.rotate_key(
            session,
            key,
            key_sha256=keys.hash_secret(secret),
            grace=timedelta(hours=grace_h),
            now=now,
        )
    if rotated is None:
        raise _not_in_force(key)
    made: Row = {"id": key, "tenant_id": rotated.tenant_id, "label": rotated.label}
    _show_secret(screen, made | {"secret": secret})


@app.command("revoke")
def revoke_key(screen: Screen, database_url: DatabaseUrl, key: KeyId) -> None:
    """Refuse an API key from now on."""
    from db import keys

    with stored(database_url) as session:
        revoked = keys.revoke_api_key(session, key, now=datetime.now(UTC))
    if not revoked:
        raise _not_in_force(key)
    screen.show({"id": key, "revoked": True}, lambda _: f"{key} revoked")


def _show_secret(screen: Screen, key: Row) -> None:
    screen.show(key, lambda key: f"{key['secret']}  # {key['tenant_id']} {key['id']}")


def _not_in_force(key: str) -> SlacklineError:
    return SlacklineError(f"No key in force has the id {key!r}.", code="not_found", param="key")
