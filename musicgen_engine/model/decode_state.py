"""The state of each slot that the device keeps between two steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from musicgen_engine.model.backend import to_device
from musicgen_engine.model.delay_pattern import Window
from musicgen_engine.model.guidance import MAX_ROWS, SLOT_ROWS
from musicgen_engine.model.sampler import Settings
from musicgen_engine.model.transformer import TransformerConfig
from protocol.constants import Codes


@dataclass(frozen=True)
class DecodeState:
    """Tensors of n slots, at fixed places: a step reads and writes all of them where they are.

    The host writes a slot when something else happens than the next position: another window,
    another conditioning, other settings. In between it only starts steps.

    A slot that does not decode computes as well. Its results go to places that nothing reads:
    the last frame of `codes`, and the last position of the cache.
    """

    settings: Settings
    decodes: Tensor  # bool [n]
    # Of the window, see delay_pattern.Window: int64 [n, 1]
    position: Tensor  # the next one
    start: Tensor
    length: Tensor
    prompt: Tensor
    delays: Tensor  # int64 [n, codebooks]
    codes: Tensor  # int64 [n, codebooks, frames of a window + 1]
    # Of the conditioning
    prefix: Tensor  # int64 [n, 1]: positions before the window
    texts: Tensor  # [layers, 2 (keys, values), n, heads, tokens, head_dim]: those of its rows
    spans: Tensor  # int64 [n, slot's rows, 2]: first and end of each row's tokens
    # Of the guidance
    rows: Tensor  # int64 [n, most rows]: the logits of a sequence, among those of all slots' rows
    # Results of the last step
    logits: Tensor  # float32 [n, slot's rows, codebooks, vocab_size]
    made: Tensor  # int64 [n, codebooks]

    @classmethod
    def zeros(
        cls,
        config: TransformerConfig,
        settings: Settings,
        positions: int,
        tokens: int,
        precision: torch.dtype,
    ) -> DecodeState:
        device, slots = settings.seed.device, len(settings.seed)
        codebooks, vocab_size = config.codebooks, config.vocab_size

        def integers(*shape: int) -> Tensor:
            return torch.zeros(slots, *shape, dtype=torch.int64, device=device)

        kept = (config.layers, 2, slots, config.heads, tokens, config.head_dim)
        return cls(
            settings=settings,
            decodes=torch.zeros(slots, dtype=torch.bool, device=device),
            position=integers(1),
            start=integers(1),
            length=integers(1),
            prompt=integers(1),
            delays=integers(codebooks),
            codes=integers(codebooks, positions + 1),
            prefix=integers(1),
            texts=torch.zeros(kept, dtype=precision, device=device),
            spans=integers(SLOT_ROWS, 2),
            rows=integers(MAX_ROWS),
            logits=torch.zeros(slots, SLOT_ROWS, codebooks, vocab_size, device=device),
            made=integers(codebooks),
        )

    def first(self, n: int, tokens: int, rows: int) -> DecodeState:
        """The first slots, with the first tokens of their texts and the first rows of their
        guidance, at the same places."""
        apart = ("settings", "texts", "rows")
        rest = {name: field[:n] for name, field in vars(self).items() if name not in apart}
        texts = self.texts[:, :, :n, :, :tokens]
        return DecodeState(
            settings=self.settings.first(n), texts=texts, rows=self.rows[:n, :rows], **rest
        )

    def set_window(self, slot: int, window: Window, codes: Codes, position: int) -> None:
        """Continue `slot` at `position` of `window`; `codes` are the whole sequence's."""
        device = self.codes.device
        numbers = torch.tensor([[position], [window.start], [window.length], [window.prompt]])
        fields = (self.position, self.start, self.length, self.prompt)
        for field, number in zip(fields, to_device(numbers, device), strict=True):
            field[slot] = number
        self.delays[slot] = to_device(torch.tensor(window.pattern.delays), device)
        known = torch.from_numpy(codes[:, window.start : window.start + window.length])
        self.codes[slot, :, : window.length] = to_device(known.contiguous(), device)

    def copy_window(self, source: int, slot: int) -> None:
        """Continue `slot` where `source` is, in the same window."""
        numbers = (self.position, self.start, self.length, self.prompt)
        for field in (*numbers, self.delays, self.codes):
            field[slot] = field[source]

    def set_rows(self, slots: Sequence[int], count: int) -> None:
        """A sequence has so many guidance rows, in these slots. Each of them computes its codes."""
        rows = [slot * SLOT_ROWS + row for slot in slots for row in range(SLOT_ROWS)][:count]
        rows += [rows[0]] * (MAX_ROWS - count)  # places without a row: their coefficient is 0
        for slot in slots:
            self.rows[slot] = to_device(torch.tensor(rows), self.rows.device)

    def set_texts(self, slot: int, texts: list[list[Tensor]]) -> int:
        """The keys and values of each row's text, see Transformer.keys_values.

        All rows share the tokens of their slot, and each attends to its own span. The first token
        stays zero: the null text. Returns the end of the last span.
        """
        spans, end = [[0, 1]] * self.spans.shape[1], 1
        for row, text in enumerate(texts):
            if text:
                first, end = end, end + text[0].shape[2]
                spans[row] = [first, end]
                for layer, keys_values in enumerate(text):
                    self.texts[layer, :, slot, :, first:end] = keys_values
        self.spans[slot] = to_device(torch.tensor(spans), self.spans.device)
        return end
