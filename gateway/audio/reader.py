"""The reader of audio files that clients send, a process with limits.

    python -m gateway.audio.reader SECONDS < FILE > SAMPLES

A file that is longer than SECONDS is refused.

A malicious file can harm this process alone. It has little memory, little time and no secrets, and
it can open nothing: no file, no socket, no other process.
"""

from __future__ import annotations

import ctypes
import io
import json
import math
import re
import resource
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain, groupby
from typing import Any

import av
import av.subtitles.codeccontext  # PyAV would import these with its first file
import av.subtitles.stream
import numpy as np
import soundfile
from av.audio.frame import AudioFrame
from av.audio.layout import AudioLayout
from av.filter import Graph

from protocol.constants import (
    MAX_CHANNELS,
    MAX_PROMPT_SECONDS,
    MAX_SAMPLE_RATE,
    MIN_SAMPLE_RATE,
    SAMPLE_RATE,
    Samples,
)

MAX_MEMORY = 224 * 1024**2  # bytes of data; code takes some 30 MB more
MAX_CPU = 3  # seconds
PADDING = 0.2  # seconds of silence that a codec may add
SILENCE = 1e-4  # full scale is 1
EMPTY = "is empty; send a file with sound"
UNREADABLE = "cannot be read; send a WAV, FLAC, MP3 or Ogg"
MEDIA_TYPE = {"contentMediaType": "audio/*"}
# FFmpeg reads containers that cannot refer to another file or address, as playlists do.
FFMPEG = {"format_whitelist": "flac,ogg,mp3,aac,mov,matroska,caf", "protocol_whitelist": "none"}
# libsndfile reads FLAC and PCM: FFmpeg misreads some WAV files, and junk behind a FLAC.
LIBSNDFILE = {"WAV", "WAVEX", "RF64", "W64", "AIFF", "AU", "CAF", "FLAC"}
BLOCK = 65_536  # samples per channel at a time
# In libsndfile's log: a chunk, its bytes by its header, and those that there are; the bytes of a
# sample on all channels.
CUT = re.compile(r"(\w+)\s*: (\d+) \(should be ([1-9]\d*)\)")
BLOCK_ALIGN = re.compile(r"Block Align\s*: (\d+)")
PIPED = 0x7FFF_0000  # bytes; the header of a file that was written into a pipe states more
BYTES = {"PCM_U8": 1, "PCM_16": 2, "PCM_24": 3, "PCM_32": 4, "FLOAT": 4, "DOUBLE": 8}
ESTIMATED = {"mp3", "aac"}  # formats whose duration FFmpeg may estimate
ID3 = re.compile(rb"ID3..(.)([\0-\x7f]{4})", re.DOTALL)
LIMITS = {
    resource.RLIMIT_DATA: MAX_MEMORY,
    resource.RLIMIT_NOFILE: 0,  # no new file or socket, so nothing of another process in /proc
    resource.RLIMIT_NPROC: 0,
    resource.RLIMIT_CORE: 0,
}
PR_SET_NO_NEW_PRIVS, CAPABILITY_VERSION = 38, 0x20080522


class UnreadableFile(ValueError):
    """The file cannot be read. `problem` continues the name of the file's field, `limits` are those
    that the file breaks."""

    def __init__(self, problem: str, limits: Mapping[str, Any] = MEDIA_TYPE) -> None:
        super().__init__(problem)
        self.problem, self.limits = problem, limits


@dataclass(frozen=True, eq=False)
class Audio:
    """The samples of a file at 32 kHz, mono or stereo, and about the parts left out a sentence
    that continues the name of the file's field."""

    samples: Samples
    warning: str | None = None


def decode(data: bytes, longest: float = MAX_PROMPT_SECONDS) -> Audio:
    """Decode a file of at most `longest` seconds in this process. A part that cannot be decoded is
    left out.

    Raises:
        UnreadableFile
    """
    if not data:
        raise UnreadableFile(EMPTY)
    data, lost = _without_id3(data), list[float]()
    try:
        try:
            samples = _converted(_libsndfile_frames(data, lost), longest)
        except soundfile.LibsndfileError:
            samples = _converted(_ffmpeg_frames(data, lost), longest)
    except av.MemoryError:
        raise
    except av.FFmpegError:
        raise UnreadableFile(UNREADABLE) from None
    if not samples.size:
        raise UnreadableFile(UNREADABLE if lost else EMPTY)
    if not np.isfinite(samples).all():
        problem = "holds NaN or infinity; send finite samples, full scale is 1"
        raise UnreadableFile(problem)
    if np.abs(samples).max() < SILENCE:
        raise UnreadableFile("is silent; send a file with sound")
    if not lost:
        return Audio(samples)
    seconds = sum(lost)
    amount = "a part" if math.isnan(seconds) else f"{max(seconds, 0.01):.2f} s"
    return Audio(samples, f"is damaged or cut short; {amount} of it is left out.")


