"""Unmodified audiocraft and transformers, given the same request."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from omegaconf import OmegaConf

from musicgen_engine.hub import LM
from protocol.constants import FRAME_RATE, SAMPLE_RATE, Codes, Samples
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

NAMES = {  # of weights: audiocraft's, transformers'
    r"^emb\.": "decoder.model.decoder.embed_tokens.",
    r"^transformer\.": "decoder.model.decoder.",
    r"^out_norm\.": "decoder.model.decoder.layer_norm.",
    r"^linears\.": "decoder.lm_heads.",
    r"^condition_provider\.conditioners\.description\.": "enc_to_dec_proj.",
    r"^condition_provider\.conditioners\.self_wav\.": "audio_enc_to_dec_proj.",
    r"proj\.output_proj\.": "proj.",
    r"\.linear([12])\.": r".fc\1.",
    r"\.norm1\.": ".self_attn_layer_norm.",
    r"\.norm2\.": ".final_layer_norm.",
}


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

    @torch.inference_mode()
    def likeliest(self, codes: Codes, blend: Mapping[str, float], cfg_coef: float) -> Codes:
        """For each code of a song that lasts one window, the one that guidance by all texts of the
        blend prefers behind the codes before it; the code itself in the last frames, for which
        audiocraft has no prediction."""
        from audiocraft.modules.conditioners import ConditioningAttributes

        both, towards = torch.from_numpy(codes).long().repeat(2, 1, 1), 0.0
        for text, weight in blend.items():  # each alone: padding changes a text
            conditions = [ConditioningAttributes(text={"description": one}) for one in (text, None)]
            predictions: Any = self._model.lm.compute_predictions(both, conditions)
            row, none = predictions.logits
            towards = towards + weight * (row - none)
        likeliest = (none + cfg_coef * towards).argmax(-1)
        return torch.where(predictions.mask[0], likeliest, both[0]).numpy().astype(np.int32)

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


class TransformersReference:
    """transformers' MusicgenMelody with a checkpoint's weights. It knows no windows."""

    def __init__(self, folder: Path) -> None:
        from transformers import (
            AutoTokenizer,
            EncodecConfig,
            MusicgenMelodyConfig,
            MusicgenMelodyDecoderConfig,
            MusicgenMelodyFeatureExtractor,
            MusicgenMelodyForConditionalGeneration,
            T5EncoderModel,
        )

        package = torch.load(folder / LM, weights_only=True)
        settings = OmegaConf.create(package["xp.cfg"]).transformer_lm
        text_encoder = T5EncoderModel.from_pretrained(folder / "t5-small")
        self._tokenizer: Any = AutoTokenizer.from_pretrained(folder / "t5-small")
        self._extractor: Any = MusicgenMelodyFeatureExtractor()
        decoder = MusicgenMelodyDecoderConfig(
            num_hidden_layers=settings.num_layers,
            hidden_size=settings.dim,
            num_attention_heads=settings.num_heads,
            ffn_dim=settings.dim * settings.hidden_scale,
            num_codebooks=settings.n_q,
        )
        config = MusicgenMelodyConfig(
            text_encoder=text_encoder.config.to_dict(),
            audio_encoder=EncodecConfig(num_filters=4).to_dict(),
            decoder=decoder.to_dict(),
        )
        self._model: Any = MusicgenMelodyForConditionalGeneration(config).eval()
        self._model.text_encoder.load_state_dict(text_encoder.state_dict())
        state = dict(_renamed(package["best_state"]))
        missing, unexpected = self._model.load_state_dict(state, strict=False)
        encoders = ("text_encoder.", "audio_encoder.")
        assert not unexpected and all(name.startswith(encoders) for name in missing)
        # Codes in place of audio.
        self._model.audio_encoder.decode = lambda codes, **_: SimpleNamespace(audio_values=codes)

    def codes(self, request: GenerationRequest) -> Codes:
        """The greedy codes of a song whose melody is mono, at 32 kHz and no longer than 30 s."""
        text = self._tokenizer([request.prompt], return_tensors="pt")
        melody = {}
        if request.melody is not None:
            melody = self._extractor(request.melody[0], SAMPLE_RATE, return_tensors="pt")
        codes = self._model.generate(
            input_ids=text.input_ids,
            attention_mask=text.attention_mask * bool(request.prompt),
            **melody,
            do_sample=False,
            guidance_scale=request.cfg_coef,
            max_new_tokens=request.frames + 3,  # by the delays
        )
        result: Codes = codes[0, 0].numpy().astype(np.int32)
        return result


def _renamed(state: Mapping[str, torch.Tensor]) -> Iterator[tuple[str, torch.Tensor]]:
    """audiocraft's weights of the language model by transformers' names."""
    for name, value in state.items():
        if name.endswith("chroma.spec.window"):
            continue
        for theirs, ours in NAMES.items():
            name = re.sub(theirs, ours, name)
        if name.endswith("in_proj_weight"):
            for part, rows in zip("qkv", value.float().chunk(3), strict=True):
                yield name.replace("in_proj_weight", f"{part}_proj.weight"), rows
        else:
            yield name, value.float()
