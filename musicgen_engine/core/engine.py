"""The hot loop: all sequences, one step at a time."""

from __future__ import annotations

import logging
import time
from collections import defaultdict, deque
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from operator import attrgetter
from typing import Any, Protocol

import numpy as np
import torch

from musicgen_engine.core.audio_stream import AudioChunk, AudioStream
from musicgen_engine.core.device import use
from musicgen_engine.core.encoding import Encoding, encoder
from musicgen_engine.core.loaded_model import LoadedModel
from musicgen_engine.core.queue import Queue
from musicgen_engine.core.scheduler import Batch, Scheduler
from musicgen_engine.core.sequence import Scope, Sequence, slots_needed
from musicgen_engine.logs import about
from musicgen_engine.messages import Change
from musicgen_engine.metrics import Counters
from musicgen_engine.model.backend import ModelInput
from musicgen_engine.model.conditioning import Conditioning
from musicgen_engine.model.decoder import DecodeInput
from musicgen_engine.model.delay_pattern import Integers
from musicgen_engine.model.sampler import NOT_FINITE
from musicgen_engine.model.streaming_codec import CodecInput
from protocol.constants import NO_CHROMA, SAMPLE_RATE, UNKNOWN, Chroma, Codes, Samples
from protocol.errors import EngineUnavailable, GenerationFailed, NotFinite, ServiceError
from protocol.request import GenerationRequest, complete
from protocol.section import Section

NO_MEMORY = "the device had no memory left for this song; try again when fewer songs run"
WINDOWS_AT_ONCE = 16  # of a melody: a tenth of a second each, four times as long beside songs
FAILED = "the model failed on this song; try again or change the prompt"

log = logging.getLogger("engine")


class OutputSink(Protocol):
    """Gets what the engine makes. A sequence ends with its last chunk or its error, and its slot is
    free by then."""

    def chunk(self, sequence: Sequence, chunk: AudioChunk) -> None: ...

    def error(self, sequence: Sequence, error: ServiceError) -> None: ...

    def changed(self, sequence: Sequence, change: Change, frame: int) -> None: ...

    def refused(self, change: Change, error: ServiceError) -> None: ...


