"""Songs from `POST /generate`, and the errors in their place."""

import io
import json
import wave
from typing import Any

import aiohttp
import numpy as np
import soundfile

from tests.conftest import TIMEOUT, Stack

GOOD = {"prompt": "slow piano", "duration": 1}
# In stereo, with random weights: it is never silent, unlike the beginning of music.
NOISE = {"model": "my-music", "duration": 0.5}


async def post(stack: Stack, body: Any, **options: Any) -> tuple[int, Any, bytes]:
    """Status, headers and body of the response; `body` is JSON unless it is bytes."""
    data = io.BytesIO(body if isinstance(body, bytes) else json.dumps(body).encode())
    headers = {"Content-Type": "application/json", **options.pop("headers", {})}
    timeout = aiohttp.ClientTimeout(TIMEOUT)
    async with (
        aiohttp.ClientSession(timeout=timeout) as session,
        session.post(f"{stack.url}/generate", data=data, headers=headers, **options) as answer,
    ):
        return answer.status, answer.headers, await answer.read()


async def song(stack: Stack, body: dict[str, Any]) -> Any:
    """int16 [samples, channels] of a whole WAV."""
    code, headers, wav = await post(stack, body)
    assert code == 200, wav
    assert headers["Content-Type"] == "audio/wav"
    assert int(headers["Content-Length"]) == len(wav)
    assert ".wav" in headers["Content-Disposition"]
    return samples(wav)


def samples(wav: bytes) -> Any:
    """int16 [samples, channels], read by the standard library and checked against libsndfile."""
    with wave.open(io.BytesIO(wav)) as reader:
        assert (reader.getframerate(), reader.getsampwidth()) == (32_000, 2)
        pcm = np.frombuffer(reader.readframes(reader.getnframes()), "<i2")
        pcm = pcm.reshape(-1, reader.getnchannels())
    other, rate = soundfile.read(io.BytesIO(wav), dtype="int16", always_2d=True)
    assert rate == 32_000 and np.array_equal(pcm, other)
    return pcm


def code(answer: bytes) -> tuple[str, str | None]:
    """Code and field of an error, whose message shows nothing of the service's inside."""
    error = json.loads(answer)["error"]
    assert set(error) == {"code", "message", "field", "limits"}
    assert error["message"]
    for internal in ("Traceback", "site-packages", ".py", "/1/", "StatusCode", "Stub"):
        assert internal not in error["message"]
    return error["code"], error["field"]
