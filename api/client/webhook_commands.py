"""`slackline webhooks`: be told of the ends of jobs and batches."""

from typing import Annotated, cast

import typer
from rich.table import Table

from api.client.app import App
from api.client.client import Client
from api.client.screen import Screen
from api.client.shapes import Delivery, DeliveryState, EventType, Webhook

webhooks = App(help="Be told of the ends of jobs and batches.")

WebhookId = Annotated[str, typer.Argument(help="Id of the webhook, wh_...")]


@webhooks.command()
def create(
    client: Client,
    screen: Screen,
    address: Annotated[str, typer.Argument(help="URL to which messages are posted.")],
    event: Annotated[
        list[str],
        typer.Option(help="job.completed, batch.failed and so on; repeatable."),
    ],
    name: Annotated[str, typer.Option(help="A label of your own.")] = "",
) -> None:
    """Create a webhook and show its secret, this once."""
    created = client.create_webhook(address, cast(list[EventType], event), name=name)
    screen.show(created, _with_secret)


@webhooks.command("list")
def list_webhooks(client: Client, screen: Screen) -> None:
    """List your webhooks, newest first."""
    screen.show(client.webhooks(), _webhooks_table)


@webhooks.command()
def update(
    client: Client,
    screen: Screen,
    webhook: WebhookId,
    address: Annotated[str | None, typer.Option(help="Another URL.")] = None,
    event: Annotated[
        list[str] | None, typer.Option(help="Instead of all events so far; repeatable.")
    ] = None,
    enable: Annotated[
        bool | None, typer.Option("--enable/--disable", help="Send or stop sending.")
    ] = None,
) -> None:
    """Change address or events, disable a webhook, or enable it again."""
    changed = client.change_webhook(
        webhook, url=address, event_types=cast(list[EventType] | None, event), enabled=enable
    )
    screen.show([changed], _webhooks_table)


@webhooks.command()
def rotate(
    client: Client,
    screen: Screen,
    webhook: WebhookId,
    keep_old_s: Annotated[
        int, typer.Option(min=0, help="Seconds for which the old secret signs, too.")
    ] = 86_400,
) -> None:
    """Give a webhook a new secret and show it, this once."""
    screen.show(client.rotate_webhook_secret(webhook, keep_old_secret_s=keep_old_s), _with_secret)


@webhooks.command()
def deliveries(
    client: Client,
    screen: Screen,
    webhook: WebhookId,
    state: Annotated[str | None, typer.Option(help="pending, delivered or dead.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="How many, latest first.")] = 20,
) -> None:
    """List what became of each event."""
    found = client.deliveries(webhook, state=cast(DeliveryState | None, state), limit=limit)
    screen.show(list(found), _deliveries_table)


@webhooks.command()
def redeliver(
    client: Client,
    screen: Screen,
    webhook: WebhookId,
    event: Annotated[
        str | None, typer.Argument(help="Id of one event, evt_...; all that are dead by default.")
    ] = None,
) -> None:
    """Send an event again, or all that never arrived."""
    if event is not None:
        screen.show(client.redeliver(webhook, event), lambda again: f"{again['event_id']} pending")
    else:
        number = client.redeliver_dead(webhook)
        screen.show({"num_deliveries": number}, lambda _: f"{number} deliveries are sent again")


@webhooks.command()
def delete(client: Client, screen: Screen, webhook: WebhookId) -> None:
    """Delete a webhook and its deliveries."""
    screen.show(client.delete_webhook(webhook), lambda gone: f"{gone['id']} deleted")


def _with_secret(webhook: Webhook) -> str:
    return f"{webhook['signing_secret']}  # {webhook['id']} {webhook['url']}"


def _webhooks_table(found: list[Webhook]) -> Table:
    table = Table("id", "url", "events", "state")
    for webhook in found:
        state = "enabled" if webhook["enabled"] else f"disabled: {webhook['disabled_reason']}"
        if webhook["enabled"] and webhook["failing_since"]:
            state = f"failing since {webhook['failing_since']}"
        table.add_row(webhook["id"], webhook["url"], " ".join(webhook["event_types"]), state)
    return table


def _deliveries_table(found: list[Delivery]) -> Table:
    table = Table("event", "kind", "of", "state", "attempts", "last")
    for delivery in found:
        last = delivery["last_error"] or (
            f"HTTP {delivery['last_status']}" if delivery["last_status"] else ""
        )
        table.add_row(
            delivery["event_id"],
            delivery["event_type"],
            delivery["subject_id"],
            delivery["state"],
            str(delivery["num_attempts"]),
            last,
        )
    return table
