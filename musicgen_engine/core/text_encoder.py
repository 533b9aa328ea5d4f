"""Texts → conditioning, by the text encoder of a checkpoint."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from musicgen_engine.core.audiocraft_imports import light_imports
from musicgen_engine.core.melody import MelodyEncoder
from musicgen_engine.core.unsupported import check_finite
from musicgen_engine.model.conditioning import Conditioning
from musicgen_engine.model.guidance import Guidance
from protocol.constants import Chroma
from protocol.errors import InvalidField
from protocol.prompt import MAX_PROMPT, Prompt, blend
from protocol.section import Section

with light_imports():
    from audiocraft.modules.conditioners import ConditioningAttributes

MAX_TOKENS = MAX_PROMPT + 2  # of text: one a character, though a few signs take several
MAX_PREFIX_TOKENS = 512  # of text before the codes, where each takes a position of each row


class TextEncoder:
    """`melody` is that of a model that takes one: its positions stand before the codes."""

    def __init__(self, lm: Any, melody: MelodyEncoder | None, device: torch.device) -> None:
        self._provider = lm.condition_provider  # not `lm` itself, which is to go
        self._melody = melody
        self._crossed = bool(lm.fuser.fuse2cond["cross"])
        encoder = self._provider.conditioners["description"]
        check_finite("the text encoder", encoder.t5.state_dict())
        encoder.t5.to(device)
        encoder.output_proj.to(device, torch.float32)
        encoder.device = device

    def check(self, section: Section, within: str) -> None:
        """Raises InvalidField: a text is too long. Its name begins with `within`."""
        left = MAX_TOKENS if self._crossed else MAX_PREFIX_TOKENS
        for name, text in section.texts(within):
            if not text:
                continue
            tokens = self._tokenized(text)["description"]["input_ids"].shape[1]
            if tokens > left:
                problem = f"has {tokens} tokens of text; shorten it to {left}"
                raise InvalidField.of_field(name, problem, maxTokens=left)
            if self._crossed:  # they share a slot's room
                left -= tokens

    @torch.inference_mode()
    def encode(
        self, prompt: Prompt, chroma: Chroma | None = None, negative_prompt: str = ""
    ) -> Conditioning:
        """The conditioning by a text and, for a model that takes one, a melody: [1, columns].
        `negative_prompt` is the text of the unconditional row; empty: the null text."""
        texts = blend(prompt)
        guidance = Guidance(tuple(one.weight for one in texts))
        first, *others = (self._encoded(one.text) for one in texts)
        negative = self._encoded(negative_prompt) if negative_prompt else None
        prefix = None
        if self._melody:
            prefix = self._melody.prefix(chroma)[[0, 1] + [0] * len(others)]
        if prefix is None or self._crossed:
            return Conditioning((first, negative, *others), prefix, guidance)
        # Equally long: zeros, the null text, stand behind the shorter ones.
        rows = [first, first[:0] if negative is None else negative, *others]
        padded = pad_sequence(rows, batch_first=True)
        return Conditioning((None,) * len(rows), torch.cat([prefix, padded], dim=1), guidance)

    def _tokenized(self, text: str) -> Any:
        attributes = ConditioningAttributes(text={"description": text})
        return self._provider.tokenize([attributes])

    def _encoded(self, text: str) -> Tensor:
        """[tokens, dim]"""
        embeddings, _mask = self._provider(self._tokenized(text))["description"]
        encoded: Tensor = embeddings[0]
        return encoded
