"""Unmodified audiocraft, given the same request."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch

from protocol.constants import FRAME_RATE, Codes, Samples
from protocol.request import GenerationRequest
from tests.conftest import staying_here


def tiny_separator() -> torch.nn.Module:
    """A separator with htdemucs's structure and random weights."""
    from demucs.htdemucs import HTDemucs

    sources = ["drums", "bass", "other", "vocals"]
    with torch.random.fork_rng():
        torch.manual_seed(1)
        separator: torch.nn.Module = HTDemucs(
            sources, channels=4, growth=2, dconv_mode=0, t_layers=0
        )
    return separator.eval()


class Reference:
    def __init__(self, folder: Path) -> None:
        from audiocraft.models.musicgen import MusicGen  # once torchaudio can be imported

        with staying_here(), patch("demucs.pretrained.get_model", lambda name: tiny_separator()):
            os.chdir(folder)
            self._model = MusicGen.get_pretrained(str(folder), device="cpu")

    def codes(self, request: GenerationRequest, window: int = 1500) -> Codes:
        """The greedy codes of the whole song, in windows of so many frames."""
        self._model.max_duration = window / FRAME_RATE
        self._model.set_generation_params(
            # The half frame keeps audiocraft's int(duration * 50) off the edge. With it a song of
            # one whole window would be a long one.
            duration=(request.frames + 0.5 * (request.frames != window)) / FRAME_RATE,
            use_sampling=False,
            cfg_coef=request.cfg_coef,
            extend_stride=request.extend_stride,
        )
        audio = None if request.prompt_audio is None else self._converted(request)
        melody = None if request.melody is None else [self._melody(request)]
        attributes, prompt = self._model._prepare_tokens_and_attributes(
            [request.prompt], audio, melody
        )
        if request.codes is not None:
            prompt = torch.from_numpy(request.codes).long()[None]
        tokens: Any = self._model._generate_tokens(attributes, prompt)
        codes: Codes = tokens[0].numpy().astype(np.int32)
        return codes

    def _melody(self, request: GenerationRequest) -> Any:
        """The melody as audiocraft's generate_with_chroma converts it."""
        from audiocraft.data.audio_utils import convert_audio

        if not request.separate:  # a patch in wide use: the audio in place of its stems
            conditioner = self._model.lm.condition_provider.conditioners["self_wav"]
            conditioner._get_stemmed_wav = lambda wave, sample_rate: wave
        model, audio = self._model, torch.tensor(request.melody)
        return convert_audio(
            audio, request.melody_sample_rate, model.sample_rate, model.audio_channels
        )

    def _converted(self, request: GenerationRequest) -> Any:
        """The audio as audiocraft's generate_continuation converts it."""
        from audiocraft.data.audio_utils import convert_audio

        audio = torch.tensor(request.prompt_audio)[None]
        model = self._model
        return convert_audio(
            audio, request.prompt_sample_rate, model.sample_rate, model.audio_channels
        )

    def audio(self, codes: Codes) -> Samples:
        audio: Any = self._model.generate_audio(torch.from_numpy(codes).long()[None])
        samples: Samples = audio[0].numpy()
        return samples
