"""A few chunks at a time, in order, of one site fewer; and nobody waits for somebody else's line for long."""

import asyncio
from collections.abc import Coroutine

import pytest

from fedmedlora_coordinator.transfers import Transfer, Transfers

LONG = 1000.0


def waiting(transfers: Transfers, site: str) -> asyncio.Task[Transfer]:
    return asyncio.get_running_loop().create_task(transfers.begin(site))


async def settled() -> None:
    """Let everything that can go on do so."""
    for _ in range(10):
        await asyncio.sleep(0)


def patient(most: int, most_of_one_site: int = 9) -> Transfers:
    return Transfers(most=most, most_of_one_site=most_of_one_site, hold_seconds=LONG, wait_seconds=LONG)


def test_no_more_than_the_most_are_under_way_and_the_first_who_asked_is_next() -> None:
    async def run() -> None:
        transfers = patient(2)
        first, second = await transfers.begin("a"), await transfers.begin("b")
        third, fourth = waiting(transfers, "c"), waiting(transfers, "d")
        await settled()
        assert not third.done()
        assert transfers.under_way == 2
        first.end()
        first.end()  # a second time frees nothing
        await settled()
        assert third.done()
        assert not fourth.done()
        second.end()
        (await third).end()
        (await fourth).end()
        assert transfers.under_way == 0

    asyncio.run(run())


def test_one_site_cannot_take_every_turn() -> None:
    async def run() -> None:
        transfers = patient(3, 2)
        own = [await transfers.begin("greedy") for _ in range(2)]
        more = [waiting(transfers, "greedy") for _ in range(5)]
        await settled()
        other = await asyncio.wait_for(transfers.begin("other"), 10)
        assert not any(task.done() for task in more)
        own[0].end()
        await settled()
        assert [task.done() for task in more] == [True, False, False, False, False]
        other.end()
        await settled()
        assert transfers.under_way == 2, "the free turn is not the greedy one's"
        for task in more:
            task.cancel()

    asyncio.run(run())


def test_who_leaves_while_waiting_leaves_no_turn_taken() -> None:
    async def run() -> None:
        transfers = patient(1)
        first = await transfers.begin("a")
        gone, given = waiting(transfers, "b"), waiting(transfers, "c")
        await settled()
        gone.cancel()
        await settled()
        first.end()
        given.cancel()  # in the moment in which it is given its turn
        await settled()
        assert transfers.under_way == 0
        await asyncio.wait_for(transfers.begin("d"), 10)

    asyncio.run(run())


@pytest.mark.parametrize(
    "transfers",
    [
        Transfers(most=1, hold_seconds=0.01, wait_seconds=LONG),
        Transfers(most=1, hold_seconds=LONG, wait_seconds=0.01),
    ],
    ids=["what takes long no longer counts", "who has waited long goes on"],
)
def test_a_slow_line_holds_nobody_up(transfers: Transfers) -> None:
    async def run() -> None:
        slow = await transfers.begin("slow")
        ends: list[Coroutine[object, object, Transfer]] = [transfers.begin("b"), transfers.begin("c")]
        for transfer in await asyncio.wait_for(asyncio.gather(*ends), 60):
            transfer.end()
        slow.end()
        assert transfers.under_way == 0

    asyncio.run(run())