def _without_id3(data: bytes) -> bytes:
    """The file behind its ID3 tag. The tag may unpack to gigabytes, and only MP3 should have it."""
    while tag := ID3.match(data):
        flags, size = tag[1][0], 0
        for byte in tag[2]:
            size = size << 7 | byte
        footer = 10 if flags & 0x10 else 0
        data = data[10 + size + footer :]
    return data


def _libsndfile_frames(data: bytes, lost: list[float]) -> Iterator[AudioFrame]:
    """The frames of a file of PCM or FLAC; `lost` gets the seconds that the file lacks."""
    if data[:4] in (b"RIFF", b"RIFX"):  # a length of 0 is an unknown one
        header = data[:4096].replace(b"data\0\0\0\0", b"data\xff\xff\xff\xff")
        data = header + data[4096:]
    with soundfile.SoundFile(io.BytesIO(data)) as file:
        if file.format not in LIBSNDFILE:
            raise soundfile.LibsndfileError(1)
        _check_format(file.samplerate, file.channels)
        align, size = BLOCK_ALIGN.search(file.extra_info), BYTES.get(file.subtype)
        if align and size and int(align[1]) != size * file.channels:
            problem = "has a header that contradicts itself; convert it to a plain WAV"
            raise UnreadableFile(problem)
        while len(block := file.read(BLOCK, "float32", always_2d=True)):
            frame = AudioFrame.from_ndarray(block.reshape(1, -1), "flt", f"{file.channels}c")
            frame.sample_rate = file.samplerate
            yield frame
        if missing := _missing(file.extra_info, int(align[1]) if align else 1):
            lost.append(missing * file.frames / file.samplerate)


def _missing(log: str, block: int) -> float:
    """The bytes that a file of PCM lacks, as a share of those that it has, by libsndfile's log."""
    shares = [0.0]
    for name, stated, size in CUT.findall(log):
        if int(stated) < PIPED:
            shares.append(int(stated) / int(size) - 1)
        elif name == "data":  # the writer did not know the length, but a sample is cut in two
            shares.append(int(size) % block / int(size))
    return max(shares)


def _ffmpeg_frames(data: bytes, lost: list[float]) -> Iterator[AudioFrame]:
    """The frames of any other file; `lost` gets the seconds that cannot be decoded."""
    with av.open(io.BytesIO(data), "r", options=FFMPEG, metadata_errors="replace") as container:
        if not container.streams.audio:
            raise UnreadableFile("holds no audio; send a WAV, FLAC, MP3 or Ogg")
        stream = container.streams.audio[0]
        if stream.codec_context is None:  # FFmpeg does not know the codec
            raise UnreadableFile(UNREADABLE)
        stream.codec_context.thread_count = 1
        if stream.codec_context.name == "flac":  # a frame with a wrong checksum is noise
            stream.codec_context.options = {"err_detect": "crccheck+explode"}
        seconds = 0.0
        for frame in _decoded(container.demux(stream), lost):
            yield frame
            seconds += frame.samples / frame.sample_rate
        if container.format.name not in ESTIMATED and stream.duration and stream.time_base:
            missing = float(stream.duration * stream.time_base) - seconds
            if missing > PADDING:
                lost[:] = [missing]


def _decoded(packets: Iterator[Any], lost: list[float]) -> Iterator[AudioFrame]:
    """The frames of those packets that can be decoded."""
    while True:
        seconds = math.nan  # for an error of the container, which gives no packet after it
        try:
            packet = next(packets)
            if packet.duration and packet.time_base:
                seconds = float(packet.duration * packet.time_base)
            frames = packet.decode()
        except StopIteration:
            return
        except MemoryError:
            raise
        except av.FFmpegError:
            lost.append(seconds)
        else:
            yield from frames


