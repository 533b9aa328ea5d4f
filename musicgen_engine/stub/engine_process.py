"""The engine process as its stub sees it: started, watched, told what to do, and started again.

    starting ─→ loading ─→ ready
        ↑          │         │      the process ends: every song in flight fails at once
        └─ back-off ←────────┘      (at once the first time, later after 2, 4, 8 … 60 s)

While it waits to try again the engine is `failed`, with the reason, and new songs are refused.
"""

from __future__ import annotations

import itertools
import logging
import multiprocessing
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Protocol

import numpy as np

from musicgen_engine.channel import Channel, Message
from protocol.errors import EngineUnavailable, GenerationFailed, ServiceError
from musicgen_engine.logs import about
from musicgen_engine.metrics import GAUGES
from protocol.request import Codes, Samples, Song

PROVEN = 10.0  # seconds ready after which a death counts as the first
SILENCE = 120.0  # seconds without a sign of life (one comes every second) that mean a hung engine
EXIT = 2.0  # seconds for an engine to end after it has closed the channel
MAX_DELAY = 60.0  # seconds, between two tries at the most
WATCH = 0.2  # seconds between two looks for cancelled songs

Measures = Mapping[str, float]  # by their names in `measures`

log = logging.getLogger("engine")


class Listener(Protocol):
    """Who asked for a song and waits for it."""

    @property
    def request_id(self) -> str: ...

    @property
    def cancelled(self) -> bool: ...

    def status(self, status: dict[str, Any]) -> None: ...

    def chunk(
        self,
        audio: Samples,
        codes: Codes,
        sample_rate: int,
        revision: str,
        status: dict[str, Any],
        last: bool,
    ) -> None: ...

    def error(self, error: ServiceError) -> None: ...


