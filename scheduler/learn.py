"""Learns from finished branches: fits answer profiles anew while the scheduler leads.

Theory of operation: a pass runs in a thread of its own at most every `learn_interval_s`, outside
every tick and with transactions of its own. It fits the families whose finished problems grew by
`GROWTH` since their last fit, most news first, to their latest `learn_problems` problems, until its
time is up; the rest waits for the next pass, and a family that cannot be fitted for more problems.
What it stores is in the next snapshot. The fit is always to problems, never to an older fit, so a
pass that is lost or doubled does no harm. The first pass of a process looks at every family.
"""

import threading
import time
from contextlib import AbstractContextManager
from datetime import datetime, timedelta

import structlog
from sqlalchemy.exc import DBAPIError

from db.learning import (
    Family,
    families,
    finished_since,
    given_profiles,
    latest_problems,
    learned_profiles,
    store_profile,
)
from db.session import SessionFactory, transaction
from scheduler.background import repeating
from scheduler.core.accuracy import AnswerProfile
from scheduler.core.fit_answers import fit_answers
from scheduler.core.recorded import RecordedProblem
from scheduler.core.shrinkage import Prior, prior_of

_log = structlog.get_logger(__name__)

GROWTH = 0.05
"""Share of problems behind a fit that must be new before it is worth another."""

BUDGET_S = 10.0
"""Seconds after which a pass begins no further fit; a fit takes tenths of a second."""

_OVERLAP = timedelta(seconds=10)
"""Branches may be committed this long after they finished."""


class Learner:
    """Keeps the stored answer profiles up to date.

    Args:
        num_problems: Latest problems of a family that a fit sees.
    """

    def __init__(
        self, sessions: SessionFactory, *, interval_s: float = 30.0, num_problems: int = 500
    ) -> None:
        self._sessions = sessions
        self._interval_s = interval_s
        self._num_problems = num_problems
        self._since: datetime | None = None
        self._news: dict[Family, float] = {}
        self._seen: dict[Family, int] = {}

    def running(self) -> AbstractContextManager[None]:
        """Learn in the background until the end of the block."""
        return repeating("learning", self.refresh, interval_s=self._interval_s, patience_s=BUDGET_S)

    def refresh(self, now: datetime, stop: threading.Event | None = None) -> list[Family]:
        """One pass; returns the families that were fitted.

        Raises:
            DBAPIError: The store is away.
        """
        self._look(now)
        give_up_at = time.monotonic() + BUDGET_S
        fitted = []
        for family in self._due():
            if time.monotonic() > give_up_at or (stop is not None and stop.is_set()):
                break
            try:
                if self._learn(family, now):
                    fitted.append(family)
            except DBAPIError:
                raise
            except Exception:
                # A family that cannot be fitted must not keep the others from it.
                _log.exception("learning.failed", **family._asdict())
            del self._news[family]
        return fitted

    def _look(self, now: datetime) -> None:
        """Count the problems that finished since the last look."""
        with transaction(self._sessions) as session:
            if self._since is None:
                counts = dict.fromkeys(families(session), float("inf"))
            else:
                counts = {f: float(n) for f, n in finished_since(session, self._since).items()}
        for family, count in counts.items():
            self._news[family] = self._news.get(family, 0.0) + count
        self._since = now - _OVERLAP

    def _due(self) -> list[Family]:
        return sorted(
            (f for f, count in self._news.items() if count > GROWTH * self._seen.get(f, 0)),
            key=lambda family: (-self._news[family], family),
        )

    def _learn(self, family: Family, now: datetime) -> bool:
        """Fit and store one family; False when no problem of it has ended yet."""
        with transaction(self._sessions) as session:
            problems = latest_problems(session, family, self._num_problems)
            learned = learned_profiles(session)
            given = given_profiles(session, family.model)
        if not problems:
            return False
        prior = prior_of(
            *family, learned, max(given, key=lambda p: p.num_branches_seen, default=None)
        )
        profile = fit_answers(
            problems,
            model=family.model,
            family=family.family,
            source=_source(problems, prior, now),
            prior=prior.profile,
            prior_problems=prior.problems,
        )
        with transaction(self._sessions) as session:
            store_profile(session, profile, now=now)
        self._seen[family] = len(problems)
        _log.info("learned", **family._asdict(), num_problems=len(problems))
        return True


def _source(problems: list[RecordedProblem], prior: Prior, now: datetime) -> str:
    """Where a profile comes from, in words."""
    graded = sum(problem.is_labeled for problem in problems)
    return (
        f"learned from the {len(problems)} latest problems by {now:%Y-%m-%d %H:%M} UTC, {graded} of"
        f" them graded; drawn toward {_words(prior.profile)} as by {prior.problems:g} problems"
    )


def _words(prior: AnswerProfile) -> str:
    if prior.num_problems_seen:
        return "the profile that its worker was given"
    return "a broad guess" if prior.source.startswith("cold start") else "other models and families"
