"""The decoder of audio files that clients send. FFmpeg runs in a process of its own, with limits.

    python -m gateway.audio.upload < FILE > SAMPLES

A malicious file can harm that process alone, which has little memory, little time and no secrets.
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

from protocol.constants import (
    MAX_CHANNELS,
    MAX_PROMPT_SECONDS,
    MAX_SAMPLE_RATE,
    MIN_SAMPLE_RATE,
    SAMPLE_RATE_STEP,
    Samples,
)
from protocol.errors import Internal, InvalidField, QueueFull, ServiceError

FIELD = "audio"
MAX_BYTES = 32 * 1024**2
PADDING = 0.2  # seconds of silence that a codec may add
SILENCE = 1e-4  # full scale is 1
# Containers that cannot refer to another file or address, as playlists do.
CONTAINERS = "wav,w64,flac,ogg,mp3,aac,mov,matroska,aiff,caf,au"
MAX_DECODERS = 2  # at a time
MAX_FILES = 16  # in memory at a time
MAX_MEMORY = 2 * 1024**3  # bytes of address space, a good part of which FFmpeg's libraries take
MAX_CPU = 5  # seconds
UNREADABLE = "cannot be read; send a WAV, FLAC, MP3 or Ogg"
PROJECT = Path(__file__).parent.parent.parent
# The whole environment: no secrets, and one thread, since each would take address space.
ENVIRONMENT = {"OPENBLAS_NUM_THREADS": "1"}

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Audio:
    samples: Samples
    sample_rate: int

    @property
    def seconds(self) -> float:
        return self.samples.shape[1] / self.sample_rate


class Decoder:
    """Decodes a few files at a time, in processes that run `command`; other files wait."""

    def __init__(self, command: Sequence[str] = (sys.executable, "-m", __name__)) -> None:
        self._command = command
        self._slots = asyncio.Semaphore(MAX_DECODERS)
        self._files = 0

    @contextmanager
    def room(self) -> Iterator[None]:
        """Reserve memory for one file, before its first byte comes.

        Raises:
            QueueFull: there are too many files in memory.
        """
        if self._files == MAX_FILES:
            raise QueueFull(f"{MAX_FILES} files are being read already; ask again in 10 s")
        self._files += 1
        try:
            yield
        finally:
            self._files -= 1

    async def decode(self, data: bytes | bytearray) -> Audio:
        """Decode a file.

        Raises:
            InvalidField: it says what is wrong with the file.
        """
        async with self._slots:
            line, _, samples = (await self._run(data)).partition(b"\n")
        header = json.loads(line)
        if "code" in header:
            raise ServiceError.of(header)
        decoded = np.frombuffer(samples, np.float32).reshape(header["channels"], -1)
        return Audio(decoded, header["sample_rate"])

    async def _run(self, data: bytes | bytearray) -> bytes:
        """The output of a process with this input."""
        process = await asyncio.create_subprocess_exec(
            *self._command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=ENVIRONMENT,
            cwd=PROJECT,
        )
        try:
            output, errors = await process.communicate(data)
            code = await process.wait()
        except BaseException:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()
            raise
        if code == 0:
            return output
        text = errors[-2_000:].decode(errors="replace")
        if code > 0:  # an exception: our own fault
            log.error("the decoder of files failed (%d): %s", code, text)
            raise Internal("The file could not be read; the gateway's log says why.")
        log.warning("a file ended its decoder (%s): %s", signal.Signals(-code).name, text)
        raise InvalidField.of_field(FIELD, UNREADABLE)


def decode(data: bytes) -> Audio:
    """Decode a file in this process; more than two channels become stereo.

    Raises:
        InvalidField: it says what is wrong with the file.
    """
    import av

    options = {"format_whitelist": CONTAINERS, "protocol_whitelist": "none"}
    file = io.BytesIO(data)
    try:
        with av.open(file, "r", options=options, metadata_errors="replace") as container:
            if not container.streams.audio:
                problem = "holds no audio; send a WAV, FLAC, MP3 or Ogg"
                raise InvalidField.of_field(FIELD, problem)
            codec = container.streams.audio[0].codec_context
            if codec is None:  # FFmpeg does not know the codec
                raise InvalidField.of_field(FIELD, UNREADABLE)
            sample_rate, channels = codec.sample_rate, codec.channels
            _check_format(sample_rate, channels)
            resampler = av.AudioResampler("fltp", "stereo" if channels > 2 else None)
            limit = (MAX_PROMPT_SECONDS + PADDING) * sample_rate
            slices = list(_decoded(container.decode(audio=0), resampler, limit))
            samples = np.concatenate(slices, axis=1) if slices else np.zeros((1, 0), np.float32)
            samples = samples[:, : int(MAX_PROMPT_SECONDS * sample_rate)]
    except av.FFmpegError:
        raise InvalidField.of_field(FIELD, UNREADABLE) from None
    except ValueError:  # a frame whose rate or channels differ from those of the first
        problem = "changes its form in the middle; convert it to a plain WAV"
        raise InvalidField.of_field(FIELD, problem) from None
    if not samples.size:
        raise InvalidField.of_field(FIELD, "is empty; send a file with sound")
    if not np.isfinite(samples).all() or np.abs(samples).max() < SILENCE:
        raise InvalidField.of_field(FIELD, "is silent; send a file with sound")
    return Audio(samples, sample_rate)


def _check_format(sample_rate: int, channels: int) -> None:
    if not MIN_SAMPLE_RATE <= sample_rate <= MAX_SAMPLE_RATE or sample_rate % SAMPLE_RATE_STEP:
        problem = (
            f"has {sample_rate} samples a second; convert it to a multiple of {SAMPLE_RATE_STEP} "
            f"from {MIN_SAMPLE_RATE} to {MAX_SAMPLE_RATE}"
        )
        raise InvalidField.of_field(FIELD, problem)
    if not 1 <= channels <= MAX_CHANNELS:
        problem = f"has {channels} channels; convert it to 1 to {MAX_CHANNELS}"
        raise InvalidField.of_field(FIELD, problem)


def _decoded(frames: Iterator[Any], resampler: Any, limit: float) -> Iterator[Samples]:
    """The samples of FFmpeg's frames, at most `limit` per channel."""
    samples = 0
    for frame in frames:
        samples += frame.samples
        if samples > limit:
            raise InvalidField.of_field(FIELD, f"is longer than {MAX_PROMPT_SECONDS:g} s; cut it")
        yield from (resampled.to_ndarray() for resampled in resampler.resample(frame))


def main() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY, MAX_MEMORY))
    resource.setrlimit(resource.RLIMIT_CPU, (MAX_CPU, MAX_CPU))
    try:
        audio = decode(sys.stdin.buffer.read())
    except InvalidField as error:
        print(json.dumps(error.data()))
        return
    except MemoryError:
        print(json.dumps(InvalidField.of_field(FIELD, UNREADABLE).data()))
        return
    header = {"channels": len(audio.samples), "sample_rate": audio.sample_rate}
    print(json.dumps(header), flush=True)
    sys.stdout.buffer.write(np.ascontiguousarray(audio.samples).data)


if __name__ == "__main__":
    main()