class EngineProcess:
    """`command` is run with the number of its end of the channel appended. `tell` hears its
    measures: gauges as they are, counters by what has come to them."""

    def __init__(self, command: Sequence[str], tell: Callable[[Measures], None]) -> None:
        self._command = list(command)
        self._tell = tell
        self._ids = itertools.count(1)
        self._lock = threading.RLock()  # guards all below
        self._listeners: dict[int, Listener] = {}
        self._dropped: set[int] = set()  # songs whose listeners could not be reached
        self._state: dict[str, Any] = {}
        self._ready_since: float | None = None
        self._stopping = threading.Event()
        self._start()
        self._threads = [
            threading.Thread(target=target, daemon=True)
            for target in (self._supervise, self._watch)
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, song: Song, listener: Listener) -> None:
        """Hands the song over; everything about it comes to `listener`, its end exactly once.

        Raises:
            ServiceError: why the engine, which failed, is not running now.
        """
        message, payload = _message(song)
        with self._lock:
            if self._state["state"] == "failed":
                raise ServiceError.of(self._state["code"], self._state["message"])
            id = next(self._ids)
            self._listeners[id] = listener
            channel = self._channel
        named = {**message, "id": id, "request_id": listener.request_id}
        # Not under the lock: the engine may be busy telling us something before it reads.
        self._send(channel, named, payload)

    def status(self) -> dict[str, Any]:
        with self._lock:
            return self._state

    def stop(self) -> None:
        """Ends the engine process; songs in flight fail."""
        with self._lock:
            self._stopping.set()
            self._process.kill()
        for thread in self._threads:
            thread.join()

    def _start(self) -> None:
        with self._lock:
            if self._stopping.is_set():
                return
            self._ready_since = None
            ours, theirs = multiprocessing.Pipe()
            self._channel = Channel(ours)
            with theirs:
                command = [*self._command, str(theirs.fileno())]
                self._process = subprocess.Popen(command, pass_fds=[theirs.fileno()])
            self._state = {"state": "loading", "bytes": 0, "total_bytes": None}

    def _send(self, channel: Channel, message: Message, payload: bytes = b"") -> None:
        with suppress(OSError):  # it has just died: `_supervise` is about to tell every listener
            channel.send(message, payload)

    def _supervise(self) -> None:
        failures = 0
        while not self._stopping.is_set():
            self._receive()
            exit_code = self._reap()
            self._measure(dict.fromkeys(GAUGES, 0))
            with self._lock:
                proven = self._ready_since and time.monotonic() - self._ready_since > PROVEN
                failures = 1 if proven else failures + 1
                delay = self._bury(exit_code, failures)
                if not delay:
                    self._start_again()
            if delay:
                self._stopping.wait(delay)
                self._start_again()

    def _start_again(self) -> None:
        """A host that has no room for a process now is an engine that ends at once."""
        try:
            self._start()
        except OSError as error:
            reason = EngineUnavailable(f"the engine cannot be started ({error.strerror}); retry")
            with self._lock:
                self._state = _failed(reason)

    def _receive(self) -> None:
        """Hands on what the engine says until it ends, or is so silent that it is ended."""
        with suppress(EOFError):
            while True:
                if self._channel.silent_for(SILENCE):
                    self._process.kill()
                self._hand_on(*self._channel.receive())

    def _measure(self, measures: Measures) -> None:
        if self._stopping.is_set():
            return  # Triton waits for our end, and does not hear us any more
        try:
            self._tell(measures)
        except Exception:  # no measure is worth a song
            log.exception("the engine's measures cannot be told")

    def _reap(self) -> int:
        """The exit code of a process that has closed its channel."""
        try:
            return self._process.wait(EXIT)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()
        finally:
            self._channel.close()  # last: by now nobody can be stuck in the midst of sending

    def _hand_on(self, message: Message, payload: bytes) -> None:
        if message["kind"] == "state":
            with self._lock:
                self._state = {key: value for key, value in message.items() if key != "kind"}
                if message["state"] == "ready" and not self._ready_since:
                    self._ready_since = time.monotonic()
            return
        if message["kind"] == "measures":
            return self._measure(message["measures"])
        id = message["id"]
        with self._lock:
            listener = self._listeners.get(id)
        if not listener:
            return  # a status that was on its way when the song ended
        try:
            ended = _deliver(listener, message, payload)
        except Exception:  # what a client does not get must not cost the others their songs
            log.exception("the song cannot be delivered", extra=about(listener.request_id))
            with self._lock:
                self._dropped.add(id)  # not told here: who receives must not wait to send
            _fail(listener, GenerationFailed("the song could not be delivered; see the log"))
            ended = True
        if ended:
            with self._lock:
                del self._listeners[id]

    def _bury(self, exit_code: int, failures: int) -> float:
        """After the process's end: tells everyone why, and gives the seconds until the next."""
        if self._state["state"] == "failed":  # it said itself why
            reason = ServiceError.of(self._state["code"], self._state["message"])
            delay = min(MAX_DELAY, 2.0**failures)
        else:
            how = signal.Signals(-exit_code).name if exit_code < 0 else f"exit code {exit_code}"
            reason = EngineUnavailable(f"the engine stopped ({how}) and is started again; retry")
            delay = 0.0 if failures == 1 else min(MAX_DELAY, 2.0 ** (failures - 1))
        if not self._stopping.is_set():
            log.warning("%s", reason)
        if delay:
            self._state = _failed(reason)
        listeners, self._listeners = self._listeners, {}
        for listener in listeners.values():
            _fail(listener, reason)
        return delay

    def _watch(self) -> None:
        """Tells the engine of songs that nobody waits for any more."""
        while not self._stopping.wait(WATCH):
            with self._lock:
                listeners, channel = dict(self._listeners), self._channel
                dropped, self._dropped = self._dropped, set()
            # Again and again, until the song ends: the first time, it may not be there yet.
            dropped |= {id for id, listener in listeners.items() if listener.cancelled}
            for id in dropped:
                self._send(channel, {"kind": "cancel", "id": id})


def _failed(reason: ServiceError) -> dict[str, Any]:
    return {"state": "failed", "code": reason.code, "message": reason.message}


def _message(song: Song) -> tuple[Message, bytes]:
    """What tells the engine of a song, but for its id."""
    fields = dict(vars(song))
    codes, audio = fields.pop("codes"), fields.pop("prompt_audio")
    rows = {
        "codebooks": 0 if codes is None else len(codes),
        "channels": 0 if audio is None else len(audio),
    }
    payload = b"".join(array.tobytes() for array in (codes, audio) if array is not None)
    return {"kind": "song", "song": fields, **rows}, payload


def _deliver(listener: Listener, message: Message, payload: bytes) -> bool:
    """Gives a song's message to who waits for it; whether it was the last one."""
    if message["kind"] == "status":
        listener.status(message["status"])
        return False
    if message["kind"] == "chunk":
        channels, samples = message["channels"], message["samples"]
        audio, codes = np.split(np.frombuffer(payload, np.float32), [channels * samples])
        listener.chunk(
            audio.reshape(channels, samples),
            codes.view(np.int32).reshape(message["codebooks"], -1),
            message["sample_rate"],
            message["revision"],
            message["status"],
            message["last"],
        )
        return bool(message["last"])
    listener.error(ServiceError.of(message["code"], message["message"]))
    return True


def _fail(listener: Listener, error: ServiceError) -> None:
    try:
        listener.error(error)
    except Exception:
        extra = about(listener.request_id)
        log.exception("the client could not be told: %s", error, extra=extra)
