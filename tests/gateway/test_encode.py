"""A song that the client has as WAV, in other formats."""

import asyncio
import gc
import io
import json
import struct
from contextlib import ExitStack
from dataclasses import replace

import av
import numpy as np
import pytest
import soundfile
from aiohttp.test_utils import TestClient

from gateway.access import read_keys
from gateway.audio.compressed import Compressed
from gateway.audio.formats import FORMATS
from gateway.audio.transcoder import MAX_ENCODERS, MAX_FILES, MAX_FILES_PER_CLIENT, Transcoder
from gateway.audio.wav import Pcm, Wav, read
from gateway.services import SERVICES
from gateway.settings import GatewaySettings
from tests.gateway.conftest import serve
from tests.gateway.fake_triton import FakeTriton
from tests.gateway.test_routes import GOOD, error

NOISE = np.random.default_rng(0).integers(-9_000, 9_000, (2, 3 * 32_000), np.int16)
WAV = {"Content-Type": "audio/wav"}


def wav(samples: Pcm = NOISE, rate: int = 32_000, tags: "dict[str, str] | None" = None) -> bytes:
    file = Wav(len(samples), rate, samples.shape[1], tags or {})
    return file.begin() + file.encode(samples) + file.end()


def tags(file: bytes) -> dict[str, str]:
    with av.open(io.BytesIO(file)) as opened:
        found = {**opened.streams[0].metadata, **opened.metadata}
    return {name.lower(): text for name, text in found.items()}


async def encoded(client: TestClient, file: bytes, format: str) -> bytes:
    body = io.BytesIO(file)
    response = await client.post(f"/encode?format={format}", data=body, headers=WAV)
    assert response.status == 200
    data = await response.read()
    assert response.headers["Content-Length"] == str(len(data))
    return data


@pytest.mark.parametrize("channels", [1, 2])
async def test_flac_has_the_samples_of_the_wav(client: TestClient, channels: int) -> None:
    """The lowest of 16 bits is one of them, which no song of ours has."""
    samples = NOISE[:channels].copy()
    samples[:, 5] = -32_768
    data = await encoded(client, wav(samples), "flac")
    decoded, _ = soundfile.read(io.BytesIO(data), dtype="int16", always_2d=True)
    assert np.array_equal(decoded.T, samples)


@pytest.mark.parametrize("format", FORMATS)
async def test_a_format_made_of_the_wav_is_that_of_the_song(
    client: TestClient, format: str
) -> None:
    """Samples, length, receipt and mark: byte by byte as if the song were made in this format."""
    wanted = {**GOOD, "duration": 12, "seed": 7}
    song = await (await client.post("/generate", json=wanted)).read()
    made = await client.post("/generate", json={**wanted, "format": format})
    data, expected = await encoded(client, song, format), await made.read()
    assert tags(data) == tags(expected)
    assert json.loads(tags(data)["comment"])["prompt"] == GOOD["prompt"]
    if format != "ogg":  # the pages of Ogg depend on the slices
        assert data == expected


@pytest.mark.parametrize("format", ["ogg", "flac", "mp3"])
async def test_the_loop_of_a_wav_comes_along(client: TestClient, format: str) -> None:
    loop = {"loopstart": "3200", "looplength": "32000"}
    found = tags(await encoded(client, wav(tags=loop), format))
    length = 48_000 if format == "ogg" else 32_000
    assert (found["loopstart"], found["looplength"]) == ("3200", str(length))


@pytest.mark.parametrize("format", FORMATS)
async def test_a_wav_without_the_mark_of_a_machine_gets_none(
    client: TestClient, format: str
) -> None:
    data = await encoded(client, wav(tags={"title": "mine"}), format)
    assert tags(data)["title"] == "mine" and b"trainedAlgorithmicMedia" not in data


async def test_silence_and_one_sample_are_encoded(client: TestClient) -> None:
    for samples in (np.zeros((1, 3_200), np.int16), NOISE[:1, :1]):
        data = await encoded(client, wav(samples), "flac")
        assert soundfile.info(io.BytesIO(data)).frames == samples.shape[1]


async def test_a_wav_may_have_other_parts(client: TestClient) -> None:
    data = await encoded(client, wav() + 50 * PART, "flac")
    assert soundfile.info(io.BytesIO(data)).frames == NOISE.shape[1]


async def test_accept_chooses_the_format(client: TestClient) -> None:
    headers = {**WAV, "Accept": "audio/mpeg"}
    response = await client.post("/encode", data=wav(), headers=headers)
    assert response.content_type == "audio/mpeg"


def other_wav(samples: Pcm, rate: int, subtype: str) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples.T, rate, format="WAV", subtype=subtype)
    return file.getvalue()


EMPTY = struct.pack("<4sI4s", b"RIFF", 4, b"WAVE")
PART = b"none" + bytes(4)
NO_TAGS = struct.pack("<4sI4s", b"LIST", 4, b"INFO")


