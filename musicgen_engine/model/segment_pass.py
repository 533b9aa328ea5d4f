"""A forward pass of one or more positions of each sequence, one sequence after another.

Each sequence attends to its own past and its own text, so it does not depend on the length or
number of its batch mates.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from musicgen_engine.model.attention import attend_to_past, attend_to_text
from musicgen_engine.model.backend import to_device
from musicgen_engine.model.kv_cache import KVCache

# (slot, guidance row) → the text's keys and values in each layer: [2, heads, tokens, head_dim]
Texts = dict[tuple[int, int], list[Tensor]]


@dataclass(frozen=True)
class Segment:
    """The positions of one sequence in a forward pass, row after row."""

    slot: int
    x: slice  # its rows among all rows of the pass
    start: int  # its new positions in the cache
    end: int
    texts: tuple[bool, ...]  # for each guidance row: does it attend to a text?

    @property
    def rows(self) -> int:
        return len(self.texts)

    @property
    def length(self) -> int:
        return self.end - self.start

    def row(self, row: int) -> range:
        """The positions of one guidance row."""
        first = self.x.start + row * self.length
        return range(first, first + self.length)


class SegmentPass:
    """The Pass of these segments."""

    def __init__(
        self, segments: list[Segment], positions: Tensor, cache: KVCache, texts: Texts
    ) -> None:
        """`positions`: those of the whole window."""
        self._segments, self._cache, self._texts = segments, cache, texts
        self._rows = [
            (segment, row) for segment in segments for row, text in enumerate(segment.texts) if text
        ]
        runs = [
            positions[segment.start : segment.end] for segment in segments for _ in segment.texts
        ]
        self.positions = torch.cat(runs)
        text_rows = [x for segment, row in self._rows for x in segment.row(row)]
        self.text_rows = to_device(torch.tensor(text_rows), positions.device) if text_rows else None

    def attend_to_past(self, layer: int, qkv: Tensor) -> Tensor:
        outputs = []
        for segment in self._segments:
            new = qkv[segment.x].view(segment.rows, segment.length, *qkv.shape[1:])
            new = new.permute(2, 0, 3, 1, 4)  # [3, rows, heads, positions, head_dim]
            past = self._cache.past(layer, segment.slot, segment.rows, segment.end)
            past[..., segment.start :, :] = self._cache.kept(new[1:])
            attended = attend_to_past(new[0], *past)
            outputs.append(attended.transpose(1, 2).flatten(0, 1))
        return torch.cat(outputs)

    def attend_to_text(self, layer: int, queries: Tensor) -> Tensor:
        parts = torch.split(queries, [segment.length for segment, _ in self._rows])
        attended = [
            attend_to_text(part, *self._texts[segment.slot, row][layer])
            for part, (segment, row) in zip(parts, self._rows, strict=True)
        ]
        return torch.cat(attended)
