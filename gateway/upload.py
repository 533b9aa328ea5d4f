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
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gateway.errors import GatewayError, InvalidField, QueueFull

FIELD = "audio"
MAX_BYTES = 32 * 1024**2
MAX_SECONDS = 30.0  # of music that a model goes on from
PADDING = 0.2  # seconds, of nothing, that a codec may add to a song
MAX_CHANNELS = 8
SAMPLE_RATES, SAMPLE_RATE_STEP = (8_000, 192_000), 25
SILENCE = 1e-4  # full scale is 1
# Containers that refer to no other file or address: playlists do.
CONTAINERS = "wav,w64,flac,ogg,mp3,aac,mov,matroska,aiff,caf,au"
MAX_READERS = 2  # at once
MAX_FILES = 16  # in memory at once
MAX_MEMORY = 2 * 1024**3  # bytes of address space, of which FFmpeg's libraries are a good part
MAX_CPU = 5  # seconds
UNREADABLE = "cannot be read; send a WAV, FLAC, MP3 or Ogg"
PROJECT = Path(__file__).parent.parent
# None of our secrets; and a thread for each core would take all the address space.
ENVIRONMENT = {"OPENBLAS_NUM_THREADS": "1"}

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Audio:
    """float32 [channels, samples], full scale is 1."""

    samples: NDArray[np.float32]
    sample_rate: int

    @property
    def seconds(self) -> float:
        return self.samples.shape[1] / self.sample_rate


class Reader:
    """Reads a few files at a time; the others wait. `command` is what reads one."""

    def __init__(self, command: Sequence[str] = (sys.executable, "-m", __name__)) -> None:
        self._command = command
        self._places = asyncio.Semaphore(MAX_READERS)
        self._files = 0

    @contextmanager
    def room(self) -> Iterator[None]:
        """For one file, from its first byte on. Raises `QueueFull` where too many are held."""
        if self._files == MAX_FILES:
            raise QueueFull(f"{MAX_FILES} files are being read already; ask again in 10 s")
        self._files += 1
        try:
            yield
        finally:
            self._files -= 1

    async def read(self, data: bytes | bytearray) -> Audio:
        """Raises `InvalidField`, saying what is wrong with the file."""
        async with self._places:
            line, _, samples = (await self._answer(data)).partition(b"\n")
        told = json.loads(line)
        if "wrong" in told:
            raise _invalid(told["wrong"])
        heard = np.frombuffer(samples, np.float32).reshape(told["channels"], -1)
        return Audio(heard, told["sample_rate"])

    async def _answer(self, data: bytes | bytearray) -> bytes:
        process = await asyncio.create_subprocess_exec(
            *self._command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=ENVIRONMENT,
            cwd=PROJECT,
        )
        try:
            answer, complaint = await process.communicate(data)
            code = await process.wait()
        except BaseException:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()
            raise
        if code == 0:
            return answer
        said = complaint[-2_000:].decode(errors="replace")
        if code > 0:  # which is our fault
            log.error("the reader of files failed (%d): %s", code, said)
            raise GatewayError("The file could not be read; the gateway's log says why.")
        log.warning("a file ended its reader (%s): %s", signal.Signals(-code).name, said)
        raise _invalid(UNREADABLE)


def decode(data: bytes) -> Audio:
    """In stereo where there are more channels. Raises `InvalidField`."""
    import av

    options = {"format_whitelist": CONTAINERS, "protocol_whitelist": "none"}
    file = io.BytesIO(data)
    try:
        with av.open(file, "r", options=options, metadata_errors="replace") as container:
            if not container.streams.audio:
                raise _invalid("holds no audio; send a WAV, FLAC, MP3 or Ogg")
            codec = container.streams.audio[0].codec_context
            if codec is None:  # FFmpeg knows none
                raise _invalid(UNREADABLE)
            sample_rate, channels = codec.sample_rate, codec.channels
            _check(sample_rate, channels)
            plain = av.AudioResampler("fltp", "stereo" if channels > 2 else None)
            limit = (MAX_SECONDS + PADDING) * sample_rate
            pieces = list(_within(limit, container.decode(audio=0), plain))
            samples = np.concatenate(pieces, axis=1) if pieces else np.zeros((1, 0), np.float32)
            samples = samples[:, : int(MAX_SECONDS * sample_rate)]
    except av.FFmpegError:
        raise _invalid(UNREADABLE) from None
    except ValueError:  # a frame of another rate than the first, or with other channels
        raise _invalid("changes its form in the middle; convert it to a plain WAV") from None
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


def _within(limit: float, frames: Iterator[Any], plain: Any) -> Iterator[NDArray[np.float32]]:
    """The samples of FFmpeg's frames as `plain` makes them, up to `limit` a channel."""
    samples = 0
    for frame in frames:
        samples += frame.samples
        if samples > limit:
            raise _invalid(f"is longer than {MAX_SECONDS:g} s; cut it")
        yield from (piece.to_ndarray() for piece in plain.resample(frame))


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
    except MemoryError:
        print(json.dumps({"wrong": UNREADABLE}))
        return
    print(
        json.dumps({"channels": len(audio.samples), "sample_rate": audio.sample_rate}), flush=True
    )
    sys.stdout.buffer.write(np.ascontiguousarray(audio.samples).data)


if __name__ == "__main__":
    main()
