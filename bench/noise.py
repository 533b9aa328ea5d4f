"""A variant that plays noise at the pace of real time, and costs next to nothing.

Behind Triton's stub in place of `musicgen_engine.stub.variant`, by the same contract: a second of
mono at once, then one each second, and in between how the song fares. Every song is a whole number
of seconds. No song is cancelled: the listeners of bench/streams.py hear theirs to the end.
"""

from __future__ import annotations

import threading
import time
from typing import Any

import numpy as np

from musicgen_engine import triton_model
from musicgen_engine.stub import tensors
from protocol.request import FRAME_RATE, SAMPLE_RATE, Song

AUDIO = np.random.default_rng(0).uniform(-1, 1, (1, SAMPLE_RATE)).astype(np.float32)
CODES = np.zeros((4, FRAME_RATE), np.int32)
MAX_SECONDS = 3600
READY = {"state": "ready", "queued": 0, "running": 0}


class TritonPythonModel:
    auto_complete_config = staticmethod(triton_model.TritonPythonModel.auto_complete_config)

    def execute(self, requests: list[Any]) -> None:
        for request in requests:
            inputs = tensors.values(request)
            if inputs:
                song = Song.parse(inputs, MAX_SECONDS)
                reply = triton_model.Reply(request, song.frames, song.seed, stream=True)
                threading.Thread(target=_play, args=(song, reply), daemon=True).start()
            else:
                tensors.send(request.get_response_sender(), {"STATUS": READY}, last=True)


def _play(song: Song, reply: triton_model.Reply) -> None:
    began = time.monotonic()
    for frames in range(FRAME_RATE, song.frames + 1, FRAME_RATE):
        last = frames == song.frames
        status = {"state": "done" if last else "generating", "frames": frames}
        reply.chunk(AUDIO, CODES, SAMPLE_RATE, "noise", status, last)
        if not last:
            _sleep_until(began + (frames - FRAME_RATE / 2) / FRAME_RATE)
            reply.status(status)
            _sleep_until(began + frames / FRAME_RATE)


def _sleep_until(moment: float) -> None:
    time.sleep(max(0, moment - time.monotonic()))
