"""The store: every SQL statement of Slackline lives here, one function each.

Theory of operation: Postgres is the only truth. A function takes the caller's session first and
never commits; the edge (a request, a tick, a worker's write) owns the transaction. Instants come
in as arguments, so the store has no clock.

A transition is one UPDATE whose WHERE clause repeats the source states of
`scheduler.core.states`, so of two writers one wins and the other changes nothing. Each transition
of a job or batch, and each decision of the scheduler, adds a row to `job_events` in the same
transaction.

Locks are taken in one order, so that worker writes, rescue and expiry cannot deadlock:

1. batch rows, ascending by id when there are several;
2. problem rows, ascending by id; a problem in flight only by a holder of its batch's row;
3. branch rows;
4. the job row, one per transaction unless the scheduler alone writes;
5. hours of history, ascending, and shared but by the one who is first in an hour.

There are two exceptions. Planning updates a job row before it takes pending problems. Those it
takes with SKIP LOCKED, so it never waits for a lock while it holds one. And a worker marks the
hours of its branches before it takes its problems, which nobody takes without its batch's row.
"""
