"""The engine process as its stub sees it: started, watched and started again.

    loading ─→ ready
       ↑         │      the process ends: every request in progress fails at once
       └─ delay ←┘      (none the first time, then 2, 4, 8 … 60 s)

During a delay the engine is `failed`, with the reason, and new requests are refused.
"""

from __future__ import annotations

import itertools
import logging
import multiprocessing
import signal
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Protocol, TypeAlias

from musicgen_engine.channel import Channel
from musicgen_engine.logs import about
from musicgen_engine.messages import (
    Cancel,
    Change,
    ChangeReport,
    ChunkReport,
    Command,
    EngineReport,
    FailedState,
    FailureReport,
    LoadingState,
    MetricsReport,
    ReadyState,
    SequenceReport,
    SequenceState,
    Submit,
)
from musicgen_engine.metrics import GAUGES
from musicgen_engine.stub.fork_server import ForkServer
from musicgen_engine.threads import start_essential
from protocol.errors import EngineUnavailable, GenerationFailed, ServiceError, SongEnded
from protocol.request import GenerationRequest

STABLE = 10.0  # seconds of being ready after which a death counts as the first
SILENCE = 120.0  # seconds without a message (one comes every second) that mean a hung engine
EXIT = 2.0  # seconds for an engine to end after it has closed the channel
MAX_DELAY = 60.0  # seconds between two starts
CANCEL_INTERVAL = 0.2  # seconds between two looks for cancelled requests

Values: TypeAlias = tuple[tuple[str, Any], ...]  # attributes of a section

log = logging.getLogger("engine")


class Sink(Protocol):
    """Gets everything about one request to its end; `error` is an end."""

    @property
    def request_id(self) -> str: ...

    @property
    def cancelled(self) -> bool: ...

    def error(self, error: ServiceError) -> None: ...


class ResponseSink(Sink, Protocol):
    """That of a song. The last chunk is an end, too."""

    def status(self, state: SequenceState) -> None: ...

    def chunk(self, chunk: ChunkReport) -> None: ...


class ChangeSink(Sink, Protocol):
    """That of a change of a song."""

    def changed(self, report: ChangeReport) -> None:
        """The end."""