def with_list(tags: bytes) -> bytes:
    return wav()[: -len(NO_TAGS)] + b"LIST" + struct.pack("<I", 4 + len(tags)) + b"INFO" + tags


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "audio is no WAV; send one, as the service makes it."),
        (b"ID3\4" + bytes(100), "audio is no WAV; send one, as the service makes it."),
        (EMPTY, "audio does not state its format; send a plain WAV."),
        (wav(tags={"title": "a song"})[:-5], "audio is cut short: its part 'LIST' has"),
        (wav()[:5_000], "audio is cut short: its part 'data' has 4956 of 384000 bytes; send all"),
        (wav(NOISE, 44_100), "audio has 44100 samples a second; convert it to 32000."),
        (wav(NOISE[:, :0]), "audio has 0 bytes of samples; send one with whole samples."),
        (wav()[:40] + b"\7\0\0\0" + bytes(8), "audio has 7 bytes of samples"),
        (wav(np.repeat(NOISE, 2, axis=0)), "audio has 4 channels; convert it to 1 or 2."),
        (other_wav(NOISE, 32_000, "PCM_24"), "audio has 24 bits a sample in coding 1; convert it"),
        (other_wav(NOISE, 32_000, "FLOAT"), "audio has 32 bits a sample in coding 3; convert it"),
        (wav(np.repeat(NOISE, 2, axis=1)), "audio lasts 6 s; give at most 4."),
        (wav() + 99 * PART, "audio has over 100 parts; send a plain WAV."),
        (with_list(101 * PART), "audio has over 100 parts; send a plain WAV."),
    ],
    ids=[
        "empty",
        "MP3",
        "no parts",
        "cut tags",
        "cut samples",
        "rate",
        "no samples",
        "odd bytes",
        "channels",
        "bits",
        "floats",
        "length",
        "parts",
        "tags",
    ],
)
async def test_a_bad_wav_is_refused_by_its_fault(
    settings: GatewaySettings, body: bytes, message: str
) -> None:
    async with serve(replace(settings, max_duration=4), FakeTriton("musicgen-tiny")) as client:
        response = await client.post("/encode?format=flac", data=body, headers=WAV)
        problem = (await response.json())["error"]
    assert (response.status, problem["field"]) == (422, "audio")
    assert problem["message"].startswith(message)


async def test_other_bodies_and_formats_are_refused(settings: GatewaySettings) -> None:
    async with serve(replace(settings, max_duration=1), FakeTriton("musicgen-tiny")) as client:
        response = await client.post("/encode?format=wma", data=wav(), headers=WAV)
        assert await error(response) == (422, "invalid_field", "format")
        for query, field in {"fmt=mp3": "fmt", "format=mp3&format=flac": "format"}.items():
            response = await client.post(f"/encode?{query}", data=wav(), headers=WAV)
            assert await error(response) == (422, "invalid_field", field)
        response = await client.post("/encode?format=flac", json={})
        assert await error(response) == (415, "unsupported_media_type", None)
        response = await client.post("/encode", data=io.BytesIO(bytes(2_000_000)), headers=WAV)
        assert await error(response) == (413, "body_too_large", None)
        packed = {**WAV, "Content-Encoding": "deflate"}
        response = await client.post("/encode", data=b"not packed", headers=packed)
        assert await error(response) == (422, "invalid_field", "audio")


async def test_a_service_with_keys_encodes_for_a_key_alone(settings: GatewaySettings) -> None:
    guarded = replace(settings, api_keys=read_keys("a-key-of-16-letters"))
    async with serve(guarded, FakeTriton("musicgen-tiny")) as client:
        response = await client.post("/encode?format=flac", data=wav(), headers=WAV)
        assert await error(response) == (401, "unauthorized", None)
        headers = {**WAV, "Authorization": "Bearer a-key-of-16-letters"}
        response = await client.post("/encode?format=flac", data=wav(), headers=headers)
        assert response.status == 200


async def test_few_encoders_are_open_at_a_time() -> None:
    def opened() -> int:
        return sum(issubclass(type(found), Compressed) for found in gc.get_objects())

    async def encode() -> None:
        await transcoder.encode(song, "mp3")

    transcoder, song = Transcoder(), read(wav(), 300)
    gc.collect()
    before = opened()
    songs = [asyncio.create_task(encode()) for _ in range(MAX_ENCODERS + 3)]
    await asyncio.sleep(0)
    assert opened() - before <= MAX_ENCODERS
    await asyncio.gather(*songs)


async def test_few_files_are_in_memory_at_a_time(client: TestClient) -> None:
    assert client.app
    room = client.app[SERVICES].transcoder.room
    for name, places in {"127.0.0.1": MAX_FILES_PER_CLIENT, "192.0.2.": MAX_FILES}.items():
        with ExitStack() as files:
            for number in range(places):
                others = f"{name}{number}" if name.endswith(".") else name
                files.enter_context(room.place(others))
            response = await client.post("/encode", data=wav(), headers=WAV)
            assert await error(response) == (429, "queue_full", None)
            assert response.headers["Retry-After"] == "10"
    assert (await client.post("/encode", data=wav(), headers=WAV)).status == 200
