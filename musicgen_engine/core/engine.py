"""The hot loop: everybody's songs, one step at a time."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Protocol

import numpy as np
import torch

from musicgen_engine.core import memory
from musicgen_engine.core.meter import Meter
from musicgen_engine.core.loaded_model import Model
from musicgen_engine.core.scheduler import Scheduler, Task
from musicgen_engine.core.track import Chunk, Track
from protocol.errors import Cancelled, GenerationFailed, ServiceError
from musicgen_engine.logs import about
from protocol.request import SAMPLE_RATE, Song

# Columns of a prompt that are prefilled in one step: alone, or beside others on a CPU. There a
# column takes time from those who play, of which it must cost no more than two of their steps.
PIECE = 64
PIECE_BESIDE_OTHERS = 8

log = logging.getLogger("engine")


class Listener(Protocol):
    """Who gets the songs. A task's last chunk or its error is the end of it, and its slot is free
    by then."""

    def chunk(self, task: Task, chunk: Chunk) -> None: ...

    def error(self, task: Task, error: ServiceError) -> None: ...


class Engine:
    def __init__(self, model: Model, scheduler: Scheduler, listener: Listener) -> None:
        self._model = model
        self._scheduler = scheduler
        self._listener = listener
        self._tracks: list[Track] = []
        self._meter = Meter()
        self._began: float | None = None  # the round under way
        scheduler.open(model.slots)

    def run(self) -> None:
        """For ever. Raises what the device raises: then nothing can be played any more."""
        while True:
            self._scheduler.wait()
            self._began = began = time.monotonic()
            self.round()
            self._began = None
            seconds = time.monotonic() - began
            self._scheduler.took(seconds)
            self._meter.count(rounds=1, round_seconds=seconds)

    @property
    def busy(self) -> float:
        """Seconds that the round under way has taken. For another thread."""
        began = self._began
        return time.monotonic() - began if began else 0.0

    def check(self, song: Song) -> None:
        """Whether this model can make it. Raises as `Song.check`."""
        model, layout = self._model, self._model.layout
        song.check(layout.codebooks, layout.special, layout.window, model.revision)

    def measure(self) -> dict[str, float]:
        """See `measures`: gauges as they are, counters since the last time. For another thread."""
        return {
            "slots": self._model.slots,
            "memory": memory.held(self._model.device),
            **self._meter.news(),
        }

    def round(self) -> None:
        """Each song that plays gets one column further. All else is done in pieces, one a round,
        so that nobody waits long for somebody else's text, prompt or audio."""
        self._drop_cancelled()
        self._admit()
        self._decode()
        self._play()

    def _drop_cancelled(self) -> None:
        for track in [track for track in self._tracks if track.task.cancelled.is_set()]:
            self._tracks.remove(track)
            self._end(track.task, Cancelled("the request was cancelled"))

    def _admit(self) -> None:
        if task := self._scheduler.admit():
            with self._alone(task):
                model, song = self._model, task.song
                self.check(song)
                held = song.codes
                if song.prompt_audio is not None:
                    held = model.encode(song.prompt_audio, song.prompt_sample_rate)
                    task.song = replace(song, prompt_audio=None)  # which is large
                track = Track(task, held, model.layout, model.codec)
                model.decoder.condition(task.slot, model.describe(song.prompt))
                model.sampler.put(task.slot, song)
                self._tracks.append(track)

    def _decode(self) -> None:
        playing = [track for track in self._tracks if not (track.prefilling or track.drawn)]
        pieces = [track.piece(1) for track in playing]
        prefilling = next((track for track in self._tracks if track.prefilling), None)
        if prefilling:
            pieces.append(prefilling.piece(self._prefill_limit(len(playing))))
            columns = pieces[-1].tokens.shape[1]
            prefilling.prefilled(columns)
            self._meter.count(prefilled=columns)
        if not pieces:
            return
        logits = self._model.decoder.step(pieces)
        if playing:
            slots = [track.task.slot for track in playing]
            frames = np.stack([track.next_frames() for track in playing])
            drawn = self._model.sampler.draw(
                logits[:, : len(playing)], slots, torch.from_numpy(frames)
            )
            for track, at, codes in zip(playing, frames, drawn.cpu().numpy(), strict=True):
                track.write(at, codes)

    def _prefill_limit(self, playing: int) -> int:
        if not playing or self._model.device.type != "cpu":
            return PIECE
        # Twice as many rows take, at worst, twice the time; few rows take less.
        return min(PIECE, max(PIECE_BESIDE_OTHERS, 2 * playing))

    def _play(self) -> None:
        track = next((track for track in self._tracks if track.due), None)
        if not track:
            return
        self._tracks.remove(track)
        chunk = None
        with self._alone(track.task):
            chunk = track.play()
            if track.ended:
                self._scheduler.retire(track.task)
            else:
                self._tracks.append(track)  # behind the others: it is their turn
        if chunk:
            self._meter.count(audio=chunk.audio.shape[1] / SAMPLE_RATE)
            self._listener.chunk(track.task, chunk)

    @contextmanager
    def _alone(self, task: Task) -> Iterator[None]:
        """An error in here is that of one song, and ends no other."""
        try:
            yield
        except torch.AcceleratorError:  # of the device, which is of no use from now on
            raise
        except ServiceError as error:
            self._end(task, error)
        except Exception:
            log.exception("the song failed", extra=about(task.request_id))
            self._end(task, GenerationFailed("the model failed on this song; see the log"))

    def _end(self, task: Task, error: ServiceError) -> None:
        self._scheduler.retire(task)
        self._listener.error(task, error)