class EngineProcess:
    """`server` forks it with `arguments`. `on_metrics` gets the metrics: gauges as they are,
    counters as what was added."""

    def __init__(
        self,
        server: ForkServer,
        arguments: Sequence[str],
        on_metrics: Callable[[Mapping[str, float]], None],
    ) -> None:
        self._server = server
        self._arguments = arguments
        self._on_metrics = on_metrics
        self._ids = itertools.count(1)
        self._lock = threading.RLock()  # guards all below
        self._sinks: dict[int, Any] = {}  # a Sink for each request
        self._undeliverable: set[int] = set()  # requests whose sinks failed
        self._report = EngineReport(LoadingState(), queued=0, running=0)
        self._ready_since: float | None = None
        self._stopping = threading.Event()
        self._start()
        work = (self._supervise, self._forward_cancellations)
        self._threads = [start_essential(target) for target in work]

    def submit(self, request: GenerationRequest, sink: ResponseSink) -> None:
        """Hand the request over; `sink` gets its end exactly once.

        Raises:
            ServiceError: why the engine, which failed, is not running now.
        """
        id, channel = self._register(sink)
        self._send(channel, Submit(id, sink.request_id, request))

    def change(self, song: ResponseSink, values: Values, sink: ChangeSink) -> None:
        """Change the song of a request in progress; `sink` gets its end exactly once.

        Raises:
            SongEnded: the request has ended.
        """
        with self._lock:
            found = next((id for id, one in self._sinks.items() if one is song), None)
        if found is None:
            raise SongEnded("The song has ended.")
        id, channel = self._register(sink)
        self._send(channel, Change(id, found, values))

    def _register(self, sink: Sink) -> tuple[int, Channel]:
        """The id of a new request, and the channel to send it on: outside the lock, for the engine
        may be busy sending before it receives."""
        with self._lock:
            if isinstance(self._report.state, FailedState):
                raise self._report.state.error
            id = next(self._ids)
            self._sinks[id] = sink
            return id, self._channel

    def report(self) -> EngineReport:
        with self._lock:
            return self._report

    def stop(self) -> None:
        """End the engine process; requests in progress fail."""
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
                self._process = self._server.fork(self._arguments, theirs.fileno())
            self._report = EngineReport(LoadingState(), queued=0, running=0)

    def _send(self, channel: Channel, message: Command) -> None:
        with suppress(OSError):  # it has just died, and `_supervise` is about to fail every request
            channel.send(message)

    def _supervise(self) -> None:
        failures = 0
        while not self._stopping.is_set():
            self._receive()
            exit_code = self._reap()
            self._update_metrics(dict.fromkeys(GAUGES, 0))
            with self._lock:
                stable = self._ready_since and time.monotonic() - self._ready_since > STABLE
                failures = 1 if stable else failures + 1
                delay = self._fail_all(exit_code, failures)
                if not delay:
                    self._start_again()
            if delay:
                self._stopping.wait(delay)
                self._start_again()

    def _start_again(self) -> None:
        """An engine that cannot be started, for want of memory perhaps, counts as one that ends at
        once."""
        try:
            self._start()
        except OSError as error:
            reason = EngineUnavailable(f"the engine cannot be started ({error.strerror}); retry")
            with self._lock:
                self._report = EngineReport(FailedState.of(reason), queued=0, running=0)

    def _receive(self) -> None:
        """Dispatch messages until the engine ends, or is silent for so long that it is killed. One
        that cannot be understood ends, too: this process must not."""
        try:
            while True:
                if self._channel.silent_for(SILENCE):
                    self._process.kill()
                self._dispatch(self._channel.receive())
        except EOFError:
            pass
        except Exception:
            log.exception("the engine's message cannot be understood")
            self._process.kill()

    def _dispatch(self, message: object) -> None:
        if isinstance(message, EngineReport):
            with self._lock:
                self._report = message
                if isinstance(message.state, ReadyState) and not self._ready_since:
                    self._ready_since = time.monotonic()
        elif isinstance(message, MetricsReport):
            self._update_metrics(message.values)
        elif isinstance(message, SequenceReport | ChunkReport | ChangeReport | FailureReport):
            with self._lock:
                sink = self._sinks.get(message.id)
            if sink:  # else a report was on its way when the request ended
                self._deliver(sink, message)

    def _deliver(
        self,
        sink: Any,
        message: SequenceReport | ChunkReport | ChangeReport | FailureReport,
    ) -> None:
        try:
            if isinstance(message, SequenceReport):
                sink.status(message.state)
                return
            if isinstance(message, ChunkReport):
                sink.chunk(message)
                if not message.last:
                    return
            elif isinstance(message, ChangeReport):
                sink.changed(message)
            else:
                sink.error(message.reason.error)
        except Exception as error:  # an undeliverable request must not cost the others theirs
            if not isinstance(error, ServiceError):
                log.exception("the song cannot be delivered", extra=about(sink.request_id))
                error = GenerationFailed("the song could not be delivered; try again")
            with self._lock:
                self._undeliverable.add(message.id)  # the thread that receives must not send
            _fail(sink, error)
        with self._lock:
            del self._sinks[message.id]

    def _update_metrics(self, values: Mapping[str, float]) -> None:
        if self._stopping.is_set():
            return  # Triton waits for this process to end and does not answer any more
        try:
            self._on_metrics(values)
        except Exception:  # metrics must not cost a request
            log.exception("the engine's metrics cannot be updated")

    def _reap(self) -> int | None:
        """The exit code of a process that has closed its channel."""
        try:
            return self._process.wait(EXIT)
        except TimeoutError:
            self._process.kill()
            return self._process.wait()
        finally:
            self._channel.close()  # last: by now no thread can be in the middle of sending

    def _fail_all(self, exit_code: int | None, failures: int) -> float:
        """Fail all requests of the ended process. Return the seconds until the next start."""
        if isinstance(self._report.state, FailedState):  # the engine said itself why
            reason = self._report.state.error
            delay = min(MAX_DELAY, 2.0**failures)
        else:
            how = _describe(exit_code)
            reason = EngineUnavailable(f"the engine stopped ({how}) and is started again; retry")
            delay = 0.0 if failures == 1 else min(MAX_DELAY, 2.0 ** (failures - 1))
        if not self._stopping.is_set():
            log.warning("%s", reason)
        if delay:
            self._report = EngineReport(FailedState.of(reason), queued=0, running=0)
        sinks, self._sinks = self._sinks, {}
        for sink in sinks.values():
            _fail(sink, reason)
        return delay

    def _forward_cancellations(self) -> None:
        """Tell the engine of requests whose clients have gone."""
        while not self._stopping.wait(CANCEL_INTERVAL):
            with self._lock:
                sinks, channel = dict(self._sinks), self._channel
                cancelled, self._undeliverable = self._undeliverable, set()
            # Again and again until the request ends: it may not have reached the engine yet.
            cancelled |= {id for id, sink in sinks.items() if sink.cancelled}
            for id in cancelled:
                self._send(channel, Cancel(id))


def _describe(exit_code: int | None) -> str:
    if exit_code is None:
        return "the fork server failed"
    return signal.Signals(-exit_code).name if exit_code < 0 else f"exit code {exit_code}"


def _fail(sink: Sink, error: ServiceError) -> None:
    try:
        sink.error(error)
    except Exception:
        extra = about(sink.request_id)
        log.exception("the client did not get the error: %s", error, extra=extra)
