"""Requests per minute and key, counted in Redis: reads and everything else apart.

Theory of operation: a fixed window per key, so that what a client is told, when to come back, is
exact; over the edge of two windows twice the limit may pass. Redis only counts: while it does not
answer nobody is limited, which is logged, and it is left alone for `_AWAY_S`, so that requests do
not wait for it. Without a Redis nothing is limited.
"""

import math
import time
from dataclasses import dataclass

import structlog
from limits import RateLimitItemPerMinute
from limits.errors import StorageError
from limits.storage import RedisStorage
from limits.strategies import FixedWindowRateLimiter
from redis import ConnectionPool
from redis.backoff import NoBackoff
from redis.retry import Retry

from api.errors import ApiError
from api.settings import ApiSettings

_log = structlog.get_logger(__name__)

_PATIENCE_S = 0.25
"""Longest wait for Redis, which answers within a millisecond when it is well."""
_AWAY_S = 2.0


@dataclass(frozen=True, slots=True)
class RateLimit:
    """Where a key stands in its window."""

    name: str
    limit: int
    remaining: int
    reset_s: int

    def headers(self) -> dict[str, str]:
        """As draft-ietf-httpapi-ratelimit-headers-10 has them."""
        return {
            "RateLimit-Policy": f'"{self.name}";q={self.limit};w=60',
            "RateLimit": f'"{self.name}";r={self.remaining};t={self.reset_s}',
        }


class RateLimits:
    """The counts of all keys."""

    def __init__(self, settings: ApiSettings) -> None:
        self._reads = settings.max_reads_per_min
        self._submissions = settings.max_submissions_per_min
        self._away_until_s = 0.0
        self._windows: FixedWindowRateLimiter | None = None
        if settings.redis_url is not None:
            pool = ConnectionPool.from_url(
                settings.redis_url,
                socket_timeout=_PATIENCE_S,
                socket_connect_timeout=_PATIENCE_S,
                retry=Retry(NoBackoff(), 0),
            )
            storage = RedisStorage(
                settings.redis_url,
                connection_pool=pool,
                key_prefix="slackline:rate",
                wrap_exceptions=True,
            )
            self._windows = FixedWindowRateLimiter(storage)

    def count(self, key_id: str, *, reads: bool) -> RateLimit | None:
        """Count one request; None when nothing limits it.

        Raises:
            ApiError: 429, one too many for this minute.
        """
        limit = self._reads if reads else self._submissions
        if self._windows is None or limit is None or time.monotonic() < self._away_until_s:
            return None
        name = "reads" if reads else "submissions"
        item = RateLimitItemPerMinute(limit)
        try:
            is_within = self._windows.hit(item, name, key_id)
            window = self._windows.get_window_stats(item, name, key_id)
        except StorageError as error:
            self._away_until_s = time.monotonic() + _AWAY_S
            _log.warning("redis.away", waiting="rate limits", error=str(error.storage_error))
            return None
        # Redis tells whole seconds, rounded to the nearest; no window is longer than the item's.
        rest_s = math.ceil(window.reset_time - time.time() + 0.5)
        reset_s = min(max(rest_s, 1), item.get_expiry())
        state = RateLimit(name, limit, window.remaining, reset_s)
        if not is_within:
            raise _exceeded(state)
        return state


def _exceeded(state: RateLimit) -> ApiError:
    return ApiError(
        429,
        "rate_limit_exceeded",
        f"This key has made more than {state.limit:,} {state.name} within a minute. Retry in"
        f" {state.reset_s} seconds.",
        kind="rate_limit_error",
        headers={"Retry-After": str(state.reset_s), **state.headers()},
    )
