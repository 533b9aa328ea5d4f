"""The decoder of the codec, plain and native."""

from __future__ import annotations

import time
from pathlib import Path
from statistics import median

import numpy as np
import torch

from bench.clock import Clock, seconds
from bench.report import Record, Table
from bench.small import SMALL, random_codes
from musicgen_engine.core import checkpoint
from musicgen_engine.model.native_codec import native_codec
from musicgen_engine.model.one_thread import one_thread
from musicgen_engine.model.streaming_codec import StreamingCodec
from protocol.constants import FRAME_RATE, Codes
from training.structure import TINY

TINY_FOLDER = Path(__file__).parents[1] / "model_repository" / "musicgen-tiny" / "1"


def codec(folder: Path) -> list[Record]:
    """Plain and native in turn, on one thread."""
    table = Table("Decoding a second of audio: ms of one core, and how far native differs")
    for name, (source, vocab_size) in {
        "musicgen-small": (folder, SMALL.vocab_size),
        "musicgen-tiny": (TINY_FOLDER, TINY.vocab_size),
    }.items():
        with one_thread():
            plain = checkpoint.load(source, torch.device("cpu")).codec
            codecs = {"plain": plain, "native": native_codec(plain)}
            codes = random_codes(3 * FRAME_RATE, vocab_size)
            expected, samples = (one.stream().push(codes, last=True) for one in codecs.values())
            times: dict[str, list[float]] = {key: [] for key in codecs}
            for _ in range(5):
                for key, one in codecs.items():
                    second = codec_seconds(one, codes[:, :FRAME_RATE], time.thread_time)
                    times[key].append(1000 * second)
        ms = {key: round(median(several), 1) for key, several in times.items()}
        ratio = median(n / p for p, n in zip(*times.values(), strict=True))
        error = float(np.abs(samples - expected).max())
        table.add({"codec": name} | ms | {"ratio": round(ratio, 2), "error": f"{error:.1g}"})
    return table.rows


def codec_seconds(codec: StreamingCodec, codes: Codes, clock: Clock = time.perf_counter) -> float:
    """The time to decode codes in the middle of a song."""
    stream = codec.stream()
    stream.push(codes, last=False)
    return median(seconds(lambda: stream.push(codes, last=False), clock) for _ in range(3))
