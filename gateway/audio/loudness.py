"""The loudness of a whole song (ITU-R BS.1770): FFmpeg's filters measure it and limit the peaks."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from math import log10

import av
import numpy as np
from av.filter import Graph

from protocol.constants import SAMPLE_RATE, Samples

SILENCE = -70.0  # LUFS; the meter ignores all that is softer
BLOCK = 0.4  # seconds; the meter needs one
PEAK_GRAIN = 0.001  # the meter rounds true peaks to it
HIGHEST_PEAK = 10 ** (-1 / 20)  # of full scale: -1 dB
HEADROOM = 0.99  # below it, for peaks that rise when the limiter's samples are resampled
MOST_LIMITING = 20.0  # dB; beyond it hardly any music is left
TOLERANCE, ROUNDS = 0.05, 12  # dB
STEEPEST = 4.0  # dB of gain for a dB of loudness, in a round
SURROUNDINGS = SAMPLE_RATE // 2  # samples that the limiter hears around a loop
LAST_LINES = 2_000  # bytes of the meter's log


@dataclass(frozen=True)
class Level:
    loudness: float  # LUFS, at least SILENCE
    peak: float  # at least the true peak, between samples too; full scale is 1


def measure(song: Iterable[Samples]) -> Level:
    log = os.memfd_create("loudness")
    try:
        meter = ("ebur128", "peak=true:metadata=1:framelog=quiet")
        for _ in _filtered(song, meter, ("ametadata", f"mode=print:direct=1:file=pipe\\:{log}")):
            pass
        size = os.lseek(log, 0, os.SEEK_END)
        lines = os.pread(log, LAST_LINES, max(0, size - LAST_LINES)).decode().splitlines()
    finally:
        os.close(log)
    values = dict(line.split("=") for line in lines if line.startswith("lavfi.r128."))
    peak = float(values["lavfi.r128.true_peak"]) + PEAK_GRAIN / 2
    return Level(float(values["lavfi.r128.I"]), peak)


def with_loudness(
    song: Sequence[Samples], target: float, loop: bool = False
) -> tuple[Iterator[Samples], Level]:
    """The slices of a song with the loudness `target`, and its level.

    Where the gain would lift a true peak above HIGHEST_PEAK, a limiter holds it, and the gain is
    searched again; with MOST_LIMITING the song is as near to the target as it gets. Silence stays
    as it is.
    """
    level = measure(song)
    if level.loudness <= SILENCE:
        return iter(song), level
    gain, slope, peak, limit = 0.0, 1.0, level.peak, HEADROOM * HIGHEST_PEAK
    most, louder = _decibels(limit / peak) + MOST_LIMITING, partial(iter, song)
    for _ in range(ROUNDS):
        before, step = level.loudness, min(slope * (target - level.loudness), most - gain)
        if abs(step) < TOLERANCE and level.peak <= HIGHEST_PEAK:
            break
        gain += step
        louder = partial(_louder, song, gain, peak, limit, loop)
        level = measure(louder())
        limit *= min(1.0, HIGHEST_PEAK / level.peak)
        if abs(step) > TOLERANCE:
            rise = level.loudness - before
            slope = min(max(1.0, step / rise), STEEPEST) if rise else STEEPEST
    return louder(), level


def _louder(
    song: Sequence[Samples], gain: float, peak: float, limit: float, loop: bool
) -> Iterator[Samples]:
    """The song with a gain in dB, limited where its peak needs that."""
    factor = np.float32(10 ** (gain / 20))
    if peak * factor <= limit:
        return (part * factor for part in song)
    return _limited(song, factor, limit, loop)


def _limited(
    song: Sequence[Samples], factor: np.float32, limit: float, loop: bool
) -> Iterator[Samples]:
    """The song louder by a factor, with its peaks held. A loop plays before and after itself, so
    that its end goes on into its beginning as before."""
    before = after = song[0][:, :0]
    if loop:
        before = np.concatenate(song[-3:], axis=1)[:, -SURROUNDINGS:]
        after = np.concatenate(song[:3], axis=1)[:, :SURROUNDINGS]
    parts = _filtered(
        (part * factor for part in [before, *song, after] if part.size),
        ("aresample", str(4 * SAMPLE_RATE)),
        ("alimiter", f"limit={limit}:level=false:latency=true"),
        ("aresample", str(SAMPLE_RATE)),
        ("aformat", "sample_fmts=fltp"),
    )
    place, samples = -before.shape[1], sum(part.shape[1] for part in song)
    for part in parts:
        kept = part[:, max(0, -place) : max(0, samples - place)]
        place += part.shape[1]
        if kept.size:
            yield kept


def _filtered(song: Iterable[Samples], *filters: tuple[str, str]) -> Iterator[Samples]:
    """The slices of a song through FFmpeg's filters, each a name and its options."""
    graph, place, layout = Graph(), 0, ""
    for part in song:
        if not layout:
            layout = {1: "mono", 2: "stereo"}[len(part)]
            source = graph.add_abuffer(sample_rate=SAMPLE_RATE, format="fltp", layout=layout)
            nodes = [graph.add(*filter) for filter in filters]
            graph.link_nodes(source, *nodes, graph.add("abuffersink")).configure()
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(part), "fltp", layout)
        frame.sample_rate, frame.pts = SAMPLE_RATE, place
        place += frame.samples
        graph.push(frame)
        yield from _pulled(graph)
    graph.push(None)
    yield from _pulled(graph)


def _pulled(graph: Graph) -> Iterator[Samples]:
    """The slices that the filters have ready."""
    while True:
        try:
            frame = graph.pull()
        except (av.BlockingIOError, av.EOFError):
            return
        assert isinstance(frame, av.AudioFrame)
        yield np.asarray(frame.to_ndarray(), np.float32)


def _decibels(ratio: float) -> float:
    return 20 * log10(ratio)
