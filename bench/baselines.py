"""audiocraft and transformers in musicgen-small's shape, with a callback between their steps."""

from __future__ import annotations

import os
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from bench.small import SMALL
from protocol.constants import Codes
from training.structure import CODEBOOKS, Structure, codec_config, lm_config


class Baseline(Protocol):
    def generate(self, songs: int, frames: int, steps: int, callback: Callable[[], None]) -> None:
        """Continue songs of which `frames` are in the cache by `steps` steps, all in one batch.

        The cache holds random numbers: the time of a step does not depend on them, and to compute
        them takes longer than all else.

        Args:
            callback: called after each step; what comes before the first call is not a step alone.
        """


class Audiocraft:
    def __init__(self, model: Any, prompt: str) -> None:
        """`model` is audiocraft's MusicGen."""
        self._model, self._prompt = model, prompt

    @classmethod
    def load(cls, folder: Path, prompt: str) -> Audiocraft:
        from audiocraft.models.musicgen import MusicGen

        os.chdir(folder)  # audiocraft looks for the text encoder in the working directory
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return cls(MusicGen.get_pretrained(str(folder), device="cpu"), prompt)

    @classmethod
    def random(cls, structure: Structure, prompt: str, device: torch.device) -> Audiocraft:
        """Random weights, placed as audiocraft places those of a checkpoint."""
        from audiocraft.models.musicgen import MusicGen

        from training.checkpoint import build_codec, build_lm, write_text_encoder

        config = lm_config(structure, channels=1) | {"device": str(device)}
        if device.type != "cpu":
            config["dtype"] = "float16"
        with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            write_text_encoder(Path(folder), structure)
            lm = build_lm(config, Path(folder))
            codec = build_codec(codec_config(structure))
            return cls(MusicGen("random", codec, lm, max_duration=30), prompt)

    def generate(self, songs: int, frames: int, steps: int, callback: Callable[[], None]) -> None:
        def after_step(step: int, _steps: int) -> None:
            if step == 1:
                self._fill_cache(frames)
            callback()

        # The codebooks' delays add steps.
        length = steps - (CODEBOOKS - 1)
        with self._model.autocast:
            self._model.lm.generate(
                None, self._conditions(songs), max_gen_len=length, top_k=250, callback=after_step
            )

    def _fill_cache(self, frames: int) -> None:
        for layer in self._model.lm.transformer.layers:
            cache = layer.self_attn._streaming_state
            cache |= {name: _filled(cache[name], frames) for name in ("past_keys", "past_values")}

    def greedy(self, frames: int) -> Codes:
        """The codes of a song without sampling: [codebooks, frames]."""
        codes: torch.Tensor = self._model.lm.generate(
            None, self._conditions(1), max_gen_len=frames, use_sampling=False
        )
        return codes[0].numpy().astype(np.int32)

    def _conditions(self, songs: int) -> Any:
        return self._model._prepare_tokens_and_attributes([self._prompt] * songs, None)[0]


class Transformers:
    """Text encoder and codec are tiny, for a step uses neither."""

    def __init__(self) -> None:
        import transformers

        decoder = transformers.MusicgenDecoderConfig(
            vocab_size=SMALL.vocab_size,
            num_hidden_layers=SMALL.layers,
            hidden_size=SMALL.dim,
            num_attention_heads=SMALL.heads,
            ffn_dim=4 * SMALL.dim,
            num_codebooks=CODEBOOKS,
        )
        text = transformers.T5Config(d_model=SMALL.text_dim, num_layers=1, d_ff=64)
        codec = transformers.EncodecConfig(num_filters=4, codebook_size=SMALL.vocab_size)
        config = transformers.MusicgenConfig(
            text_encoder=text.to_dict(), audio_encoder=codec.to_dict(), decoder=decoder.to_dict()
        )
        model: Any = transformers.MusicgenForConditionalGeneration(config)
        self._model = model.eval()
        self._cache: Any = transformers.EncoderDecoderCache
        self._half: Any = transformers.DynamicCache

    def generate(self, songs: int, frames: int, steps: int, callback: Callable[[], None]) -> None:
        cache = self._cache(self._half(), self._half())  # of the song and of the text

        def after_step(codes: torch.Tensor, _scores: Any) -> torch.Tensor:
            if cache.get_seq_length() < frames:
                for layer in cache.self_attention_cache.layers:
                    layer.keys = _filled(layer.keys, frames)
                    layer.values = _filled(layer.values, frames)
            callback()
            return torch.zeros(len(codes), dtype=torch.bool)  # do not stop

        text = torch.randint(3, 1000, (songs, 12))
        self._model.generate(
            input_ids=text,
            attention_mask=torch.ones_like(text),
            past_key_values=cache,
            guidance_scale=3.0,
            do_sample=True,
            top_k=250,
            max_new_tokens=steps,
            stopping_criteria=[after_step],
        )


def _filled(cached: torch.Tensor, frames: int) -> torch.Tensor:
    """As `cached`, [rows, heads, frames, dim], with that many frames of random numbers."""
    rows, heads, _, dim = cached.shape
    numbers = torch.rand(rows, heads, frames, dim, device=cached.device, dtype=cached.dtype)
    return numbers - 0.5
