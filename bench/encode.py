"""Seconds to encode a minute of music that a client has as WAV, as `POST /encode` does.

    python -m bench.encode

The music is chords with noise, which is harder than songs. The limit is one core. It prints a table
and one line of JSON.
"""

from __future__ import annotations

import asyncio
import json
import time

import numpy as np

from bench.report import Table
from gateway.audio import wav
from gateway.audio.transcoder import Transcoder
from protocol.constants import SAMPLE_RATE, Samples

SECONDS, TRIES = 60, 5
CHORD = (220, 277, 330, 440, 880)  # Hz


def music(channels: int) -> Samples:
    times = np.arange(SECONDS * SAMPLE_RATE) / SAMPLE_RATE
    decay = 0.1 * np.exp(-4 * (times % 0.5))
    notes = [np.sin(2 * np.pi * np.outer(range(1, channels + 1), note * times)) for note in CHORD]
    noise = np.random.default_rng(0).normal(0, 0.02, (channels, len(times)))
    return np.asarray(decay * np.sum(notes, axis=0) + noise, np.float32)


def file(audio: Samples) -> bytes:
    encoder = wav.Wav(len(audio), SAMPLE_RATE, audio.shape[1], {})
    return encoder.begin() + encoder.encode(audio) + encoder.end()


def seconds(data: bytes, format: str) -> float:
    """The shortest of some tries."""
    times = []
    for _ in range(TRIES):
        start = time.perf_counter()
        asyncio.run(Transcoder().encode(wav.read(data, SECONDS), format))
        times.append(time.perf_counter() - start)
    return min(times)


def main() -> None:
    table = Table("Seconds for a minute")
    for channels, name in ((1, "mono"), (2, "stereo")):
        data = file(music(channels))
        times = {format: round(seconds(data, format), 2) for format in ("flac", "ogg", "mp3")}
        table.add({"channels": name, **times})
    print(json.dumps(table.rows))


if __name__ == "__main__":
    main()
