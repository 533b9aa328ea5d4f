"""Unmodified audiocraft, given the same request."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import torch

from protocol.constants import FRAME_RATE, Codes, Samples
from protocol.request import GenerationRequest
from tests.conftest import staying_here


class Reference:
    def __init__(self, folder: Path) -> None:
        from audiocraft.models.musicgen import MusicGen  # once torchaudio can be imported

        with staying_here():
            os.chdir(folder)
            self._model = MusicGen.get_pretrained(str(folder), device="cpu")

    def codes(self, request: GenerationRequest, window: int = 1500) -> Codes:
        """The greedy codes of the whole song, in windows of so many frames."""
        self._model.max_duration = window / FRAME_RATE
        self._model.set_generation_params(
            # The half frame keeps audiocraft's int(duration * 50) off the edge.
            duration=(request.frames + 0.5) / FRAME_RATE,
            use_sampling=False,
            cfg_coef=request.cfg_coef,
            extend_stride=request.extend_stride,
        )
        audio = None if request.prompt_audio is None else self._converted(request)
        attributes, prompt = self._model._prepare_tokens_and_attributes([request.prompt], audio)
        if request.codes is not None:
            prompt = torch.from_numpy(request.codes).long()[None]
        tokens: Any = self._model._generate_tokens(attributes, prompt)
        codes: Codes = tokens[0].numpy().astype(np.int32)
        return codes

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
