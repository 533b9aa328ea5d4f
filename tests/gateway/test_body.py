"""The body of a request: JSON, or a form with a file."""

import asyncio
import dataclasses
import gc
import io
import json
import tracemalloc
import wave
from functools import partial
from typing import Any

import av
import numpy as np
import pytest
from aiohttp import FormData
from aiohttp.test_utils import TestClient

from gateway.audio.formats import FORMATS
from gateway.audio.reader import MEDIA_TYPE
from gateway.audio.upload import MAX_FILES
from gateway.body import MIN_RATE
from gateway.settings import GatewaySettings
from protocol.constants import UNKNOWN
from protocol.errors import QueueFull
from tests.gateway.audio.test_reader import file, tone
from tests.gateway.conftest import serve
from tests.gateway.fake_triton import CHROMA, FakeTriton
from tests.gateway.test_routes import GOOD, JSON, error


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"no json", (400, "invalid_json", None)),
        (b'{"prompt": "\xff"}', (400, "invalid_json", None)),
        (b"[]", (422, "invalid_field", None)),
        (b"{}", (422, "invalid_field", "prompt")),
        (b'{"prompt": "\\ud800"}', (422, "invalid_field", "prompt")),
        (b'{"prompt": "x", "\\ud800": 1}', (422, "invalid_field", "\ud800")),
        (b'{"prompt": "x", "duration": NaN}', (422, "invalid_field", "duration")),
        (b'{"prompt": "x", "model": "bach"}', (404, "unknown_model", "model")),
        (b'{"prompt": "x", "model": "musicgen"}', (404, "unknown_model", "model")),
        (b'{"prompt": "x", "model": "../musicgen-tiny"}', (404, "unknown_model", "model")),
    ],
)
async def test_bad_json_is_refused_by_name(
    client: TestClient, body: bytes, expected: tuple[int, str, str | None]
) -> None:
    response = await client.post("/generate", data=body, headers=JSON)
    assert await error(response) == expected


@pytest.mark.parametrize(
    "content_type",
    ["text/plain", "application/x-www-form-urlencoded", "application/json; charset=utf-16"],
)
async def test_only_json_in_utf8_is_accepted(client: TestClient, content_type: str) -> None:
    response = await client.post("/generate", data=b"{}", headers={"Content-Type": content_type})
    assert await error(response) == (415, "unsupported_media_type", None)


async def test_a_field_in_the_address_is_refused(client: TestClient) -> None:
    response = await client.post("/generate?seed=5", json=GOOD)
    assert await error(response) == (422, "invalid_field", "seed")
    assert (await client.post("/generate?from=mail", json=GOOD)).status == 200


async def test_a_content_type_may_name_its_charset(client: TestClient) -> None:
    headers = {"Content-Type": "application/json; charset=UTF-8"}
    response = await client.post("/generate", data=json.dumps(GOOD), headers=headers)
    assert response.status == 200


@pytest.mark.parametrize("is_form", [False, True])
async def test_the_chroma_of_the_longest_song_is_a_body(
    client: TestClient, triton: FakeTriton, is_form: bool
) -> None:
    """199 windows begin in an hour, each 18 s after the last; musicgen-tiny-melody has 1,501
    columns."""
    chroma = [[column % 12 for column in range(1_501)]] * 199
    body = {"prompt": "piano", "duration": 2, "chroma": chroma}
    texts: dict[str, Any] = {
        name: value if name == "prompt" else json.dumps(value) for name, value in body.items()
    }
    kind: dict[str, Any] = {"data": form(file(tone(1)), **texts)} if is_form else {"json": body}
    response = await client.post("/generate", **kind)
    assert response.status == 200
    [sent] = triton.requests
    assert sent.chroma is not None and sent.chroma.tolist() == chroma
    response.close()


@pytest.mark.parametrize("chunked", [True, False])
async def test_a_body_over_a_megabyte_is_too_large(client: TestClient, chunked: bool) -> None:
    async def parts() -> Any:
        for _ in range(20):
            yield b" " * 60_000

    data = parts() if chunked else io.BytesIO(b" " * 1_200_000)
    response = await client.post("/generate", data=data, headers=JSON)
    assert await error(response) == (413, "body_too_large", None)