class Engine:
    """Generates on one device. Engines of several devices share a queue; each runs in a thread."""

    def __init__(self, model: LoadedModel, queue: Queue, sink: OutputSink) -> None:
        self._model = model
        self._queue = queue
        self._sink = sink
        self._counters = Counters()
        # The decoder has these, by the first slot of a sequence; sections with their sequence.
        self._conditionings: dict[int, Conditioning] = {}
        self._sections: dict[int, tuple[int, Section]] = {}
        self._started: deque[_Started] = deque()
        self._encoder = encoder(model.device)
        self._step_start: float | None = None
        on_cpu = model.device.type == "cpu"
        self.scheduler = Scheduler(queue, model.slots, model.pattern.window, shares_cores=on_cpu)

    def run(self) -> None:
        """Never returns. Raises what the device raises: then nothing can be computed any more."""
        use(self._model.device)
        while True:
            self.scheduler.wait()
            self._step_start = start = time.monotonic()
            positions = self.step()
            self._step_start = None
            if positions:
                seconds = time.monotonic() - start
                self._queue.record_step(seconds / positions)
                self._counters.add(steps=positions, step_seconds=seconds)

    def step(self) -> int:
        """The next positions of each running sequence are started, and codes of earlier ones read;
        one chunk of a prompt is prefilled, and as many chunks of audio decoded as positions may be
        started. One text or audio begins to be encoded. Returns how many positions were started; a
        chunk alone counts as one."""
        for sequence, change in self.scheduler.take_changes():
            self._change(sequence, change)
        if encoding := self.scheduler.end_encoding():
            with self._isolated(encoding.sequence):
                encoding.take(encoding.result.result())
        batch = self.scheduler.schedule()
        for sequence, error in batch.aborted:
            self._sink.error(sequence, error)
        if batch.encode:
            self._encode(batch.encode)
        positions = self._start_what_fits(batch)
        while len(self._started) > (self._model.decoder.ahead if batch.decode else 0):
            self._receive(self._started.popleft())
        self._decode_audio(self._model.decoder.burst)
        return positions

    @property
    def step_seconds(self) -> float:
        """Seconds that the current step has taken so far, or what is encoded beside it. For another
        thread."""
        start, encoding = self._step_start, self.scheduler.encoding
        step = time.monotonic() - start if start else 0.0
        return max(step, encoding.seconds if encoding else 0.0)

    def counts(self) -> dict[str, float]:
        """The counters of metrics.py, since the last call. For another thread."""
        return self._counters.delta()

    def _change(self, sequence: Sequence, change: Change) -> None:
        def check(request: GenerationRequest) -> None:
            self._model.check(request)
            self.scheduler.extend(sequence, slots_needed(request))

        try:
            frame = sequence.change(dict(change.values), check)
        except ServiceError as error:
            self._sink.refused(change, error)
        except Exception as error:
            log.error("the change failed", exc_info=error, extra=about(sequence.request_id))
            self._sink.refused(change, GenerationFailed(FAILED))
        else:
            self._sink.changed(sequence, change, frame)

    def _encode(self, sequence: Sequence) -> None:
        """Begin to encode the melody of the sequence, or of one window where it came out of a mix,
        the audio that the sequence starts with, or the text that it needs."""
        request, model = sequence.request, self._model
        compute: Callable[[], Any]
        take: Callable[[Any], None]
        with self._isolated(sequence):
            sequence.check(model.check)
            if sequence.melodies or (request.melody is not None and not request.separate):
                compute, take = partial(self._chroma, sequence), sequence.follow
            elif request.prompt_audio is not None:
                audio = request.prompt_audio, request.prompt_sample_rate
                compute, take = partial(model.encode_audio, *audio), partial(self._begin, sequence)
            else:
                if sequence.codes is None:
                    self._begin(sequence, request.codes)
                if (section := sequence.section_to_encode) is None:
                    return
                texts = section.prompt, sequence.chroma, section.negative_prompt
                compute = partial(model.encode_text, *texts)
                take = partial(self._text, sequence, sequence.scope_of(section))
            self.scheduler.begin_encoding(Encoding(sequence, self._encoder.submit(compute), take))

    def _chroma(self, sequence: Sequence) -> Chroma:
        """Of the sequence's melody, as far as it is known, with some windows more."""
        request, encoder, window = sequence.request, self._model.melody, self._model.pattern.window
        assert encoder
        chroma = np.full((request.windows(window), encoder.columns), UNKNOWN, np.int32)
        if request.chroma is not None:
            chroma[:] = request.chroma
        unknown = [number for number, columns in enumerate(chroma) if not complete(columns)]
        parts = encoder.parts(request, window, unknown[:WINDOWS_AT_ONCE])
        for number, part in sequence.melodies.copy().items() or parts:
            chroma[number] = encoder.chroma(part)
        return chroma

    def _begin(self, sequence: Sequence, prompt: Codes | None) -> None:
        model = self._model
        sequence.begin(model.pattern, prompt, AudioStream(sequence.request, model.codec))

    def _text(self, sequence: Sequence, scope: Scope, conditioning: Conditioning) -> None:
        sequence.condition(scope, conditioning)
        if scope == sequence.scope:
            self._condition(sequence)  # here, where an error is that of one sequence

    def _start_what_fits(self, batch: Batch) -> int:
        """Without memory for a batch, its newest sequence fails; the others go on with the next
        step."""
        try:
            return self._start(batch)
        except torch.OutOfMemoryError:
            log.warning("the device has no memory left: the newest song ends")
            torch.cuda.empty_cache()
            while self._started:
                self._receive(self._started.popleft())
            newest = batch.prefill or max(batch.decode, key=attrgetter("id"))
            if not newest.finished:
                self._fail(newest, GenerationFailed(NO_MEMORY))
            return 0

    def _start(self, batch: Batch) -> int:
        """Start the next positions of all sequences. Returns how many each one decodes, or one
        for a chunk of a prefill alone."""
        decode, prefill, decoder = batch.decode, batch.prefill, self._model.decoder
        count = 0
        for sequence in (*decode, prefill) if prefill else decode:
            self._condition(sequence)
        known = None
        if prefill:
            tokens = prefill.tokens(batch.prefill_length)
            known = ModelInput.of(tokens, prefill.rows_slots, prefill.position)
        if decode:
            count = min(sequence.decode_length(decoder.burst) for sequence in decode)
            positions = [sequence.position for sequence in decode]
            inputs = [_decode_input(sequence) for sequence in decode]
            codes = decoder.decode(inputs, count, known)
            self._started.append(_Started(decode, positions, codes))
            for sequence in decode:
                sequence.advance(count)
        elif known:
            decoder.prefill(known)
        if prefill:
            prefill.advance(batch.prefill_length)
            self._counters.add(prefilled=batch.prefill_length)
        return count or int(prefill is not None)

    def _receive(self, started: _Started) -> None:
        """Read the codes of positions that were started."""
        codes = started.codes().swapaxes(0, 1)
        for sequence, position, made in zip(
            started.sequences, started.positions, codes, strict=True
        ):
            if sequence.finished:
                continue
            if (made == NOT_FINITE).any():
                self._fail(sequence, NotFinite())
            else:
                sequence.append(position, made)

    def _condition(self, sequence: Sequence) -> None:
        """Compute and sample the next positions under the conditioning of their section."""
        model, slot = self._model, sequence.slot
        conditioning = sequence.conditionings[sequence.scope]
        if self._conditionings.get(slot) is not conditioning:
            for joining, row in sequence.joining_rows():
                model.backend.copy_row(slot, joining, row, sequence.position)
            sequence.cached = model.decoder.set_conditioning(sequence.rows_slots, conditioning)
            self._conditionings[slot] = conditioning
        section = (sequence.id, sequence.section)
        if self._sections.get(slot) != section:
            request = sequence.request.under(sequence.section)
            model.decoder.set_request(sequence.rows_slots, request, conditioning.guidance)
            self._sections[slot] = section

    def _decode_audio(self, limit: int) -> None:
        """Decode so many chunks of audio, those of the same shape together."""
        while limit and (ready := self.scheduler.next_for_codec(limit)):
            limit -= len(ready)
            alike = defaultdict[Hashable, list[Sequence]](list)
            for sequence in ready:
                alike[_codec_input(sequence).shape].append(sequence)
            for sequences in alike.values():
                self._decode_together(sequences)

    def _decode_together(self, sequences: list[Sequence]) -> None:
        """One batch. If it fails, such as for want of memory, each is tried alone."""
        first, *others = sequences
        try:
            samples = self._model.codec.push([*map(_codec_input, sequences)])
        except Exception as error:
            if not others:
                return self._end(first, error)
            for sequence in sequences:
                self._decode_together([sequence])
        else:
            for sequence, audio in zip(sequences, samples, strict=True):
                self._send(sequence, audio)

    def _send(self, sequence: Sequence, audio: Samples) -> None:
        output, codes, chroma = sequence.output, sequence.codes, sequence.request.chroma
        assert output is not None and codes is not None
        chunk = None
        with self._isolated(sequence):
            chunk = output.chunk(audio, codes, NO_CHROMA if chroma is None else chroma)
            if output.ended:
                self.scheduler.finish(sequence)
        if chunk:
            self._counters.add(audio=chunk.audio.shape[1] / SAMPLE_RATE)
            self._sink.chunk(sequence, chunk)

    @contextmanager
    def _isolated(self, sequence: Sequence) -> Iterator[None]:
        """An error in here ends this sequence and no other."""
        try:
            yield
        except Exception as error:
            self._end(sequence, error)

    def _end(self, sequence: Sequence, error: Exception) -> None:
        """An error ended this sequence. Raises those of the device: it is of no use any more."""
        if isinstance(error, torch.AcceleratorError):
            raise error
        if isinstance(error, ServiceError):
            self._fail(sequence, error)
        elif isinstance(error, torch.OutOfMemoryError):
            torch.cuda.empty_cache()
            self._fail(sequence, GenerationFailed(NO_MEMORY))
        else:
            log.error("the song failed", exc_info=error, extra=about(sequence.request_id))
            self._fail(sequence, GenerationFailed(FAILED))

    def _fail(self, sequence: Sequence, error: ServiceError) -> None:
        self.scheduler.finish(sequence)
        self._sink.error(sequence, error)


