"""A variant that sends noise in real time, at next to no cost.

It takes the place of `musicgen_engine.stub.variant` in Triton's stub, with the same contract: one
second of mono audio at once, then one every second, and a status halfway between two. Each song is
a whole number of seconds. It cannot be cancelled: the clients of bench/streams.py read to the end.
"""

from __future__ import annotations

import threading
import time
from typing import Any

import numpy as np

from musicgen_engine.messages import (
    ChunkReport,
    DoneState,
    EngineReport,
    GeneratingState,
    ReadyState,
)
from musicgen_engine.stub import tensors, variant
from musicgen_engine.stub.response import ResponseStream
from protocol.constants import FRAME_RATE, NO_CHROMA, SAMPLE_RATE
from protocol.parser import parse_request
from protocol.tensors import VARIANT_INPUTS, from_tensors

AUDIO = np.random.default_rng(0).uniform(-1, 1, (1, SAMPLE_RATE)).astype(np.float32)
CODES = np.zeros((4, FRAME_RATE), np.int32)
MAX_SECONDS = 3600
STATE = ReadyState("noise", "cpu", "float32", "native", None, 1000, 1, 4, False, SAMPLE_RATE)
READY = EngineReport(STATE, queued=0, running=0)


class NoiseModel:
    auto_complete_config = staticmethod(variant.VariantModel.auto_complete_config)

    def execute(self, requests: list[Any]) -> None:
        for request in requests:
            inputs = tensors.inputs(request, VARIANT_INPUTS)
            response = ResponseStream(request)
            if inputs:
                response.stream = True
                song = parse_request(from_tensors(inputs), MAX_SECONDS)
                response.frames, response.seed = song.frames, song.seed
                threading.Thread(target=_stream, args=(response,), daemon=True).start()
            else:
                response.send({"STATUS": READY.json()}, last=True)


def _stream(response: ResponseStream) -> None:
    start, total = time.monotonic(), response.frames
    for frames in range(FRAME_RATE, total + 1, FRAME_RATE):
        last = frames == total
        state = DoneState(frames, total) if last else GeneratingState(frames, total)
        response.chunk(ChunkReport(0, AUDIO, CODES, NO_CHROMA, (), "noise", state, last))
        if not last:
            _sleep_until(start + (frames - FRAME_RATE / 2) / FRAME_RATE)
            response.status(state)
            _sleep_until(start + frames / FRAME_RATE)


def _sleep_until(moment: float) -> None:
    time.sleep(max(0, moment - time.monotonic()))
