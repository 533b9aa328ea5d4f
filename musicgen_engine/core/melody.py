"""Melodies: audio → chroma, the loudest pitch class at each time → positions before the codes.

Source: audiocraft `modules/conditioners.py` (ChromaStemConditioner), `modules/chroma.py` and
`models/musicgen.py` (`_generate_tokens`), as `MusicGen.get_pretrained` sets them up.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from musicgen_engine.core.audiocraft_imports import light_imports
from protocol.constants import (
    FRAME_RATE,
    PITCH_CLASSES,
    SAMPLE_RATE,
    SAMPLES_PER_FRAME,
    Chroma,
    Samples,
)
from protocol.request import GenerationRequest

with light_imports():
    from audiocraft.data.audio_utils import convert_audio
    from audiocraft.modules.chroma import ChromaExtractor

SEPARATOR_REACH = 10 * SAMPLE_RATE  # samples that what it makes of another depends on
SPECTRUM = ("radix2_exp", "nfft", "winlen", "winhop")  # settings of a checkpoint's extractor


class MelodyEncoder:
    """`columns` of chroma describe a window, whatever its length."""

    def __init__(
        self,
        config: Mapping[str, Any],
        weights: Mapping[str, Tensor],
        window: float,
        channels: int,
        device: torch.device,
    ) -> None:
        """`window` is in seconds, `channels` are those of the model's audio."""
        settings = {name: config[name] for name in SPECTRUM if name in config}
        self._extractor = ChromaExtractor(SAMPLE_RATE, PITCH_CLASSES, argmax=True, **settings)
        self._extractor.load_state_dict({"spec.window": weights["chroma.spec.window"]})
        self._extractor.to(device)
        self._channels = channels
        self._device = device
        self.columns = 1 + round(window * SAMPLE_RATE) // self._extractor.winhop
        weight, bias = (weights[f"output_proj.{name}"].float() for name in ("weight", "bias"))
        # One row for each pitch class: [pitch classes, dim].
        self._projected = functional.linear(torch.eye(PITCH_CLASSES), weight, bias).to(device)

    def parts(
        self, request: GenerationRequest, window: int, numbers: Iterable[int]
    ) -> Iterator[tuple[int, Samples]]:
        """The windows of `window` frames with these numbers, each with its part of the request's
        melody: [channels, samples]. One is made at a time, because each takes megabytes.

        A short song has the melody from its start on, again and again. Of a song with several
        windows each has the melody, again and again, from the window's time on.
        """
        audio, rate = torch.tensor(request.melody), request.melody_sample_rate
        wave = convert_audio(audio, rate, SAMPLE_RATE, self._channels).numpy()
        if request.windows(window) == 1:
            yield 0, wave[:, : self.columns * self._extractor.winhop + SEPARATOR_REACH]
            return
        steps = np.arange(window * SAMPLES_PER_FRAME)
        for number in numbers:
            start = int(number * request.stride / FRAME_RATE * SAMPLE_RATE)
            yield number, wave[:, (start + steps) % wave.shape[-1]]

    @torch.inference_mode()
    def chroma(self, part: Samples) -> Chroma:
        """[channels, samples] → [columns]"""
        mono = torch.tensor(part).mean(0, keepdim=True).to(self._device)
        classes = self._extractor(mono)[0].argmax(-1).cpu().numpy()
        return np.resize(classes, self.columns).astype(np.int32)

    def prefix(self, chroma: Chroma | None) -> Tensor:
        """[rows, columns, dim] for `chroma` [1, columns]. The null melody is silence, whose pitch
        class is 0."""
        null = self._projected[:1].expand(self.columns, -1)
        melody = null if chroma is None else self._projected[torch.tensor(chroma[0])]
        return torch.stack([melody, null])
