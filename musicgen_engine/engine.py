"""The engine process of one variant: `python -m musicgen_engine.engine FOLDER CHECKPOINT SOCKET`.

Songs come in over the channel, audio goes back. The main thread loads the weights and makes music;
one thread listens, one says every second how each song fares. The process ends with its stub: when
the channel closes, nobody is left to play for.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from musicgen_engine.channel import Channel
from musicgen_engine.errors import Cancelled, EngineUnavailable, GenerationFailed, ServiceError
from musicgen_engine.scheduler import Scheduler, Task
from musicgen_engine.settings import Settings
from musicgen_engine.song import Song
from musicgen_engine.weights import fetch, resolve

if TYPE_CHECKING:
    from musicgen_engine.musicgen import MusicGen

BEAT = 1.0  # seconds between two statuses

log = logging.getLogger("engine")


class Engine:
    def __init__(
        self, channel: Channel, folder: Path, checkpoint: str | None, max_queue: int
    ) -> None:
        self._channel = channel
        self._folder = folder
        self._checkpoint = checkpoint
        self._scheduler = Scheduler(max_queue)
        self._state: dict[str, Any] = {"state": "loading", "bytes": 0, "total_bytes": None}

    def run(self) -> None:
        """Returns when the model cannot be loaded, after saying why."""
        threading.Thread(target=self._listen, daemon=True).start()
        threading.Thread(target=self._beat, daemon=True).start()
        try:
            model = self._load()
        except ServiceError as error:
            self._state = {"state": "failed", "code": error.code, "message": error.message}
            self._report()
            return
        while True:
            task = self._scheduler.next()
            self._report()
            try:
                self._play(model, task)
            except ServiceError as error:
                self._fail(task, error)
            except Exception:
                log.exception("song %d failed", task.id)
                self._fail(task, GenerationFailed("the model failed on this song; see the log"))
            finally:
                self._scheduler.retire()
                self._report()

    def _load(self) -> MusicGen:
        folder = fetch(resolve(self._checkpoint, self._folder), self._downloaded)
        try:
            # Here, for what weights are missing is known before the seconds that this import takes.
            from musicgen_engine.musicgen import MusicGen

            model = MusicGen.load(folder)
        except Exception as error:
            log.exception("the checkpoint could not be loaded")
            raise EngineUnavailable("the checkpoint could not be loaded; see the log") from error
        self._state = {
            "state": "ready",
            "device": model.device,
            "channels": model.channels,
            "sample_rate": model.sample_rate,
        }
        self._report()
        return model

    def _downloaded(self, done: int, total: int | None) -> None:
        self._state = {"state": "loading", "bytes": done, "total_bytes": total}

    def _play(self, model: MusicGen, task: Task) -> None:
        def on_frame(frames_done: int) -> None:
            task.frames_done = frames_done
            if task.cancelled.is_set():
                raise Cancelled("the request was cancelled")

        audio = model.generate(task.song, on_frame)  # float32 [channels, samples]
        channels, samples = audio.shape
        second = model.sample_rate
        for start in range(0, samples, second):
            last = start + second >= samples
            chunk = {"kind": "chunk", "id": task.id, "channels": channels, "sample_rate": second}
            status = task.status("done" if last else "generating")
            piece = audio[:, start : start + second]
            self._channel.send({**chunk, "last": last, "status": status}, piece.tobytes())

    def _fail(self, task: Task, error: ServiceError) -> None:
        message = {"kind": "error", "id": task.id, "code": error.code, "message": error.message}
        self._channel.send(message)

    def _listen(self) -> None:
        try:
            while True:
                message, _ = self._channel.receive()
                if message["kind"] == "song":
                    self._accept(Task(message["id"], Song(**message["song"])))
                elif dropped := self._scheduler.cancel(message["id"]):
                    self._fail(dropped, Cancelled("the request was cancelled"))
                self._report()
        except EOFError:
            os._exit(0)  # the stub is gone, and a step may be running

    def _accept(self, task: Task) -> None:
        try:
            self._scheduler.submit(task)
        except ServiceError as error:
            self._fail(task, error)

    def _beat(self) -> None:
        while True:
            time.sleep(BEAT)
            self._report()

    def _report(self) -> None:
        """Says how the engine is, and how each song fares."""
        self._channel.send({"kind": "state", **self._state, **self._scheduler.counts()})
        loading = self._state["state"] == "loading"
        for id, status in self._scheduler.statuses().items():
            status = self._state if loading else status
            self._channel.send({"kind": "status", "id": id, "status": status})


def main() -> None:
    folder, checkpoint, socket = sys.argv[1:]
    name = Path(folder).parent.name
    logging.basicConfig(level=logging.INFO, format=f"{name}: %(message)s")
    for chatty in ("audiocraft", "httpx"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    channel = Channel(Connection(int(socket)))
    max_queue = Settings.of(os.environ).max_queue
    Engine(channel, Path(folder), checkpoint or None, max_queue).run()


if __name__ == "__main__":
    main()
