"""Decoding on a GPU: the step is captured once, and each step of a song is one launch.

The host starts steps ahead and never waits for a code in between. A graph computes the first slots,
as many as its bucket has, whether they decode or not: in a bucket the same kernels compute a
sequence, whatever its batch mates.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import cycle
from typing import Protocol

import torch
from torch import Tensor

from musicgen_engine.model.backend import BackendUnavailable, ModelInput, to_device
from musicgen_engine.model.conditioning import Conditioning
from musicgen_engine.model.decode_state import DecodeState
from musicgen_engine.model.decode_step import decode_step
from musicgen_engine.model.decoder import DecodeInput
from musicgen_engine.model.delay_pattern import Integers, Window
from musicgen_engine.model.guidance import MAX_ROWS, SLOT_ROWS, Guidance
from musicgen_engine.model.sampler import Filters, Sampler
from musicgen_engine.model.transformer import Transformer
from protocol.request import GenerationRequest

BUCKETS = (8, 32)  # slots
# Limits of the graphs for usual sequences; other graphs attend to any text and filter anyhow.
USUAL_TOKENS, USUAL_TOP_K = 128, 256
MAX_TOKENS = 2_048  # of a slot's texts; a checkpoint's encoder gives fewer


class Graph(Protocol):
    """Operations on the device that were captured and can run again."""

    def replay(self) -> None: ...


Capture = Callable[[Callable[[], None]], Graph]


class CudaCapture:
    """Captures the operations of a function. Its graphs share the memory for what they compute in
    between; one runs at a time."""

    def __init__(self, device: torch.device) -> None:
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._pool = torch.cuda.graph_pool_handle()

    def __call__(self, run: Callable[[], None]) -> Graph:
        self._stream.wait_stream(torch.cuda.current_stream(self._stream.device))
        with torch.cuda.stream(self._stream):
            run()  # the first run chooses kernels and allocates what they keep
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, self._pool, self._stream, capture_error_mode="thread_local"):
            run()
        return graph


class GraphDecoder:
    """A Decoder over the weights and the cache of an eager transformer, which prefills."""

    burst, ahead = 8, 1

    def __init__(
        self, transformer: Transformer, sampler: Sampler, capture: Capture | None = None
    ) -> None:
        """The cache has one position more than a window: see DecodeState."""
        cache = transformer.cache.data
        if capture is None and cache.device.type != "cuda":
            raise BackendUnavailable("computes on a GPU")
        config, slots, positions = transformer.config, cache.shape[2], cache.shape[5] - 1
        cache.zero_()  # a number that is masked counts 0 times: it must be finite
        self._cache = cache
        self._transformer, self._sampler = transformer, sampler
        tokens = MAX_TOKENS if config.cross_attention else 1
        self._state = DecodeState.zeros(config, sampler.settings, positions, tokens, cache.dtype)
        self._prefixes = [0] * slots
        self._usual_rows = [True] * slots
        self._next: list[tuple[Window, int] | None] = [None] * slots  # position on the device
        self._decoding: list[int] = []
        self._readbacks = cycle(
            [Readback(self.burst, self._state.made) for _ in range(self.ahead + 1)]
        )
        self.buckets = sorted({min(bucket, slots) for bucket in BUCKETS})
        self._graphs = self._captured(capture or CudaCapture(cache.device))

    @torch.inference_mode()
    def _captured(self, capture: Capture) -> dict[tuple[int, bool], Graph]:
        """The graphs of each bucket, for usual sequences and for any. The largest comes first, so
        that the others find memory for what they compute in between."""
        vocab_size = self._transformer.config.vocab_size
        any_tokens = self._state.texts.shape[4]
        kinds = {
            True: (min(USUAL_TOKENS, any_tokens), SLOT_ROWS, min(USUAL_TOP_K, vocab_size), False),
            False: (any_tokens, MAX_ROWS, vocab_size, True),
        }
        graphs = {}
        for bucket in reversed(self.buckets):
            for usual, (tokens, rows, top_k, top_p) in kinds.items():
                state = self._state.first(bucket, tokens, rows)
                filters = Filters(sampled=True, greedy=True, top_k=top_k, top_p=top_p)
                graphs[bucket, usual] = capture(
                    partial(decode_step, self._transformer, state, filters)
                )
        return graphs

    @property
    def logits(self) -> Tensor:
        """Those of the last position: float32 [slots, SLOT_ROWS, codebooks, vocab_size]."""
        return self._state.logits

    @torch.inference_mode()
    def set_conditioning(self, slots: Sequence[int], conditioning: Conditioning) -> Sequence[int]:
        guidance, known = conditioning.guidance, list[int]()
        for slot, part in zip(slots, conditioning.split(SLOT_ROWS), strict=True):
            known += self._transformer.set_conditioning(slot, part)
            texts = [self._transformer.text(slot, row) for row in range(len(part.cross))]
            end = self._state.set_texts(slot, texts)
            self._usual_rows[slot] = end <= USUAL_TOKENS and guidance.rows <= SLOT_ROWS
            self._state.prefix[slot] = self._prefixes[slot] = conditioning.prefix_length
        self._state.set_rows(slots, guidance.rows)
        return known

    @torch.inference_mode()
    def set_request(
        self, slots: Sequence[int], request: GenerationRequest, guidance: Guidance
    ) -> None:
        for slot in slots:
            self._sampler.set_request(slot, request, guidance)

    @torch.inference_mode()
    def prefill(self, batch: ModelInput) -> None:
        for slot, start in zip(batch.slots.tolist(), batch.starts.tolist(), strict=True):
            self._clear_before(slot, start)
        self._transformer.forward(batch)

    @torch.inference_mode()
    def decode(
        self, inputs: Sequence[DecodeInput], count: int, prefill: ModelInput | None
    ) -> Callable[[], Integers]:
        slots = [slot for one in inputs for slot in one.slots]
        for one in inputs:
            self._place(one, count)
        self._set_decoding(slots)
        graph = self._graphs[self._bucket(slots), self._usual(slots)]
        readback = next(self._readbacks)
        for step in range(count):
            graph.replay()
            readback.copy(step)
        readback.record()
        if prefill:
            self.prefill(prefill)
        return lambda: readback.wait()[:count, [one.slots[0] for one in inputs]]

    def _place(self, one: DecodeInput, count: int) -> None:
        """Bring the device to the position of a sequence. It is there if it made the last one. A
        slot that joins gets its codes on the device: the host may not have read the last ones."""
        first = one.slots[0]
        for slot in one.slots:
            place = self._next[slot]
            if place is None or place[0] is not one.window or place[1] != one.position:
                self._clear_before(slot, one.position)
                if slot == first:
                    self._state.set_window(slot, one.window, one.codes, one.position)
                else:
                    self._state.copy_window(first, slot)
            self._next[slot] = (one.window, one.position + count)

    def _clear_before(self, slot: int, position: int) -> None:
        """Before the first position of a window, forget the one before: if its numbers were not
        finite, they would stay."""
        if position == -self._prefixes[slot]:
            self._cache[:, :, slot] = 0

    def _set_decoding(self, slots: list[int]) -> None:
        if slots != self._decoding:
            decodes = torch.zeros(len(self._next), dtype=torch.bool)
            decodes[slots] = True
            self._state.decodes.copy_(to_device(decodes, self._cache.device), non_blocking=True)
            self._decoding = slots

    def _bucket(self, slots: list[int]) -> int:
        return next(bucket for bucket in self.buckets if max(slots) < bucket)

    def _usual(self, slots: list[int]) -> bool:
        filters = self._sampler.filters(slots)
        few = filters.top_k <= USUAL_TOP_K and not filters.top_p
        return few and all(self._usual_rows[slot] for slot in slots)


class Readback:
    """Codes of several steps on their way to the host, into memory that the device can write while
    the host does something else."""

    def __init__(self, steps: int, made: Tensor) -> None:
        """`made`: where each step puts its codes on the device."""
        self._made = made
        self._codes = torch.empty((steps, *made.shape), dtype=made.dtype, pin_memory=made.is_cuda)
        self._event = torch.cuda.Event() if made.is_cuda else None  # type: ignore[no-untyped-call]

    def copy(self, step: int) -> None:
        self._codes[step].copy_(self._made, non_blocking=True)

    def record(self) -> None:
        """All steps have been started."""
        if self._event:
            self._event.record()

    def wait(self) -> Integers:
        """[steps, slots, codebooks]"""
        if self._event:
            self._event.synchronize()
        codes: Integers = self._codes.numpy()
        return codes
