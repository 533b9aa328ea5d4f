"""The hot loop: all sequences, one step at a time."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

import numpy as np
import torch

from musicgen_engine.core import memory
from musicgen_engine.core.audio_stream import AudioChunk, AudioStream
from musicgen_engine.core.loaded_model import LoadedModel
from musicgen_engine.core.scheduler import Batch, Scheduler
from musicgen_engine.core.sequence import Sequence
from musicgen_engine.logs import about
from musicgen_engine.metrics import Counters
from musicgen_engine.model.backend import ModelInput
from musicgen_engine.model.sampler import NOT_FINITE
from protocol.constants import SAMPLE_RATE
from protocol.errors import Cancelled, GenerationFailed, NotFinite, ServiceError
from protocol.request import GenerationRequest

log = logging.getLogger("engine")


class OutputSink(Protocol):
    """Gets what the engine makes. A sequence ends with its last chunk or its error, and its slot is
    free by then."""

    def chunk(self, sequence: Sequence, chunk: AudioChunk) -> None: ...

    def error(self, sequence: Sequence, error: ServiceError) -> None: ...


class Engine:
    def __init__(self, model: LoadedModel, scheduler: Scheduler, sink: OutputSink) -> None:
        self._model = model
        self._scheduler = scheduler
        self._sink = sink
        self._counters = Counters()
        # By slot: whose conditioning the backend has, and where that holds.
        self._conditioned: dict[int, tuple[int, tuple[int, int]]] = {}
        self._step_start: float | None = None
        on_cpu = model.device.type == "cpu"
        scheduler.open(model.slots, model.pattern.window, shares_cores=on_cpu)

    def run(self) -> None:
        """Never returns. Raises what the device raises: then nothing can be computed any more."""
        while True:
            self._scheduler.wait()
            self._step_start = start = time.monotonic()
            self.step()
            self._step_start = None
            seconds = time.monotonic() - start
            self._scheduler.record_step(seconds)
            self._counters.add(steps=1, step_seconds=seconds)

    def step(self) -> None:
        """Each running sequence gets its next codes; one text or audio is encoded, one chunk of a
        prompt prefilled, one chunk of audio decoded."""
        batch = self._scheduler.schedule()
        for sequence in batch.cancelled:
            self._sink.error(sequence, Cancelled("the request was cancelled"))
        if batch.encode:
            self._encode(batch.encode)
        if batch.decode or batch.prefill:
            self._forward(batch)
        if ready := self._scheduler.next_for_codec():
            self._decode_audio(ready)

    @property
    def step_seconds(self) -> float:
        """Seconds that the current step has taken so far. For another thread."""
        start = self._step_start
        return time.monotonic() - start if start else 0.0

    def check(self, request: GenerationRequest) -> None:
        """Check that this model can generate it. Raises as `GenerationRequest.check_model`."""
        model, pattern = self._model, self._model.pattern
        columns = model.melody.columns if model.melody else 0
        request.check_model(
            pattern.codebooks, pattern.special_token, pattern.window, columns, model.revision
        )

    def metrics(self) -> dict[str, float]:
        """Gauges as they are, counters since the last call; see metrics.py. For another thread."""
        return {
            "slots": self._model.slots,
            "memory": memory.in_use(self._model.device),
            "backend_fallback": float(self._model.fallback is not None),
            **self._counters.delta(),
        }

    def _encode(self, sequence: Sequence) -> None:
        """Encode the melody of the sequence, the audio that it starts with, or the text it needs:
        each audio in a step of its own."""
        request, model = sequence.request, self._model
        with self._isolated(sequence):
            if sequence.codes is None:
                self.check(request)
            if request.melody is not None and model.melody:
                return sequence.follow(model.melody.chroma(request, model.pattern.window))
            if sequence.codes is None:
                prompt = request.codes
                if request.prompt_audio is not None:
                    prompt = model.encode_audio(request.prompt_audio, request.prompt_sample_rate)
                sequence.begin(model.pattern, prompt, AudioStream(request, model.codec))
            if sequence.needs_encoding and request.prompt_audio is None:
                text = sequence.sections[sequence.section].prompt
                sequence.condition(model.encode_text(text, sequence.chroma))
                self._condition(sequence)  # here, where an error is that of one sequence

    def _forward(self, batch: Batch) -> None:
        """One forward pass; the decoding sequences come first in it."""
        decode = batch.decode
        sequences, lengths = list(decode), [1] * len(decode)
        if batch.prefill:
            sequences.append(batch.prefill)
            lengths.append(batch.prefill_length)
        for sequence in sequences:
            self._condition(sequence)
        logits = self._model.backend.forward(_model_input(sequences, lengths))
        if batch.prefill:
            batch.prefill.advance(batch.prefill_length)
            self._counters.add(prefilled=batch.prefill_length)
        if decode:
            frames = np.stack([sequence.next_frames() for sequence in decode])
            rows = sum(sequence.rows for sequence in decode)
            slots = [sequence.slot for sequence in decode]
            codes = self._model.sampler.sample(logits[:rows], slots, torch.from_numpy(frames))
            for sequence, at, new in zip(decode, frames, codes.cpu().numpy(), strict=True):
                if new[0] == NOT_FINITE:
                    self._fail(sequence, NotFinite())
                else:
                    sequence.append(at, new)

    def _condition(self, sequence: Sequence) -> None:
        """Compute and sample the next positions under the conditioning of their section."""
        current = (sequence.id, sequence.scope)
        if self._conditioned.get(sequence.slot) != current:
            conditioning = sequence.conditionings[sequence.scope]
            self._model.backend.set_conditioning(sequence.slot, conditioning)
            self._model.sampler.set_request(sequence.slot, sequence.request, conditioning.guidance)
            self._conditioned[sequence.slot] = current

    def _decode_audio(self, sequence: Sequence) -> None:
        output, codes = sequence.output, sequence.codes
        assert output is not None and codes is not None
        chunk = None
        with self._isolated(sequence):
            chunk = output.decode(codes)
            if output.ended:
                self._scheduler.finish(sequence)
        if chunk:
            self._counters.add(audio=chunk.audio.shape[1] / SAMPLE_RATE)
            self._sink.chunk(sequence, chunk)

    @contextmanager
    def _isolated(self, sequence: Sequence) -> Iterator[None]:
        """An error in here ends this sequence and no other."""
        try:
            yield
        except torch.AcceleratorError:  # the device is of no use from now on
            raise
        except ServiceError as error:
            self._fail(sequence, error)
        except Exception:
            log.exception("the song failed", extra=about(sequence.request_id))
            problem = "the model failed on this song; try again or change the prompt"
            self._fail(sequence, GenerationFailed(problem))

    def _fail(self, sequence: Sequence, error: ServiceError) -> None:
        self._scheduler.finish(sequence)
        self._sink.error(sequence, error)


def _model_input(sequences: list[Sequence], lengths: list[int]) -> ModelInput:
    """The next `lengths` tokens of the sequences."""
    tokens = [sequence.tokens(length) for sequence, length in zip(sequences, lengths, strict=True)]
    return ModelInput(
        tokens=np.concatenate(tokens, axis=1),
        slots=np.array([sequence.slot for sequence in sequences]),
        starts=np.array([sequence.position for sequence in sequences]),
        lengths=np.array(lengths),
    )


def warm_up(model: LoadedModel) -> None:
    """Generate a short song. The first use of each part takes several times as long as others: it
    takes memory, starts threads, chooses algorithms. So it is not a listener's."""
    scheduler = Scheduler(max_queue=1)
    engine = Engine(model, scheduler, _Discard())
    song = Sequence(0, GenerationRequest("music", frames=10, seed=0))
    scheduler.submit(song)
    while not song.finished:
        engine.step()


class _Discard:
    def chunk(self, sequence: Sequence, chunk: AudioChunk) -> None: ...

    def error(self, sequence: Sequence, error: ServiceError) -> None: ...
