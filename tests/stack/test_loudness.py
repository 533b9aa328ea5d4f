"""The loudness of songs over HTTP."""

import io
import json
from typing import Any

import av
import numpy as np
import pytest
import soundfile

from gateway.audio.loudness import measure
from tests.conftest import Stack
from tests.stack.songs import post

BODY: dict[str, Any] = {
    "model": "musicgen-tiny",
    "prompt": "happy guitar and drums",
    "duration": 4,
    "seed": 5,
}


def level(file: bytes) -> tuple[float, float]:
    """Loudness and true peak, in dB, of a file at 32 kHz."""
    audio, rate = soundfile.read(io.BytesIO(file), dtype="float32", always_2d=True)
    assert rate == 32_000 and audio.shape == (128_000, 1)
    found = measure([audio.T])
    return found.loudness, 20 * float(np.log10(found.peak))


@pytest.mark.parametrize("loudness", [-28, -14, -10])
@pytest.mark.parametrize("format", ["wav", "flac"])
async def test_a_file_has_the_loudness_that_was_asked(
    stack: Stack, loudness: float, format: str
) -> None:
    body = {**BODY, "loudness": loudness, "format": format}
    status, headers, file = await post(stack, body)
    assert status == 200, file
    measured, peak = level(file)
    assert measured == pytest.approx(loudness, abs=0.1)
    assert peak < -1
    assert float(headers["X-Loudness"]) == pytest.approx(measured, abs=0.06)
    with av.open(io.BytesIO(file)) as opened:
        tags = {name.lower(): tag for name, tag in opened.metadata.items()}
    told = tags["iluf" if format == "wav" else "loudness"]
    assert told == f"{headers['X-Loudness']} LUFS"
    assert (await post(stack, {**json.loads(tags["comment"]), "format": format}))[2] == file
