"""The beginning of an MP3: its tags (ID3v2.4), and the frame that states its length.

FFmpeg writes comments as another frame than players read, and the length only at the end.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping

from gateway.audio.receipt import XMP

TEXT_FRAMES = {"title": b"TIT2", "artist": b"TPE1", "copyright": b"TCOP", "software": b"TSSE"}
UTF8 = b"\3"
LANGUAGE = b"eng"
PADDING = bytes(10)  # some readers stumble over a last frame without it

# MPEG-1, layer III, 32 kHz, 128 kbit/s per channel.
FRAME_HEADERS = {1: bytes.fromhex("fffb98c4"), 2: bytes.fromhex("fffbd804")}
SIDE_INFO = {1: 17, 2: 32}  # bytes behind the header of a frame
FRAME_BYTES = 576  # per channel
FRAME_SAMPLES = 1152
DELAY = 576  # samples that LAME encodes before the first, and at least as many behind the last
HAS_ALL = 15  # frames, bytes, table of contents, quality
CONSTANT_BIT_RATE = 1
MAX_BIT_RATE = 255  # kbit/s, in a byte
CRC16 = 0xA001


def header(channels: int, samples: int, tags: Mapping[str, str]) -> bytes:
    """All that stands before the audio of a file of so many samples per channel."""
    return _id3(tags) + _info_frame(channels, samples)


def _id3(tags: Mapping[str, str]) -> bytes:
    """The tags: each in its own frame where ID3 has one, and the mark of a machine as XMP."""
    frames = []
    if "digitalsourcetype" in tags:
        frames.append(_id3_frame(b"PRIV", b"XMP\0" + XMP.encode()))
    for name, text in tags.items():
        if name == "comment":
            frames.append(_id3_frame(b"COMM", UTF8 + LANGUAGE + b"\0" + text.encode()))
        elif name in TEXT_FRAMES:
            frames.append(_id3_frame(TEXT_FRAMES[name], UTF8 + text.encode()))
        else:
            frames.append(_id3_frame(b"TXXX", UTF8 + name.encode() + b"\0" + text.encode()))
    content = b"".join(frames) + PADDING
    return b"ID3\4\0\0" + _id3_size(content) + content


def _id3_frame(name: bytes, content: bytes) -> bytes:
    return name + _id3_size(content) + b"\0\0" + content


def _id3_size(content: bytes) -> bytes:
    """Four bytes of seven bits."""
    return bytes(len(content) >> shift & 0x7F for shift in (21, 14, 7, 0))


def _info_frame(channels: int, samples: int) -> bytes:
    """A silent frame with LAME's tag: the number of frames, the samples to leave out at both ends.

    LAME's constant bit rate makes all frames equally long.
    """
    padding = DELAY + -samples % FRAME_SAMPLES
    frames = (DELAY + samples + padding) // FRAME_SAMPLES
    size = FRAME_BYTES * channels
    total = size * (1 + frames)  # bytes
    contents = bytes(percent * 256 // 100 for percent in range(100))
    tag = struct.pack(">4sIII100sI", b"Info", HAS_ALL, frames, total, contents, 0)
    bit_rate = min(128 * channels, MAX_BIT_RATE)
    ends = (DELAY << 12 | padding).to_bytes(3, "big")
    tag += struct.pack(">9sB10xB3s4xIxx", b"LAME3.100", CONSTANT_BIT_RATE, bit_rate, ends, total)
    frame = FRAME_HEADERS[channels] + bytes(SIDE_INFO[channels]) + tag
    return (frame + struct.pack(">H", _crc16(frame))).ljust(size, b"\0")


def _crc16(data: bytes) -> int:
    crc = 0
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (CRC16 if crc & 1 else 0)
    return crc
