"""Loops over HTTP."""

import os
import signal
from typing import Any

import aiohttp
import numpy as np
import pytest

from gateway.audio.loop import BLEND
from tests.conftest import TIMEOUT, Stack
from tests.stack.songs import post, samples, song

BODY: dict[str, Any] = {"model": "musicgen-tiny", "prompt": "fast drums and guitar", "seed": 5}


async def test_a_loop_is_a_part_of_its_longer_song(stack: Stack) -> None:
    loop = await song(stack, {**BODY, "loop": True, "bars": 2, "bpm": 150})
    whole = await song(stack, {**BODY, "duration": 4.8})
    assert len(loop) == 3.2 * 32_000
    assert np.array_equal(loop[:-BLEND], whole[51_200 : 153_600 - BLEND])
    assert np.abs(loop[-8:].astype(int) - whole[51_192:51_200]).max() < 1_000


async def test_a_loop_survives_the_death_of_its_engine(stack: Stack) -> None:
    body = {**BODY, "loop": True, "duration": 20}
    _, _, whole = await post(stack, body)
    async with (
        aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(3 * TIMEOUT)) as session,
        session.post(f"{stack.url}/generate", json=body) as answer,
    ):
        wav = await answer.content.readexactly(64_000)
        os.kill(stack.engine(), signal.SIGKILL)
        wav += await answer.content.read()
    assert wav == whole and len(samples(wav)) == 640_000


@pytest.mark.parametrize(("format", "length"), [("flac", 32_000), ("ogg", 48_000)])
async def test_the_tags_tell_the_loop(stack: Stack, format: str, length: int) -> None:
    _, _, file = await post(stack, {**BODY, "loop": True, "duration": 1, "format": format})
    assert b"loopstart=0" in file.lower() and f"looplength={length}".encode() in file.lower()
