"""Somebody's audio file, read by FFmpeg in a process of its own: nobody knows what is in it.

    python -m gateway.upload < FILE > SAMPLES

The process has little memory and little time, and what happens to it happens to nobody else.
"""

from __future__ import annotations

import asyncio
import io
import json
import logging
import resource
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gateway.errors import InvalidField

FIELD = "audio"
MAX_BYTES = 32 * 1024**2
MAX_SECONDS = 30.0  # of music that a model goes on from
MAX_CHANNELS = 8
SAMPLE_RATES, SAMPLE_RATE_STEP = (8_000, 192_000), 25
SILENCE = 1e-4  # full scale is 1
# Containers that refer to no other file or address: playlists do.
CONTAINERS = "wav,w64,flac,ogg,mp3,aac,mov,matroska,aiff,caf,au"
MAX_MEMORY = 2 * 1024**3  # bytes of address space, of which FFmpeg's libraries are a good part
MAX_CPU = 5  # seconds

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Audio:
    """float32 [channels, samples], full scale is 1."""

    samples: NDArray[np.float32]
    sample_rate: int

    @property
    def seconds(self) -> float:
        return self.samples.shape[1] / self.sample_rate


async def read(data: bytes) -> Audio:
    """Raises `InvalidField`, saying what is wrong with the file."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", __name__),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        answer, complaint = await process.communicate(data)
    except BaseException:
        process.kill()
        raise
    if process.returncode:
        log.info("a file ended its reader (%d): %s", process.returncode, complaint[-500:])
        raise _invalid("cannot be read; send a WAV, FLAC, MP3 or Ogg")
    line, _, samples = answer.partition(b"\n")
    told = json.loads(line)
    if "wrong" in told:
        raise _invalid(told["wrong"])
    heard = np.frombuffer(samples, np.float32).reshape(told["channels"], -1)
    return Audio(heard, told["sample_rate"])


def decode(data: bytes) -> Audio:
    """Raises `InvalidField`."""
    import av

    options = {"format_whitelist": CONTAINERS, "protocol_whitelist": "none"}
    try:
        with av.open(io.BytesIO(data), "r", options=options) as container:
            if not container.streams.audio:
                raise _invalid("holds no audio; send a WAV, FLAC, MP3 or Ogg")
            codec = container.streams.audio[0].codec_context
            sample_rate = codec.sample_rate
            _check(sample_rate, codec.channels)
            pieces = list(_within(MAX_SECONDS * sample_rate, container.decode(audio=0)))
    except av.FFmpegError:
        raise _invalid("cannot be read; send a WAV, FLAC, MP3 or Ogg") from None
    samples = np.concatenate(pieces, axis=1) if pieces else np.zeros((1, 0), np.float32)
    if not samples.size:
        raise _invalid("is empty; send a file with sound")
    if not np.isfinite(samples).all() or np.abs(samples).max() < SILENCE:
        raise _invalid("is silent; send a file with sound")
    return Audio(samples, sample_rate)


def _check(sample_rate: int, channels: int) -> None:
    (slowest, fastest), step = SAMPLE_RATES, SAMPLE_RATE_STEP
    if not slowest <= sample_rate <= fastest or sample_rate % step:
        raise _invalid(
            f"has {sample_rate} samples a second; "
            f"convert it to a multiple of {step} from {slowest} to {fastest}"
        )
    if not 1 <= channels <= MAX_CHANNELS:
        raise _invalid(f"has {channels} channels; convert it to 1 to {MAX_CHANNELS}")


def _within(limit: float, frames: Iterator[Any]) -> Iterator[NDArray[np.float32]]:
    """The samples of FFmpeg's frames, up to `limit` a channel."""
    samples = 0
    for frame in frames:
        samples += frame.samples
        if samples > limit:
            raise _invalid(f"is longer than {MAX_SECONDS:g} s; cut it")
        steps = frame.to_ndarray()
        if not frame.format.is_planar:
            steps = steps.reshape(frame.samples, -1).T
        if steps.dtype.kind in "iu":
            half = 2.0 ** (8 * steps.itemsize - 1)
            steps = steps / half - (steps.dtype.kind == "u")
        yield steps.astype(np.float32)


def _invalid(what: str) -> InvalidField:
    return InvalidField(f"{FIELD} {what}.", FIELD)


def main() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY, MAX_MEMORY))
    resource.setrlimit(resource.RLIMIT_CPU, (MAX_CPU, MAX_CPU))
    try:
        audio = decode(sys.stdin.buffer.read())
    except InvalidField as error:
        print(json.dumps({"wrong": error.message.removeprefix(f"{FIELD} ").removesuffix(".")}))
        return
    print(
        json.dumps({"channels": len(audio.samples), "sample_rate": audio.sample_rate}), flush=True
    )
    sys.stdout.buffer.write(np.ascontiguousarray(audio.samples).tobytes())


if __name__ == "__main__":
    main()