@pytest.mark.parametrize(
    ("content_type", "code"),
    [("application/json", "invalid_json"), ("multipart/form-data; boundary=x", "invalid_form")],
)
async def test_a_body_in_another_encoding_is_invalid(
    client: TestClient, caplog: pytest.LogCaptureFixture, content_type: str, code: str
) -> None:
    headers = {"Content-Type": content_type, "Content-Encoding": "gzip"}
    response = await client.post("/generate", data=b"not gzip", headers=headers)
    assert await error(response) == (400, code, None)


@pytest.mark.parametrize("content_type", ["application/json", "multipart/form-data; boundary=x"])
async def test_a_body_that_comes_too_slowly_is_refused(
    settings: GatewaySettings, triton: FakeTriton, content_type: str
) -> None:
    async def drops() -> Any:
        while True:
            yield b" "
            await asyncio.sleep(0.05)

    async with serve(dataclasses.replace(settings, pace_interval=0.3), triton) as client:
        headers = {"Content-Type": content_type}
        response = await client.post("/generate", data=drops(), headers=headers)
        assert await error(response) == (408, "body_too_slow", None)


async def test_a_body_that_takes_too_long_is_refused(
    settings: GatewaySettings, triton: FakeTriton
) -> None:
    async def stream() -> Any:
        yield b"--x\r\nContent-Disposition: form-data; name=audio\r\n\r\n"
        while True:
            yield b" " * MIN_RATE
            await asyncio.sleep(0.05)

    impatient = dataclasses.replace(settings, pace_interval=0.1, stall_timeout=0.5)
    async with serve(impatient, triton) as client:
        headers = {"Content-Type": "multipart/form-data; boundary=x"}
        response = await client.post("/generate", data=stream(), headers=headers)
        assert await error(response) == (408, "body_too_slow", None)


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
            gc.collect()
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < len(data) / 4


def form(audio: bytes | None, *, melody: Any = None, **texts: Any) -> FormData:
    """multipart/form-data"""
    form = FormData(default_to_multipart=True)
    for name, text in texts.items():
        form.add_field(name, text)
    for name, data in (("audio", audio), ("melody", melody)):
        if data is not None:
            form.add_field(name, io.BytesIO(data), filename="some.wav")
    return form


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


async def test_the_response_says_what_was_left_out_of_a_file(client: TestClient) -> None:
    whole, cut = file(tone(1)), file(tone(1))[:-16_000]
    texts = {"prompt": "slow piano", "duration": "2"}
    responses = [await client.post("/generate", data=form(data, **texts)) for data in (whole, cut)]
    assert [response.headers.get("X-Audio-Warning") for response in responses] == [
        None, "audio is damaged or cut short; 0.25 s of it is left out."
    ]  # fmt: skip


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
    """The song begins before the melodies of later windows are taken out of their mix. Its progress
    has all of them at its end."""
    triton.chroma = np.array([[3, 4], [UNKNOWN, UNKNOWN]], np.int32)
    triton.last_chroma = np.array([[3, 4], [5, 6]], np.int32)
    name = {"X-Request-Id": "a-song-with-a-mix"}
    upload = form(None, melody=file(tone(2)), prompt="slow piano", duration="40")
    song = await (await client.post("/generate", data=upload, headers=name)).read()
    comment = receipt(song)
    assert "chroma" not in comment
    progress = await (await client.get(f"/generations/{name['X-Request-Id']}")).json()
    assert (progress["state"], progress["receipt"]["chroma"]) == ("done", [[3, 4], [5, 6]])
    again = await client.post("/generate", json=progress["receipt"])
    assert again.status == 200
    await again.read()
    made = triton.requests[1]
    assert made.melody is None and made.chroma is not None
    assert np.array_equal(made.chroma, triton.last_chroma)


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
