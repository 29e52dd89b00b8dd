"""What a stream's queue holds, however slow its client is."""

import asyncio

from api.followers import BEHIND, Follower, Told


def told(number: int | None, job_id: str = "job_a", state: str | None = None) -> Told:
    return Told(number, "ten_1", job_id, "plan.stored", "{}", state)


async def drain(follower: Follower) -> list[Told]:
    found = []
    try:
        while True:
            found.append(await follower.next(0.05))
    except TimeoutError:
        return found


def test_a_stream_that_does_not_keep_up_is_sent_to_the_store_instead() -> None:
    async def run() -> None:
        follower = Follower("ten_1", "job_a")
        for number in range(10_000):
            follower.tell([told(number)])
        waiting = await drain(follower)
        assert waiting[0] is BEHIND
        assert len(waiting) < 2100
        follower.tell([told(10_000)])
        assert await drain(follower) == [told(10_000)]

    asyncio.run(run())


def test_a_stream_is_for_one_job_or_for_one_tenant() -> None:
    async def run() -> None:
        of_job, of_tenant = Follower("ten_1", "job_a"), Follower("ten_1", None)
        stranger = Follower("ten_2", None)
        mine, other = told(1), told(2, "job_b")
        assert [f.is_for(mine) for f in (of_job, of_tenant, stranger)] == [True, True, False]
        assert [f.is_for(other) for f in (of_job, of_tenant, stranger)] == [False, True, False]

    asyncio.run(run())


def test_progress_is_told_when_it_changes_only() -> None:
    async def run() -> None:
        follower = Follower("ten_1", None)
        for states in (("a", "b"), ("a", "b"), ("a", "c"), ("a",)):
            follower.tell_progress([told(None, f"job_{n}", s) for n, s in enumerate(states)])
        found = [(each.job_id, each.state) for each in await drain(follower)]
        assert found == [("job_0", "a"), ("job_1", "b"), ("job_1", "c")]

    asyncio.run(run())


def test_a_stream_whose_loop_has_ended_is_told_without_harm() -> None:
    async def made() -> Follower:
        return Follower("ten_1", "job_a")

    asyncio.run(made()).tell([told(1)])