@dataclass(frozen=True)
class _Started:
    """Positions that were started, the first of each sequence, and their codes once they are read:
    [count, sequences, codebooks]."""

    sequences: list[Sequence]
    positions: list[int]
    codes: Callable[[], Integers]


def _decode_input(sequence: Sequence) -> DecodeInput:
    assert sequence.codes is not None
    return DecodeInput(sequence.rows_slots, sequence.window, sequence.position, sequence.codes)


def _codec_input(sequence: Sequence) -> CodecInput:
    assert sequence.output is not None and sequence.codes is not None
    return sequence.output.next_input(sequence.codes)


def warm_up(model: LoadedModel) -> None:
    """Generate a short song. The first use of each part takes several times as long as others: it
    takes memory, starts threads, chooses algorithms. So it is not a listener's.

    Raises EngineUnavailable: the model cannot generate it."""
    use(model.device)
    queue = Queue(max_queue=1)
    engine = Engine(model, queue, _Discard())
    song = Sequence(0, GenerationRequest("music", frames=10, seed=0))
    queue.submit(song)
    while not song.finished:
        engine.scheduler.wait()
        engine.step()


class _Discard:
    def chunk(self, sequence: Sequence, chunk: AudioChunk) -> None: ...

    def error(self, sequence: Sequence, error: ServiceError) -> None:
        raise EngineUnavailable(f"the model cannot generate its first song: {error.message}")

    def changed(self, sequence: Sequence, change: Change, frame: int) -> None: ...

    def refused(self, change: Change, error: ServiceError) -> None: ...