def _converted(frames: Iterator[AudioFrame], longest: float) -> Samples:
    """The samples at 32 kHz, mono or stereo, at most `longest` seconds of them."""
    parts = [
        _stereo(_resampled(group), layout)
        for (_, layout, _), group in groupby(_checked(frames, longest), _form)
    ]
    channels = max((len(part) for part in parts), default=1)
    parts = [np.broadcast_to(part, (channels, part.shape[1])) for part in parts]
    samples: Samples = np.concatenate([np.zeros((channels, 0), np.float32), *parts], axis=1)
    return samples[:, : round(longest * SAMPLE_RATE)]


def _checked(frames: Iterable[AudioFrame], longest: float) -> Iterator[AudioFrame]:
    seconds = 0.0
    for frame in frames:
        _check_format(frame.sample_rate, frame.layout.nb_channels)
        seconds += frame.samples / frame.sample_rate
        if seconds > longest + PADDING:
            raise UnreadableFile(f"is longer than {longest:g} s; cut it", {"maximum": longest})
        frame.pts = None  # a part that was left out makes no gap
        yield frame


def _check_format(sample_rate: int, channels: int) -> None:
    if not MIN_SAMPLE_RATE <= sample_rate <= MAX_SAMPLE_RATE:
        limits = f"{MIN_SAMPLE_RATE} to {MAX_SAMPLE_RATE}"
        problem = f"has {sample_rate} samples a second; convert it to {limits}"
        raise UnreadableFile(problem)
    if not 1 <= channels <= MAX_CHANNELS:
        problem = f"has {channels} channels; convert it to 1 to {MAX_CHANNELS}"
        raise UnreadableFile(problem)


def _form(frame: AudioFrame) -> tuple[int, str, str]:
    return frame.sample_rate, frame.layout.name, frame.format.name


def _resampled(frames: Iterator[AudioFrame]) -> Samples:
    """The samples at 32 kHz of frames of one form."""
    first = next(frames)
    graph = Graph()
    graph.threads = 1
    graph.link_nodes(
        graph.add_abuffer(
            sample_rate=first.sample_rate, format=first.format.name, layout=first.layout.name
        ),
        graph.add("aformat", sample_fmts="flt", sample_rates=str(SAMPLE_RATE)),
        graph.add("abuffersink"),
    ).configure()
    parts: list[Any] = [np.zeros((1, 0), np.float32)]
    for frame in chain([first], frames, [None]):
        graph.push(frame)
        with suppress(av.BlockingIOError, av.EOFError):
            while True:
                parts.append(graph.pull().to_ndarray())
    samples: Samples = np.concatenate(parts, axis=1).reshape(-1, first.layout.nb_channels).T
    return samples


def _stereo(samples: Samples, layout: str) -> Samples:
    """Mono or stereo. More channels are mixed to stereo, with peaks at full scale or below."""
    if len(samples) <= 2:
        return samples
    names = [channel.name.removeprefix("LFE") for channel in AudioLayout(layout).channels]
    weights = np.array([("R" not in name, "L" not in name) for name in names], np.float32)
    weights /= np.linalg.norm(weights, axis=1, keepdims=True)
    mixed: Samples = weights.T @ samples
    return mixed / np.float32(np.abs(mixed).max(initial=1))


def main() -> None:
    data = sys.stdin.buffer.read()
    confine()
    try:
        audio = decode(data, float(sys.argv[1]))
    except UnreadableFile as error:
        print(json.dumps({"problem": error.problem, "limits": error.limits}))
    except MemoryError:
        problem = f"needs over {MAX_MEMORY // 1024**2} MB to be read; convert it to a plain WAV"
        print(json.dumps({"problem": problem, "limits": MEDIA_TYPE}))
    else:
        print(json.dumps({"channels": len(audio.samples), "warning": audio.warning}), flush=True)
        sys.stdout.buffer.write(np.ascontiguousarray(audio.samples).data)


def confine() -> None:
    """Give up all that decoding does not need: memory, time, new files and sockets, privileges."""
    for limit, value in LIMITS.items():
        resource.setrlimit(limit, (value, value))
    resource.setrlimit(resource.RLIMIT_CPU, (MAX_CPU, MAX_CPU + 1))  # SIGXCPU, then SIGKILL
    libc = ctypes.CDLL(None)
    libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    # Without capabilities, root cannot raise the limits either.
    libc.capset((ctypes.c_uint32 * 2)(CAPABILITY_VERSION, 0), (ctypes.c_uint32 * 6)())


if __name__ == "__main__":
    main()
