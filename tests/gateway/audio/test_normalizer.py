"""The loudness of whole songs, beside other work of the gateway."""

import asyncio
from collections.abc import AsyncIterator

import numpy as np
import pytest

from gateway.audio.normalizer import Normalizer
from protocol.constants import Samples
from tests.gateway.audio.test_loudness import music, slices


async def streamed() -> AsyncIterator[Samples]:
    for part in slices(music()):
        yield part


@pytest.mark.parametrize("target", [-30, -12], ids=["a gain", "a limiter"])
async def test_other_tasks_run_between_the_slices_of_a_loud_song(target: float) -> None:
    turns, parts = 0, list[Samples]()

    async def work() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    louder, level = await Normalizer().normalize(streamed(), target, loop=False)
    other = asyncio.create_task(work())
    async for part in louder:
        parts.append(part)
        assert turns >= len(parts)
    other.cancel()
    assert level.loudness == pytest.approx(target, abs=0.1)
    assert np.concatenate(parts, axis=1).shape == music().shape
