"""Unmodified audiocraft, asked for the same song."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import torch

from protocol.constants import Codes, Samples
from protocol.request import GenerationRequest
from tests.conftest import staying_here


class Reference:
    def __init__(self, folder: Path) -> None:
        from audiocraft.models.musicgen import MusicGen  # once torchaudio can be imported

        with staying_here():
            os.chdir(folder)
            self._model = MusicGen.get_pretrained(str(folder), device="cpu")

    def codes(self, song: GenerationRequest) -> Codes:
        """Greedy: what it makes of `song`, all of it, with what the song goes on from."""
        self._model.set_generation_params(
            # The half frame keeps audiocraft's int(duration * 50) off the edge.
            duration=(song.frames + 0.5) / 50,
            use_sampling=False,
            cfg_coef=song.cfg_coef,
            extend_stride=song.extend_stride,
        )
        audio = None if song.prompt_audio is None else self._heard(song)
        attributes, held = self._model._prepare_tokens_and_attributes([song.prompt], audio)
        if song.codes is not None:
            held = torch.from_numpy(song.codes).long()[None]
        tokens: Any = self._model._generate_tokens(attributes, held)
        codes: Codes = tokens[0].numpy().astype(np.int32)
        return codes

    def _heard(self, song: GenerationRequest) -> Any:
        """As its generate_continuation does."""
        from audiocraft.data.audio_utils import convert_audio

        audio = torch.from_numpy(song.prompt_audio)[None]
        model = self._model
        return convert_audio(
            audio, song.prompt_sample_rate, model.sample_rate, model.audio_channels
        )

    def audio(self, codes: Codes) -> Samples:
        audio: Any = self._model.generate_audio(torch.from_numpy(codes).long()[None])
        samples: Samples = audio[0].numpy()
        return samples
