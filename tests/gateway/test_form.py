"""The body of a request that is a form with a file."""

import asyncio
import gc
import io
import tracemalloc
import wave
from collections.abc import AsyncIterator
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from aiohttp import FormData
from aiohttp.test_utils import TestClient

from gateway.audio.reader import MEDIA_TYPE
from gateway.audio.upload import MAX_FILES
from protocol.errors import QueueFull
from tests.gateway.audio.test_reader import file, tone
from tests.gateway.fake_triton import FakeTriton
from tests.gateway.test_routes import error


def form(audio: bytes | None, *, melody: Any = None, **texts: Any) -> FormData:
    """multipart/form-data"""
    form = FormData(default_to_multipart=True)
    for name, text in texts.items():
        form.add_field(name, text)
    for name, data in (("audio", audio), ("melody", melody)):
        if data is not None:
            form.add_field(name, io.BytesIO(data), filename="some.wav")
    return form


async def test_a_file_leaves_memory_when_its_song_begins(client: TestClient) -> None:
    upload = partial(form, file(tone(1)), prompt="piano", duration="300")
    songs = [await client.post("/generate", data=upload()) for _ in range(MAX_FILES + 1)]
    assert {song.status for song in songs} == {200}
    for song in songs:
        song.close()


@pytest.mark.parametrize(
    ("upload", "texts", "code"),
    [
        ("audio", {"duration": "20"}, "invalid_field"),
        ("audio", {"duration": "60"}, "queue_full"),
        ("melody", {}, "queue_full"),
        ("melody", {"duration": "0"}, "invalid_field"),
    ],
    ids=["too short a song", "refused audio", "refused melody", "before it is read"],
)
async def test_a_failed_song_keeps_no_file_in_memory(
    client: TestClient, triton: FakeTriton, upload: str, texts: dict[str, str], code: str
) -> None:
    """Its progress is kept, and says why it failed."""
    data = file(tone(30, channels=2))
    files = {"audio": None, "melody": None, upload: data}
    gc.disable()  # It would free what refers to itself, but only now and then.
    tracemalloc.start()
    try:
        for name in ("the-first-song", "the-second-song"):
            triton.refusals = [QueueFull("full")]
            before, _ = tracemalloc.get_traced_memory()
            body = form(files["audio"], melody=files["melody"], prompt="slow piano", **texts)
            headers = {"X-Request-Id": name}
            response = await client.post("/generate", data=body, headers=headers)
            assert response.status >= 400
            progress = await (await client.get(f"/generations/{name}")).json()
            assert progress["error"]["code"] == code
            triton.requests.clear()
            del body
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
        gc.enable()
    assert after - before < len(data) / 4


@pytest.mark.parametrize(("output", "samples"), [("whole", 125 * 640), ("new", 75 * 640)])
async def test_a_song_continues_a_file(
    client: TestClient, triton: FakeTriton, output: str, samples: int
) -> None:
    texts = {"prompt": "slow piano", "duration": "2.5", "seed": "3", "output": output}
    response = await client.post("/generate", data=form(file(tone(1.01)), **texts))
    with wave.open(io.BytesIO(await response.read())) as reader:
        assert reader.getnframes() == samples
    [sent] = triton.requests
    assert sent.prompt_audio is not None and sent.prompt_audio.shape == (1, 32_320)
    assert (sent.seed, sent.frames, sent.start) == (3, 125, 125 * 640 - samples)


async def test_a_form_may_come_in_pieces_of_any_size(
    client: TestClient, triton: FakeTriton
) -> None:
    texts = {"prompt": "slow piano", "duration": "2.5"}
    writer = form(file(tone(1.01)), **texts)()
    data = await writer.as_bytes()
    ends = [0, 1_000, 1_005, 1_006, len(data) - 20, len(data)]

    async def pieces() -> AsyncIterator[bytes]:
        for start, end in pairwise(ends):
            yield data[start:end]
            await asyncio.sleep(0.05)  # else the server gets them as one

    headers = {"Content-Type": writer.content_type}
    response = await client.post("/generate", data=pieces(), headers=headers)
    assert response.status == 200
    await response.read()
    [sent] = triton.requests
    assert sent.prompt_audio is not None and sent.prompt_audio.shape == (1, 32_320)


async def test_the_response_says_what_was_left_out_of_a_file(client: TestClient) -> None:
    whole, cut = file(tone(1)), file(tone(1))[:-16_000]
    texts = {"prompt": "slow piano", "duration": "2"}
    responses = [await client.post("/generate", data=form(data, **texts)) for data in (whole, cut)]
    assert [response.headers.get("X-Audio-Warning") for response in responses] == [
        None, "audio is damaged or cut short; 0.25 s of it is left out."
    ]  # fmt: skip


async def test_a_song_follows_a_melody_and_continues_a_file(
    client: TestClient, triton: FakeTriton
) -> None:
    texts = {"prompt": "slow piano", "duration": "2.5", "separate": "false"}
    upload = form(file(tone(1)), melody=file(tone(70, 16_000, channels=2), 16_000), **texts)
    response = await client.post("/generate", data=upload)
    assert response.status == 200
    await response.read()
    [sent] = triton.requests
    assert sent.prompt_audio is not None and sent.prompt_audio.shape == (1, 32_000)
    assert sent.melody is not None and sent.melody.shape == (2, 70 * 32_000)
    assert not sent.separate


