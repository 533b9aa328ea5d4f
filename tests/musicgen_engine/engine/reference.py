"""Unmodified audiocraft, asked for the same song."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import torch

from musicgen_engine.song import Codes, Samples, Song
from tests.conftest import staying_here


class Reference:
    def __init__(self, folder: Path) -> None:
        from audiocraft.models.musicgen import MusicGen  # once torchaudio can be imported

        with staying_here():
            os.chdir(folder)
            self._model = MusicGen.get_pretrained(str(folder), device="cpu")

    def codes(self, song: Song) -> Codes:
        """Greedy: what it makes of `song`, all of it."""
        self._model.set_generation_params(
            # The half frame keeps audiocraft's int(duration * 50) off the edge.
            duration=(song.frames + 0.5) / 50,
            use_sampling=False,
            cfg_coef=song.cfg_coef,
        )
        attributes, _ = self._model._prepare_tokens_and_attributes([song.prompt], None)
        held = None if song.codes is None else torch.from_numpy(song.codes).long()[None]
        tokens: Any = self._model._generate_tokens(attributes, held)
        codes: Codes = tokens[0].numpy().astype(np.int32)
        return codes

    def audio(self, codes: Codes) -> Samples:
        audio: Any = self._model.generate_audio(torch.from_numpy(codes).long()[None])
        samples: Samples = audio[0].numpy()
        return samples
