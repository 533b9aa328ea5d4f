"""The engine process between its channel and its engines, one for each device.

The main thread loads the weights and runs the first engine; others have a thread each. One thread
receives, one reports every second. The process ends with its stub, when the channel closes.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from collections.abc import Sequence as Many
from contextlib import contextmanager
from operator import attrgetter
from pathlib import Path
from typing import Any

from musicgen_engine.channel import Channel
from musicgen_engine.config import ModelConfig
from musicgen_engine.core.audio_stream import AudioChunk
from musicgen_engine.core.engine import FAILED, Engine, warm_up
from musicgen_engine.core.loaded_model import LoadedModel, load_each
from musicgen_engine.core.memory import in_use
from musicgen_engine.core.queue import Queue
from musicgen_engine.core.separation import separate
from musicgen_engine.core.sequence import Sequence
from musicgen_engine.hub import fetch, fetch_separator, resolve
from musicgen_engine.logs import about
from musicgen_engine.messages import (
    Cancel,
    Change,
    ChangeReport,
    ChunkReport,
    DoneState,
    EngineReport,
    EngineState,
    FailedState,
    FailureReport,
    GeneratingState,
    LoadingState,
    MetricsReport,
    ReadyState,
    SequenceReport,
    SequenceState,
    Submit,
)
from musicgen_engine.metrics import COUNTERS
from musicgen_engine.settings import EngineSettings
from musicgen_engine.threads import essential, start_essential
from protocol.constants import SAMPLE_RATE
from protocol.errors import (
    Cancelled,
    EngineUnavailable,
    GenerationFailed,
    ModelLoading,
    ServiceError,
    WeightsMissing,
)

REPORT_INTERVAL = 1.0  # seconds
STEP_TIMEOUT = 120.0  # seconds; a longer step means that the device hangs

Load = Callable[[Path, ModelConfig], Many[LoadedModel]]

log = logging.getLogger("engine")


class EngineServer:
    def __init__(self, channel: Channel, settings: EngineSettings, load: Load = load_each) -> None:
        """`load` places a checkpoint on its devices."""
        self._channel = channel
        self._load_each = load
        self._queue = Queue(settings.max_queue, settings.max_wait)
        self._state: EngineState = LoadingState()
        self._models: Many[LoadedModel] = ()  # before they are loaded
        self._engines: list[Engine] = []
        self._reporting = threading.Lock()  # a report must not overtake a later one

    def run(self, folder: Path, checkpoint: str | None, config: ModelConfig) -> None:
        """Return when the model cannot be loaded, after reporting why."""
        start_essential(self._receive)
        start_essential(self._report_regularly)
        try:
            self._models = self._load(folder, checkpoint, config)
        except ServiceError as error:
            self._state = FailedState.of(error)
            self._report()
            return
        self._engines = [Engine(model, self._queue, self) for model in self._models]
        self._state = _ready(self._models)
        self._report()
        start_essential(self._separate)
        first, *others = self._engines
        for engine in others:
            start_essential(engine.run)
        # One that fails ends the process at once: all callers wait, and a broken device may not let
        # go. The songs of all engines go on in the next process.
        essential(first.run)

    def _load(self, folder: Path, checkpoint: str | None, config: ModelConfig) -> Many[LoadedModel]:
        try:
            weights = fetch(resolve(checkpoint, folder), self._on_progress)
            if checkpoint:
                self._fetch_separator(weights)
            models = self._load_each(weights, config)
            for model in models:
                warm_up(model)
            return models
        except ServiceError:
            raise
        except Exception as error:
            log.exception("the checkpoint could not be loaded")
            # Such as a read-only home: the fault is not the checkpoint's.
            reason = f" ({error.strerror})" if isinstance(error, OSError) else ""
            message = f"the checkpoint could not be loaded{reason}; see the log"
            raise EngineUnavailable(message) from error

    def _fetch_separator(self, weights: Path) -> None:
        """A model serves without it: a request may say that its melody is alone."""
        try:
            fetch_separator(weights, self._on_progress)
        except WeightsMissing as error:
            log.warning("no melody can be taken out of a mix: %s", error.message)

    def _on_progress(self, done: int, total: int | None) -> None:
        self._state = LoadingState(done, total)

    def chunk(self, sequence: Sequence, chunk: AudioChunk) -> None:
        state = DoneState if chunk.last else GeneratingState
        if chunk.last:
            _log_end(sequence, "done")
            self._report()  # first: a client that has the end must not find the song still running
        assert isinstance(self._state, ReadyState)
        self._send(
            ChunkReport(
                id=sequence.id,
                audio=chunk.audio,
                codes=chunk.codes,
                chroma=chunk.chroma,
                sections=sequence.request.timeline,
                revision=self._state.revision,
                state=state(sequence.frames_done, sequence.request.frames),
                last=chunk.last,
            )
        )

    def error(self, sequence: Sequence, error: ServiceError) -> None:
        _log_end(sequence, str(error))
        self._report()
        self._send(FailureReport(sequence.id, FailedState.of(error)))

    def changed(self, sequence: Sequence, change: Change, frame: int) -> None:
        self._send(ChangeReport(change.id, frame, sequence.request.timeline))

    def refused(self, change: Change, error: ServiceError) -> None:
        self._send(FailureReport(change.id, FailedState.of(error)))

    def _receive(self) -> None:
        with _ending_with_the_stub():
            while True:
                message = self._channel.receive()
                if isinstance(message, Submit):
                    self._submit(Sequence(message.id, message.request, message.request_id))
                elif isinstance(message, Change):
                    self._change(message)
                elif isinstance(message, Cancel):
                    self._cancel(message.id)

    def _submit(self, sequence: Sequence) -> None:
        try:
            if self._models:
                sequence.check(self._largest.check)  # before it waits
            self._queue.submit(sequence)
        except ServiceError as error:
            return self.error(sequence, error)
        except Exception as error:
            log.error("the check failed", exc_info=error, extra=about(sequence.request_id))
            return self.error(sequence, GenerationFailed(FAILED))
        self._report()
        if state := self._queue.states().get(sequence.id):
            self._report_sequence(sequence.id, state)

    def _change(self, change: Change) -> None:
        try:
            if not self._models:  # which know whether they can make a song
                raise ModelLoading("The model still loads; change the song once it has loaded.")
            made = self._queue.change(change, self._largest.check)
        except ServiceError as error:
            self.refused(change, error)
        except Exception:
            log.exception("the change failed")
            self.refused(change, GenerationFailed(FAILED))
        else:
            if made:
                sequence, frame = made
                self.changed(sequence, change, frame)

    @property
    def _largest(self) -> LoadedModel:
        """That of the device with the most slots: a blend that it refuses fits nowhere."""
        return max(self._models, key=attrgetter("slots"))

    def _separate(self) -> None:
        while True:
            separate(self._queue, self._largest)

    def _cancel(self, id: int) -> None:
        if dropped := self._queue.cancel(id):
            self.error(dropped, Cancelled("the request was cancelled"))

    def _report_regularly(self) -> None:
        while True:
            time.sleep(REPORT_INTERVAL)
            if any(engine.step_seconds > STEP_TIMEOUT for engine in self._engines):
                log.error("the engine hangs: a step takes over %d s", STEP_TIMEOUT)
                os._exit(1)
            self._report()
            for id, state in self._queue.states().items():
                self._report_sequence(id, state)
            self._send(MetricsReport(self._metrics()))

    def _metrics(self) -> dict[str, float]:
        """Gauges as they are, counters since the last call; see metrics.py."""
        counts = [engine.counts() for engine in self._engines]
        values: dict[str, float] = {**self._queue.counts()}
        values |= {name: sum(one.get(name, 0.0) for one in counts) for name in COUNTERS}
        if isinstance(self._state, ReadyState):
            values["slots"] = self._state.slots
            values["memory"] = sum(map(in_use, {model.device for model in self._models}))
            values["backend_fallback"] = float(self._state.fallback is not None)
        return values

    def _report(self) -> None:
        with self._reporting:
            counts, full_for = self._queue.counts(), self._queue.full_for()
            self._send(EngineReport(self._state, **counts, full_for=full_for))

    def _report_sequence(self, id: int, state: SequenceState) -> None:
        """Until the weights are here, a sequence is loading, too."""
        loading = self._state
        self._send(SequenceReport(id, loading if isinstance(loading, LoadingState) else state))

    def _send(self, message: Any) -> None:
        with _ending_with_the_stub():
            self._channel.send(message)


@contextmanager
def _ending_with_the_stub() -> Iterator[None]:
    try:
        yield
    except (EOFError, OSError):
        os._exit(0)  # the stub is gone, and a step may be running


def _ready(models: Many[LoadedModel]) -> ReadyState:
    def each(names: Iterable[str | None]) -> str:
        return ", ".join(dict.fromkeys(filter(None, names)))

    model = models[0]
    return ReadyState(
        revision=model.revision,
        device=each(str(one.device) for one in models),
        precision=str(model.precision).removeprefix("torch."),
        backend=each(one.backend_name for one in models),
        fallback=each(one.fallback for one in models) or None,
        slots=sum(one.slots for one in models),
        channels=model.codec.channels,
        codebooks=model.pattern.codebooks,
        melody=model.melody is not None,
        sample_rate=SAMPLE_RATE,
    )


def _log_end(sequence: Sequence, how: str) -> None:
    frames = sequence.frames_done - sequence.prompt_frames
    seconds = time.monotonic() - sequence.arrival
    log.info("%s: %d frames in %.1f s", how, frames, seconds, extra=about(sequence.request_id))