NOISE = np.random.default_rng(0).integers(-9_000, 9_000, (32_000, 1), np.int16)
SVG = b'<svg xmlns="http://www.w3.org/2000/svg"><rect width="1" height="1"/></svg>'


@pytest.mark.parametrize(
    ("melody", "message", "limits"),
    [
        (file(0 * tone(1)), "melody is silent", MEDIA_TYPE),
        (file(tone(0.01)), "melody is shorter than 0.02 s", {}),
        (file(tone(600, 8_000), 8_000), "melody is longer than 120 s; cut it", {"maximum": 120}),
        (file(tone(1, channels=9)), "melody has 9 channels; convert it to 1 to 8", MEDIA_TYPE),
        (SVG, "melody cannot be read", MEDIA_TYPE),
        (b"", "melody is empty", MEDIA_TYPE),
    ],
    ids=["silent", "short", "long", "channels", "svg", "empty"],
)
async def test_a_melody_that_cannot_be_followed_is_refused(
    client: TestClient, triton: FakeTriton, melody: bytes, message: str, limits: dict[str, Any]
) -> None:
    response = await client.post("/generate", data=form(None, melody=melody, prompt="piano"))
    problem = (await response.json())["error"]
    assert (response.status, problem["field"]) == (422, "melody")
    assert problem["limits"] == limits
    assert problem["message"].startswith(message)
    assert not triton.requests


@pytest.mark.parametrize("melody", [file(tone(0.02)), file(tone(1, channels=8)), file(NOISE)])
async def test_noise_and_a_short_or_wide_melody_are_followed(
    client: TestClient, melody: bytes
) -> None:
    response = await client.post("/generate", data=form(None, melody=melody, prompt="piano"))
    assert response.status == 200
    response.close()


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        ({"top_k": "x"}, (422, "invalid_field", "top_k")),
        ({"format": "aiff"}, (422, "invalid_field", "format")),
        ({"model": "bach"}, (404, "unknown_model", "model")),
    ],
)
async def test_the_file_is_decoded_after_all_other_checks(
    client: TestClient, texts: dict[str, str], expected: tuple[int, str, str]
) -> None:
    data = form(b"no audio", prompt="slow piano", **texts)
    assert await error(await client.post("/generate", data=data)) == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [("prompt", (422, "invalid_field", "prompt")), ("audio", (422, "invalid_field", "audio"))],
)
async def test_a_field_that_comes_twice_is_named(
    client: TestClient, name: str, expected: tuple[int, str, str]
) -> None:
    data = form(file(tone(1)), prompt="slow piano")
    data.add_field(name, "drums")
    assert await error(await client.post("/generate", data=data)) == expected


@pytest.mark.parametrize(
    ("audio", "texts", "expected"),
    [
        (None, {}, (422, "invalid_field", "audio")),
        (b"no audio", {}, (422, "invalid_field", "audio")),
        (file(tone(1)), {"prompt": ""}, (422, "invalid_field", "prompt")),
        (file(tone(1)), {"duration": "1"}, (422, "invalid_field", "duration")),
        (file(tone(0.01)), {}, (422, "invalid_field", "audio")),
        (file(tone(1)), {"duration": "long"}, (422, "invalid_field", "duration")),
        (file(tone(1)), {"top_k": "nan"}, (422, "invalid_field", "top_k")),
        (file(tone(1)), {"output": "half"}, (422, "invalid_field", "output")),
        (file(tone(1)), {"loud": "1"}, (422, "invalid_field", "loud")),
        (file(tone(1)), {"file": "x" * 17_000}, (422, "invalid_field", "file")),
        (file(tone(1)), {"prompt": "x" * 2_001}, (422, "invalid_field", "prompt")),
        (file(tone(1)), {"prompt": io.BytesIO(b"x" * 1_100_000)}, (413, "body_too_large", None)),
        (b" " * (32 * 1024**2 + 1), {}, (413, "body_too_large", None)),
    ],
    ids=lambda value: value[1] if isinstance(value, tuple) else "",
)
async def test_a_bad_form_is_refused_by_name(
    client: TestClient, audio: bytes | None, texts: dict[str, Any], expected: tuple[int, str, Any]
) -> None:
    data = form(audio, **{"prompt": "slow piano", "duration": "3", **texts})
    assert await error(await client.post("/generate", data=data)) == expected


@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Transfer-Encoding": "base64"},
        {"Content-Transfer-Encoding": "Quoted-Printable"},
        {"Content-Type": "text/plain; charset=utf-16"},
    ],
    ids=lambda headers: str(*headers.values()),
)
async def test_a_text_in_another_encoding_is_no_prompt(
    client: TestClient, headers: dict[str, str]
) -> None:
    lines = ["--x", 'Content-Disposition: form-data; name="prompt"']
    lines += [f"{name}: {value}" for name, value in headers.items()]
    body = "\r\n".join([*lines, "", "a piano", "--x--", ""])
    kind = {"Content-Type": "multipart/form-data; boundary=x"}
    response = await client.post("/generate", data=body, headers=kind)
    assert await error(response) == (400, "invalid_form", None)


@pytest.mark.parametrize("content_type", ["multipart/form-data", "multipart/form-data; boundary=x"])
async def test_a_body_that_is_no_form_is_refused(client: TestClient, content_type: str) -> None:
    headers = {"Content-Type": content_type}
    response = await client.post("/generate", data=b"not a form", headers=headers)
    assert await error(response) == (400, "invalid_form", None)
