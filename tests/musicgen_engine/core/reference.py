"""Unmodified audiocraft, given the same request."""

from __future__ import annotations

import json
import os
from fractions import Fraction
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch

from protocol.constants import FRAME_RATE, Codes, Samples
from protocol.request import GenerationRequest
from tests.conftest import staying_here

SEPARATOR: dict[str, Any] = {
    "sources": ["drums", "bass", "other", "vocals"],
    "channels": 4,
    "growth": 2,
    "dconv_mode": 0,
    "t_layers": 0,
}
SEGMENT = {"_type": "fraction", "numerator": 39, "denominator": 5}  # as demucs writes it


def tiny_separator() -> Any:
    """A separator with htdemucs's structure and random weights."""
    from demucs.htdemucs import HTDemucs

    with torch.random.fork_rng():
        torch.manual_seed(1)
        separator = HTDemucs(**SEPARATOR, segment=Fraction(39, 5))
    with torch.no_grad():
        # A constant must not come out as a tone, which would be louder than every melody: the taps
        # of the last kernel that meet in one sample cancel. The spectral branch is mute.
        last = separator.tdecoder[-1].conv_tr
        taps = (last.weight[..., :4] - last.weight[..., 4:]) / 2
        last.weight.copy_(torch.cat([taps, -taps], -1) * 1000)
        last.bias.zero_()
        separator.decoder[-1].conv_tr.weight.zero_()
        separator.decoder[-1].conv_tr.bias.zero_()
        for parameter in separator.parameters():  # the file has halves
            parameter.copy_(parameter.half())
    return separator.eval()


def write_separator(file: Path, **about: str) -> Path:
    """Write `tiny_separator` as demucs does; `about` replaces what the file says of itself."""
    from safetensors.torch import save_file

    state = {name: value.half() for name, value in tiny_separator().state_dict().items()}
    settings = json.dumps({**SEPARATOR, "segment": SEGMENT})
    metadata = {"klass": "demucs.htdemucs.HTDemucs", "args": "[]", "kwargs": settings}
    save_file(state, file, metadata | about)
    return file


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
        with patch("demucs.apply.random.randint", lambda _, most: most):  # equals no random shift
            tokens: Any = self._model._generate_tokens(attributes, prompt)
        codes: Codes = tokens[0].numpy().astype(np.int32)
        return codes

    def _melody(self, request: GenerationRequest) -> Any:
        """The melody as audiocraft's generate_with_chroma converts it."""
        from audiocraft.data.audio_utils import convert_audio

        conditioner = self._model.lm.condition_provider.conditioners["self_wav"]
        vars(conditioner).pop("_get_stemmed_wav", None)
        if not request.separate:  # a patch in wide use: the audio in place of its stems
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
