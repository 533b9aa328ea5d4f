"""The engine process of one variant.

    python -m musicgen_engine.core FOLDER CHECKPOINT PLACEMENT SOCKET

Songs come in over the channel, audio and codes go back. The main thread loads the weights and makes
music; one thread listens, one says every second how each song fares. The process ends with its
stub: when the channel closes, nobody is left to play for.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from musicgen_engine.channel import Channel
from musicgen_engine.core.scheduler import Scheduler, Task
from protocol.errors import Cancelled, EngineUnavailable, ServiceError
from musicgen_engine.logs import about, configure
from musicgen_engine.config import Placement
from protocol.settings import Settings
from protocol.request import SAMPLE_RATE, Song
from musicgen_engine.hub import fetch, resolve

if TYPE_CHECKING:
    from musicgen_engine.core.engine import Engine
    from musicgen_engine.core.loaded_model import Model
    from musicgen_engine.core.track import Chunk

BEAT = 1.0  # seconds between two statuses
HANG = 120.0  # seconds of one round that mean a hung device

log = logging.getLogger("engine")


class Session:
    """Between the channel and the engine, from the loading of the weights on."""

    def __init__(self, channel: Channel, settings: Settings) -> None:
        self._channel = channel
        self._scheduler = Scheduler(settings.max_queue, settings.max_wait)
        self._state: dict[str, Any] = {"state": "loading", "bytes": 0, "total_bytes": None}
        self._engine: Engine | None = None  # before the model is loaded
        self._reporting = threading.Lock()  # a state must not overtake a later one

    def run(self, folder: Path, checkpoint: str | None, placement: Placement) -> None:
        """Returns when the model cannot be loaded, after saying why."""
        threading.Thread(target=self._listen, daemon=True).start()
        threading.Thread(target=self._beat, daemon=True).start()
        try:
            model = self._load(folder, checkpoint, placement)
        except ServiceError as error:
            self._state = {"state": "failed", "code": error.code, "message": error.message}
            self._report()
            return
        from musicgen_engine.core.engine import Engine

        self._engine = Engine(model, self._scheduler, self)
        self._state = {
            "state": "ready",
            "revision": model.revision,
            "device": str(model.device),
            "precision": str(model.precision).removeprefix("torch."),
            "slots": model.slots,
            "channels": model.codec.channels,
            "codebooks": model.layout.codebooks,
            "sample_rate": SAMPLE_RATE,
        }
        self._report()
        try:
            self._engine.run()
        except Exception:
            log.exception("the engine cannot go on")
            os._exit(1)  # at once, for all listeners wait; a broken device may not let go

    def _load(self, folder: Path, checkpoint: str | None, placement: Placement) -> Model:
        try:
            weights = fetch(resolve(checkpoint, folder), self._downloaded)
            # Here, for what weights are missing is known before the seconds that this import takes.
            from musicgen_engine.core.loaded_model import Model

            return Model.load(weights, placement)
        except ServiceError:
            raise
        except Exception as error:
            log.exception("the checkpoint could not be loaded")
            raise EngineUnavailable("the checkpoint could not be loaded; see the log") from error

    def _downloaded(self, done: int, total: int | None) -> None:
        self._state = {"state": "loading", "bytes": done, "total_bytes": total}

    def chunk(self, task: Task, chunk: Chunk) -> None:
        if chunk.last:
            _log_end(task, "done")
            self._report()  # first: who knows of the end must not find the song still here
        message = {
            "kind": "chunk",
            "id": task.id,
            "channels": len(chunk.audio),
            "samples": chunk.audio.shape[1],
            "sample_rate": SAMPLE_RATE,
            "codebooks": len(chunk.codes),
            "revision": self._state["revision"],
            "last": chunk.last,
            "status": task.status("done" if chunk.last else "generating"),
        }
        self._channel.send(message, chunk.audio.tobytes() + chunk.codes.tobytes())

    def error(self, task: Task, error: ServiceError) -> None:
        _log_end(task, str(error))
        self._report()
        message = {"kind": "error", "id": task.id, "code": error.code, "message": error.message}
        self._channel.send(message)

    def _listen(self) -> None:
        try:
            while True:
                self._hear(*self._channel.receive())
        except (EOFError, OSError):
            os._exit(0)  # the stub is gone, and a step may be running

    def _hear(self, message: dict[str, Any], payload: bytes) -> None:
        if message["kind"] == "cancel":
            if dropped := self._scheduler.cancel(message["id"]):
                self.error(dropped, Cancelled("the request was cancelled"))
            return
        arrays: dict[str, Any] = {
            name: np.frombuffer(payload, type_).reshape(message[rows], -1)
            for name, type_, rows in (
                ("codes", np.int32, "codebooks"),
                ("prompt_audio", np.float32, "channels"),
            )
            if message[rows]
        }
        task = Task(message["id"], Song(**message["song"], **arrays), message["request_id"])
        try:
            if self._engine:
                self._engine.check(task.song)  # rather than after its wait
            self._scheduler.submit(task)
        except ServiceError as error:
            return self.error(task, error)
        self._report()
        if status := self._scheduler.statuses().get(task.id):
            self._report_song(task.id, status)

    def _beat(self) -> None:
        while True:
            time.sleep(BEAT)
            if self._engine and self._engine.busy > HANG:
                log.error("the engine hangs: a round takes over %d s", HANG)
                os._exit(1)
            self._report()
            for id, status in self._scheduler.statuses().items():
                self._report_song(id, status)
            measures = self._scheduler.counts() | (self._engine.measure() if self._engine else {})
            self._channel.send({"kind": "measures", "measures": measures})

    def _report(self) -> None:
        """Says how the engine is."""
        with self._reporting:
            self._channel.send({"kind": "state", **self._state, **self._scheduler.counts()})

    def _report_song(self, id: int, status: dict[str, Any]) -> None:
        """Says how it fares: until the weights are here, as they do."""
        state = self._state
        status = state if state["state"] == "loading" else status
        self._channel.send({"kind": "status", "id": id, "status": status})


def _log_end(task: Task, how: str) -> None:
    made, seconds = task.frames_done - task.held, time.monotonic() - task.asked
    log.info("%s: %d frames in %.1f s", how, made, seconds, extra=about(task.request_id))


def main() -> None:
    folder, checkpoint, placement, socket = sys.argv[1:]
    settings = Settings.of(os.environ)
    configure(Path(folder).parent.name, settings.log_format)
    for chatty in ("audiocraft", "httpx"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    session = Session(Channel(Connection(int(socket))), settings)
    session.run(Path(folder), checkpoint or None, Placement(**json.loads(placement)))


if __name__ == "__main__":
    main()
