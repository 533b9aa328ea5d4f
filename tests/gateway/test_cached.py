"""A result that many callers share."""

import asyncio

import pytest

from gateway.cached import Cached


class Checks:
    """Counts its checks. Each waits for `go`, and the first fails."""

    def __init__(self) -> None:
        self.begun = self.ended = 0
        self.go = asyncio.Event()

    async def __call__(self) -> int:
        self.begun += 1
        await self.go.wait()
        self.ended += 1
        if self.ended == 1:
            raise ValueError("no")
        return self.ended


async def test_all_callers_share_a_result_while_it_is_fresh() -> None:
    checks = Checks()
    cached = Cached(checks, age=60)
    calls = [asyncio.create_task(cached()) for _ in range(200)]
    await asyncio.sleep(0)
    checks.go.set()
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert {str(result) for result in results} == {"no"}
    with pytest.raises(ValueError, match="no"):
        await cached()
    assert checks.begun == 1


async def test_an_old_result_is_computed_again() -> None:
    checks = Checks()
    checks.go.set()
    cached = Cached(checks, age=0)
    with pytest.raises(ValueError, match="no"):
        await cached()
    assert [await cached(), await cached()] == [2, 3]


async def test_a_result_is_computed_to_its_end_without_callers() -> None:
    checks = Checks()
    call = asyncio.create_task(Cached(checks, age=60)())
    await asyncio.sleep(0)
    call.cancel()
    await asyncio.wait({call})
    assert call.cancelled()
    checks.go.set()
    await asyncio.sleep(0)
    assert checks.ended == 1


async def test_a_waiter_gets_its_result_when_the_next_one_begins() -> None:
    """The second caller comes between the end of the first computation and its waiter."""
    end, begun = asyncio.Event(), 0

    async def compute() -> int:
        nonlocal begun
        begun += 1
        if begun == 2:
            await asyncio.Event().wait()
        await end.wait()
        return begun

    async def later() -> int:
        await end.wait()
        return await cached()

    cached = Cached(compute, age=0)
    first = asyncio.create_task(cached())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    second = asyncio.create_task(later())
    await asyncio.sleep(0)
    end.set()
    assert (await first, begun) == (1, 2)
    second.cancel()
