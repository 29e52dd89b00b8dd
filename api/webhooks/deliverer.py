"""Sends deliveries from an API process.

Theory of operation: what is to be sent stands in Postgres, so any API process may send it. Each
looks every `_INTERVAL_S` for webhooks with something due, claims them for a turn and sends to each
one by one, to many at once; a receiver that hangs holds up nobody but itself. A process that is
killed leaves claims that run out, and then another sends again what was not noted.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import datetime, timedelta

import structlog
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from api.dependencies import utc_now
from api.webhooks.metrics import DeliveryMetrics
from api.webhooks.sending import Attempt, Sender
from api.webhooks.settings import WebhookSettings
from db.deliveries import delete_old_deliveries, disable_webhook, next_delivery, note_attempt
from db.models import Webhook, WebhookDelivery
from db.session import SessionFactory, transaction
from db.webhooks import Claim, claim_webhooks, release_webhook
from scheduler.core.deliveries import retry_delay_s
from scheduler.core.states import DeliveryState

_log = structlog.get_logger(__name__)

_INTERVAL_S = 0.25
"""Bounds how late an event is sent; an idle look costs one indexed read."""

_TURN_S = 20.0
"""After so long a webhook steps back behind others."""

_STORE_AWAY = (OperationalError, InterfaceError, PoolTimeoutError)
_STORE_AWAY_S = 2.0
_CLEANING_S = 600.0


class Deliverer:
    """Tells webhooks of events in the background."""

    def __init__(
        self,
        sessions: SessionFactory,
        settings: WebhookSettings,
        metrics: DeliveryMetrics,
        sender: Sender | None = None,
    ) -> None:
        self._sessions = sessions
        self._settings = settings
        self._metrics = metrics
        self._sender = sender or Sender(settings)
        # A claim outlasts the longest turn, whose last attempt begins just before its end.
        self._lease = timedelta(seconds=_TURN_S + 2 * settings.timeout_s)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Send until the end of the block; what is on its way then is sent again later."""
        tasks = [asyncio.create_task(self._send()), asyncio.create_task(self._clean())]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            for task in tasks:
                with suppress(asyncio.CancelledError):
                    await task
            self._sender.close()

    async def _send(self) -> None:
        async with asyncio.TaskGroup() as group:
            turns: set[asyncio.Task[None]] = set()
            while True:
                pause_s = _INTERVAL_S
                try:
                    for claim in await asyncio.to_thread(self._claim, len(turns)):
                        turn = group.create_task(self._turn(claim))
                        turns.add(turn)
                        turn.add_done_callback(turns.discard)
                except _STORE_AWAY as error:
                    _log.warning("store.away", waiting="webhooks", error=str(error))
                    pause_s = _STORE_AWAY_S
                except Exception:
                    _log.exception("webhooks.not_claimed")
                    pause_s = _STORE_AWAY_S
                await asyncio.sleep(pause_s)

    async def _clean(self) -> None:
        while True:
            try:
                await asyncio.to_thread(self._forget_old)
            except Exception as error:
                _log.warning("webhooks.not_cleaned", error=str(error))
            await asyncio.sleep(_CLEANING_S)

    async def _turn(self, claim: Claim) -> None:
        """Send to one webhook what is due."""
        loop = asyncio.get_running_loop()
        give_up_at = loop.time() + _TURN_S
        try:
            while loop.time() < give_up_at:
                due = await asyncio.to_thread(self._next, claim)
                if due is None:
                    break
                began_s = loop.time()
                attempt = await self._sender.send(*due, utc_now())
                took_s = loop.time() - began_s
                await asyncio.to_thread(self._note, *due, attempt, took_s)
        except asyncio.CancelledError:
            await asyncio.to_thread(self._release, claim)
            raise
        except Exception:
            # The claim stays until it runs out, so that this is not tried again at once.
            _log.exception("webhook.not_served", webhook_id=claim.webhook_id)
        else:
            await asyncio.to_thread(self._release, claim)

    def _claim(self, num_busy: int) -> Sequence[Claim]:
        free = self._settings.max_concurrent - num_busy
        if free <= 0:
            return []
        now = utc_now()
        with transaction(self._sessions) as session:
            return claim_webhooks(session, limit=free, until=now + self._lease, now=now)

    def _next(self, claim: Claim) -> tuple[Webhook, WebhookDelivery] | None:
        with transaction(self._sessions) as session:
            return next_delivery(session, claim, now=utc_now())

    def _release(self, claim: Claim) -> None:
        with suppress(*_STORE_AWAY), transaction(self._sessions) as session:
            release_webhook(session, claim, now=utc_now())

    def _note(
        self, webhook: Webhook, delivery: WebhookDelivery, attempt: Attempt, took_s: float
    ) -> None:
        now = utc_now()
        delays_s = self._settings.retry_delays_s
        retry_at = None
        if attempt.error is not None and not attempt.is_gone:
            delay_s = retry_delay_s(delays_s, delivery.num_attempts + 1, random.random())
            retry_at = None if delay_s is None else now + timedelta(seconds=delay_s)
        with transaction(self._sessions) as session:
            failing_since = note_attempt(
                session,
                delivery,
                status=attempt.status,
                error=attempt.error,
                retry_at=retry_at,
                now=now,
            )
            reason = _end_of(attempt, retry_at, failing_since, now, sum(delays_s))
            if reason is not None:
                disable_webhook(session, webhook.id, reason=reason, now=now)
        state = DeliveryState.DELIVERED if attempt.error is None else DeliveryState.DEAD
        self._metrics.observe(
            state if retry_at is None else DeliveryState.PENDING,
            took_s=took_s,
            delay_s=(now - delivery.created_at).total_seconds(),
        )

    def _forget_old(self) -> None:
        kept = timedelta(days=self._settings.keep_days)
        with transaction(self._sessions) as session:
            delete_old_deliveries(session, finished_before=utc_now() - kept)


def _end_of(
    attempt: Attempt,
    retry_at: datetime | None,
    failing_since: datetime | None,
    now: datetime,
    schedule_s: float,
) -> str | None:
    """Why a webhook is to be disabled; None when it is not."""
    if attempt.is_gone:
        return "it answered 410 Gone"
    if attempt.error is None or retry_at is not None or failing_since is None:
        return None
    if now - failing_since < timedelta(seconds=schedule_s):
        return None
    return f"it has taken nothing since {failing_since:%Y-%m-%dT%H:%M:%SZ}"
