"""Songs whose words change, over HTTP and over Triton."""

import asyncio
import io
import json
import os
import signal
from contextlib import suppress
from typing import Any

import aiohttp
import av
import numpy as np
import pytest
import soundfile

from tests.conftest import TIMEOUT, Stack
from tests.stack.client import stream
from tests.stack.songs import code, post, samples, song

SECTIONS = [
    {"prompt": "calm piano", "duration": 2},
    {"prompt": "fast drums", "negative_prompt": "piano", "duration": 2, "cfg_coef": 4},
    {"prompt": "sad strings", "duration": 1.5, "top_k": 50},
]
BODY: dict[str, Any] = {"model": "musicgen-tiny", "sections": SECTIONS, "seed": 5}


async def test_one_section_is_the_song_of_its_prompt(stack: Stack) -> None:
    plain = {"prompt": "calm piano", "duration": 2}
    songs = [await song(stack, {"seed": 5, **body}) for body in (plain, {"sections": [plain]})]
    assert np.array_equal(*songs)


async def test_sections_equal_the_timeline_of_triton(stack: Stack) -> None:
    pcm = await song(stack, BODY)
    assert len(pcm) == 5.5 * 32_000
    inputs = {"TIMELINE": json.dumps(SECTIONS), "SEED": 5}
    (answer,) = await asyncio.to_thread(stream, stack, "musicgen-tiny", inputs)
    assert np.abs(pcm.T - np.rint(answer.as_numpy("AUDIO").clip(-1, 1) * 32_767)).max() <= 1


async def test_the_tags_of_a_song_make_its_sections_again(stack: Stack) -> None:
    _, headers, whole = await post(stack, {**BODY, "format": "flac"})
    with av.open(io.BytesIO(whole)) as file:
        comment = {name.lower(): text for name, text in file.metadata.items()}["comment"]
    assert json.loads(comment)["sections"] == SECTIONS
    assert (await post(stack, {**json.loads(comment), "format": "flac"}))[2] == whole
    assert "calm-piano-fast-drums-sad-strings" in headers["Content-Disposition"]


async def test_sections_are_the_same_alone_and_in_a_batch(stack: Stack) -> None:
    alone = await post(stack, BODY)
    mates = [
        {"prompt": "slow piano", "duration": 4, "seed": 1},
        {**BODY, "sections": SECTIONS[::-1]},
        {**BODY, "seed": 6},
    ]
    _, again, *_ = await asyncio.gather(*(post(stack, one) for one in [mates[0], BODY, *mates[1:]]))
    assert again[2] == alone[2]


@pytest.mark.parametrize("victim", ["engine", pytest.param("stub", marks=pytest.mark.slow)])
async def test_sections_survive_deaths_around_a_change(stack: Stack, victim: str) -> None:
    """The codes are ahead of what the listener has, so the death comes some changes later."""
    sections = [{**section, "duration": 9} for section in SECTIONS]
    body = {**BODY, "sections": sections}
    _, _, whole = await post(stack, body)
    for seconds in (1, 8):
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(3 * TIMEOUT)) as session,
            session.post(f"{stack.url}/generate", json=body) as answer,
        ):
            wav = await answer.content.readexactly(seconds * 64_000)
            with suppress(ProcessLookupError):
                os.kill(getattr(stack, victim)(), signal.SIGKILL)
            wav += await answer.content.read()
        assert wav == whole


async def test_an_uploaded_file_goes_on_in_sections(stack: Stack) -> None:
    beginning = io.BytesIO()
    tone = 0.3 * np.sin(np.arange(32_000) * 0.05)
    soundfile.write(beginning, tone, 32_000, format="WAV")
    form = aiohttp.FormData({"sections": json.dumps(SECTIONS), "seed": "5", "output": "new"})
    form.add_field("audio", beginning.getvalue(), filename="beginning.wav")
    async with (
        aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(TIMEOUT)) as session,
        session.post(f"{stack.url}/generate", data=form) as answer,
    ):
        assert answer.status == 200, await answer.text()
        assert len(samples(await answer.read())) == 4.5 * 32_000


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({**BODY, "prompt": "jazz"}, "prompt"),
        ({**BODY, "duration": 3}, "duration"),
        ({"sections": []}, "sections"),
        ({"sections": [{"prompt": " ", "duration": 1}]}, "sections[0].prompt"),
        ({"sections": [{"prompt": "x", "duration": 300}] * 2}, "sections"),
    ],
)
async def test_wrong_sections_are_named(stack: Stack, body: dict[str, Any], field: str) -> None:
    status, _, answer = await post(stack, body)
    assert (status, code(answer)) == (422, ("invalid_field", field))
