"""The receipt in the comment of a file makes the song again."""

import io
import json
from typing import Any

import av
import numpy as np
import pytest
from aiohttp.test_utils import TestClient

from gateway.audio.formats import FORMATS
from protocol.constants import UNKNOWN
from tests.gateway.audio.test_reader import file, tone
from tests.gateway.fake_triton import CHROMA, FakeTriton
from tests.gateway.test_form import form
from tests.gateway.test_routes import GOOD, error


def receipt(song: bytes) -> dict[str, Any]:
    with av.open(io.BytesIO(song)) as container:
        comment = {**container.metadata, **container.streams[0].metadata}
    return dict(json.loads({name.lower(): text for name, text in comment.items()}["comment"]))


@pytest.mark.parametrize("format", FORMATS)
async def test_the_comment_of_a_file_generates_it_again(client: TestClient, format: str) -> None:
    settings = {"model": "musicgen-stereo-small", "temperature": 0.5, "top_p": 0.9}
    response = await client.post("/generate", json={**GOOD, **settings, "format": format})
    song = await response.read()
    again = await client.post("/generate", json={**receipt(song), "format": format})
    assert await again.read() == song


@pytest.mark.parametrize("format", FORMATS)
async def test_the_comment_of_a_song_with_a_melody_generates_it_without_the_file(
    client: TestClient, triton: FakeTriton, format: str
) -> None:
    """The comment has the chroma of the melody."""
    texts = {"prompt": "slow piano", "duration": "1", "format": format, "separate": "false"}
    song = await (
        await client.post("/generate", data=form(None, melody=file(tone(2)), **texts))
    ).read()
    comment = receipt(song)
    assert comment["chroma"] == CHROMA.tolist()
    again = await client.post("/generate", json={**comment, "format": format})
    assert await again.read() == song
    assert triton.requests[0].melody is not None and triton.requests[1].melody is None
    sent = triton.requests[1].chroma
    assert sent is not None and np.array_equal(sent, CHROMA)


async def test_a_song_whose_melody_was_not_whole_is_made_again_without_its_file(
    client: TestClient, triton: FakeTriton
) -> None:
    """The song begins before the melodies of later windows are taken out of their mix. Its receipt
    has all of them at its end."""
    triton.chroma = np.array([[3, 4], [UNKNOWN, UNKNOWN]], np.int32)
    triton.last_chroma = np.array([[3, 4], [5, 6]], np.int32)
    name = {"X-Request-Id": "a-song-with-a-mix"}
    upload = form(None, melody=file(tone(2)), prompt="slow piano", duration="40")
    song = await (await client.post("/generate", data=upload, headers=name)).read()
    comment = receipt(song)
    assert "chroma" not in comment
    whole = await (await client.get(f"/generations/{name['X-Request-Id']}/receipt")).json()
    assert whole["chroma"] == [[3, 4], [5, 6]]
    again = await client.post("/generate", json=whole)
    assert again.status == 200
    await again.read()
    made = triton.requests[1]
    assert made.melody is None and made.chroma is not None
    assert np.array_equal(made.chroma, triton.last_chroma)


async def test_the_comment_of_a_continued_song_needs_its_file(
    client: TestClient,
) -> None:
    beginning = file(tone(1.01))
    texts = {"prompt": "slow piano", "duration": "2.5", "output": "new"}
    song = await (await client.post("/generate", data=form(beginning, **texts))).read()
    comment = receipt(song)
    assert await error(await client.post("/generate", json=comment)) == (
        422, "invalid_field", "output"
    )  # fmt: skip
    again = form(beginning, **{name: str(value) for name, value in comment.items()})
    assert await (await client.post("/generate", data=again)).read() == song
