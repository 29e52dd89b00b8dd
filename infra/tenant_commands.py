"""`slackline tenants`: who shares a server, for the operator, who needs the database only."""

from datetime import UTC, datetime
from typing import Annotated

import typer

from api.client.app import App
from api.client.errors import SlacklineError
from api.client.screen import Screen
from infra.key_commands import stored
from infra.server_commands import DatabaseUrl
from infra.tables import Row, table_of

app = App(help="Tenants of a server.")

_WEIGHT = "Share of the rows beside other tenants; they have 1 unless set otherwise."
_QUOTA = "Tokens that it may have queued; see docs/tenants.md."


@app.command("create")
def create_tenant(
    screen: Screen,
    database_url: DatabaseUrl,
    name: Annotated[str, typer.Argument(help="What people call it.")],
    weight: Annotated[float, typer.Option(help=_WEIGHT)] = 1.0,
    max_queued_tokens: Annotated[int | None, typer.Option(min=0, help=_QUOTA)] = None,
) -> None:
    """Make a tenant and show its id."""
    from db import keys, tenants

    _check_weight(weight)
    with stored(database_url) as session:
        tenant_id = keys.create_tenant(session, name=name, weight=weight, now=datetime.now(UTC))
        tenants.set_tenant(session, tenant_id, {"max_queued_tokens": max_queued_tokens})
    screen.show({"id": tenant_id, "name": name}, lambda made: made["id"])


@app.command("list")
def list_tenants(screen: Screen, database_url: DatabaseUrl) -> None:
    """List tenants with what they have queued."""
    from db import tenants

    with stored(database_url) as session:
        rows: list[Row] = [
            {
                "id": each.id,
                "name": each.name,
                "weight": each.weight,
                "max_queued_tokens": each.max_queued_tokens,
                "queued_tokens": round(each.queued_tokens),
                "live_jobs": each.num_live_jobs,
                "keys": each.num_keys,
            }
            for each in tenants.list_tenants(session)
        ]
    screen.show(rows, table_of)


@app.command("set")
def set_tenant(
    screen: Screen,
    database_url: DatabaseUrl,
    tenant: Annotated[str, typer.Argument(help="Id of the tenant, ten_...")],
    name: Annotated[str | None, typer.Option(help="What people call it.")] = None,
    weight: Annotated[float | None, typer.Option(help=_WEIGHT)] = None,
    max_queued_tokens: Annotated[int | None, typer.Option(min=0, help=_QUOTA)] = None,
    default_quota: Annotated[
        bool, typer.Option("--default-quota", help="As the server's settings say.")
    ] = False,
) -> None:
    """Change a tenant; it takes effect with the next submission and the next tick."""
    from db import tenants

    if default_quota and max_queued_tokens is not None:
        raise _invalid("Give either --max-queued-tokens or --default-quota.")
    _check_weight(weight)
    given = {"name": name, "weight": weight, "max_queued_tokens": max_queued_tokens}
    changes: dict[str, object] = {
        column: value for column, value in given.items() if value is not None
    }
    if default_quota:
        changes["max_queued_tokens"] = None
    if not changes:
        raise _invalid("Nothing to set. Give --weight, --max-queued-tokens or --name.")
    with stored(database_url) as session:
        found = tenants.set_tenant(session, tenant, changes)
    if not found:
        message = f"No tenant has the id {tenant!r}."
        raise SlacklineError(message, code="not_found", param="tenant")
    screen.show({"id": tenant, **changes}, lambda _: f"{tenant} set")


def _check_weight(weight: float | None) -> None:
    if weight is not None and not 0.0 < weight < float("inf"):
        raise _invalid(f"A weight is above 0, and {weight:g} is not.")


def _invalid(message: str) -> SlacklineError:
    return SlacklineError(message, code="invalid_value")
