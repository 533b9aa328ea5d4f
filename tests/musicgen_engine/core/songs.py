"""Requests for songs of random weights, and what they share."""

from dataclasses import replace
from typing import Any

import numpy as np

from musicgen_engine.core.loaded_model import LoadedModel
from protocol.constants import Codes, Samples
from protocol.prompt import WeightedText
from protocol.request import GenerationRequest
from tests.musicgen_engine.core.harness import Result

GREEDY = GenerationRequest("a calm piano melody", frames=50, seed=0, temperature=0)
SAMPLED = GenerationRequest("a calm piano melody", frames=120, seed=7)
WINDOW = 100  # frames, for tests of several windows: 1,500, as checkpoints have, take minutes


def with_short_windows(model: LoadedModel) -> LoadedModel:
    return replace(model, pattern=replace(model.pattern, window=WINDOW))


def random_codes(frames: int, codebooks: int = 4) -> Codes:
    return np.random.default_rng(1).integers(0, 2048, (codebooks, frames), np.int32)


def mates(frames: int, **settings: Any) -> dict[int, GenerationRequest]:
    """Seven requests of all kinds, by the step at which they join the batch."""
    requests = {
        0: GenerationRequest("drums", frames, seed=1),
        1: GenerationRequest("", frames // 2, seed=2, top_p=0.8),
        4: GenerationRequest("strings " * 60, frames, seed=3, cfg_coef=1.0),
        9: GenerationRequest("guitar", frames + 40, seed=4, codes=random_codes(40), start=31 * 640),
        10: GenerationRequest("flute", 3, seed=5, temperature=0),
        25: GenerationRequest("bass", frames, seed=6, top_k=1),
        40: GenerationRequest("Музыка", frames // 3, seed=7, temperature=2.0, top_k=0),
    }
    return {step: replace(request, **settings) for step, request in requests.items()}


def noise(channels: int, seconds: float, sample_rate: int) -> Samples:
    """Low frequencies, so that resampling keeps them; read-only, as an engine receives audio."""
    steps = np.random.default_rng(2).standard_normal((channels, int(seconds * sample_rate)))
    audio = (0.01 * steps.cumsum(axis=1)).astype(np.float32).clip(-1, 1)
    audio.flags.writeable = False
    return audio


def same(one: Result, other: Result) -> bool:
    """To the bit, chunk by chunk."""
    return len(one.chunks) == len(other.chunks) and all(
        np.array_equal(a.audio, b.audio) and np.array_equal(a.codes, b.codes)
        for a, b in zip(one.chunks, other.chunks, strict=True)
    )


DRUMS = {"prompt": "loud drums"}
A, B, C, D = "a calm piano melody", "loud drums", "strings " * 5, "a flute"
BLENDS: dict[str, dict[str, float]] = {
    "two": {A: 0.5, B: 0.5},
    "three": {A: 0.2, B: 0.5, C: 0.3},
    "four": {A: 0.4, B: 0.1, C: 0.3, D: 0.2},
}


def blended(request: GenerationRequest, blend: dict[str, float]) -> GenerationRequest:
    prompt = tuple(WeightedText(text, weight) for text, weight in blend.items())
    return request.changed(0, {"prompt": prompt})


def joining(request: GenerationRequest) -> GenerationRequest:
    """Rows join at frame 30, leave at frame 60, and join again at frame 80."""
    parts = (blended(request, BLENDS[name]).timeline[0].prompt for name in ("two", "four"))
    for first, prompt in zip((30, 80), parts, strict=True):
        request = request.changed(first, {"prompt": prompt}, 30)
    return request
