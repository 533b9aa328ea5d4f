"""A fork server whose engines have no model and start at once.

    python tests/musicgen_engine/stub/fake_engine.py LISTENER OWNER

An engine's argument says whether it serves, fails or crashes.
The prompt of a request says what the engine does with it. Its audio is as long as START, and its
codes are those of the request.
"""

from __future__ import annotations

import os
import socket
import sys
import time
from multiprocessing.connection import Connection

import numpy as np

from musicgen_engine.channel import Channel
from musicgen_engine.core.fork_server import ForkLoop
from musicgen_engine.messages import (
    Cancel,
    ChunkReport,
    DoneState,
    EngineReport,
    FailedState,
    FailureReport,
    GeneratingState,
    MetricsReport,
    QueuedState,
    ReadyState,
    SequenceReport,
)
from protocol.constants import NO_CHROMA
from protocol.errors import Cancelled, WeightsMissing
from protocol.request import GenerationRequest

LARGE = 10_000_000  # bytes: more than any buffer between two processes

BABBLE = (  # what an engine says that is no message
    "{",
    '{"$type": "Unknown"}',
    '{"$type": "MetricsReport"}',
    '{"$type": "MetricsReport", "values": {"$array": "<f4", "shape": [9]}}',
    "\N{SNOWMAN}",
)


def engine(arguments: list[str], file: int) -> None:
    connection = Connection(file)
    channel = Channel(connection)
    [mode] = arguments
    if mode == "fail":
        failed = FailedState.of(WeightsMissing("none"))
        return channel.send(EngineReport(failed, queued=0, running=0))
    if mode == "crash":
        sys.exit(3)
    pids = f"{os.getpid()} {os.getppid()}"
    ready = ReadyState(pids, "cpu", "float32", "packed", None, 16, 2, 4, False, 32_000)
    channel.send(EngineReport(ready, queued=0, running=0))
    deaf: set[int] = set()
    while True:
        try:
            message = channel.receive()
        except EOFError:
            return
        id = message.id
        if isinstance(message, Cancel):
            if id in deaf:
                deaf.remove(id)
            else:
                channel.send(FailureReport(id, FailedState.of(Cancelled("stopped"))))
            continue
        request: GenerationRequest = message.request
        if request.prompt == "die":
            os.abort()
        elif request.prompt in BABBLE:
            connection.send_bytes(request.prompt.encode())
            connection.send_bytes(b"")
        elif request.prompt == "hear late":
            deaf.add(id)
        elif request.prompt in ("play", "play long"):
            if request.prompt == "play long":
                time.sleep(0.5)  # meanwhile the next request fills the channel
            channel.send(MetricsReport({"running": 1, "steps": 7}))
            channel.send(SequenceReport(id, GeneratingState(3, len(message.request_id))))
            audio = np.ones((2, request.start), np.float32)
            codes = np.zeros((4, 0), np.int32) if request.codes is None else request.codes
            done = DoneState(request.frames, request.frames)
            channel.send(ChunkReport(id, audio, codes, NO_CHROMA, (), "abc", done, last=True))
            late = SequenceReport(id, QueuedState(1))
            channel.send(late)
            if request.prompt == "play long":
                long = np.zeros((1, LARGE // 4), np.float32)
                channel.send(ChunkReport(id, long, codes, NO_CHROMA, (), "abc", done, last=True))


if __name__ == "__main__":
    listener, owner = map(int, sys.argv[1:])
    ForkLoop(socket.socket(fileno=listener), owner, engine).run()
