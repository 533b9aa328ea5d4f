"""OpenVINO's int8 step in musicgen-small's shape, with OpenVINO's own cache of keys and values.

The matrices are int8 with a scale for each output; OpenVINO chooses how it multiplies by them. The
first half of the rows has the text, the second half is that of the null text, which adds nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import openvino as ov
import openvino.opset13 as op
import torch

from bench.small import SMALL
from musicgen_engine.model.positions import sinusoids
from musicgen_engine.model.sampler import Sampler
from protocol.request import GenerationRequest
from training.structure import CODEBOOKS

DIM, HEADS, CARD = SMALL.dim, SMALL.heads, SMALL.vocab_size
POSITIONS, TOKENS = 2_048, 12  # of a song, of a text
RANDOM = np.random.default_rng(0)

Node = Any


class OpenVino:
    """A Baseline."""

    def __init__(self) -> None:
        threads = torch.get_num_threads()
        options = {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY"}
        self._request: Any = ov.compile_model(_model(), "CPU", options).create_infer_request()

    def generate(self, songs: int, frames: int, steps: int, callback: Callable[[], None]) -> None:
        sampler = Sampler(songs, CODEBOOKS, CARD, torch.device("cpu"))
        for slot in range(songs):
            sampler.set_request(slot, GenerationRequest("", frames=1, seed=slot))
        cache = _random(2 * songs, HEADS, frames, DIM // HEADS)
        for state in self._request.query_state():
            state.state = ov.Tensor(cache)
        text = _random(2, songs, HEADS, TOKENS, DIM // HEADS)
        tokens, rows = np.zeros((songs, CODEBOOKS), np.int64), np.arange(2 * songs, dtype=np.int32)
        for step in range(steps):
            inputs = {"tokens": np.tile(tokens, (2, 1)), "position": [frames + step], "rows": rows}
            outputs = self._request.infer(inputs | {"keys": text[0], "values": text[1]})
            logits = torch.from_numpy(outputs[0]).view(2, songs, CODEBOOKS, CARD)
            of_songs = logits.transpose(0, 1).reshape(2 * songs, CODEBOOKS, CARD)
            tokens = sampler.sample(
                of_songs, range(songs), torch.full((songs, CODEBOOKS), step)
            ).numpy()
            callback()


def _model() -> ov.Model:
    rows, position = _input("rows", [-1], np.int32), _input("position", [1], np.int64)
    tokens = _input("tokens", [-1, CODEBOOKS], np.int64)
    text = [_input(name, [-1, HEADS, TOKENS, DIM // HEADS]) for name in ("keys", "values")]
    assigned: list[Node] = []

    def self_attention(x: Node, layer: int) -> Node:
        parts = op.split(_dense(_norm(x), DIM, 3 * DIM), 1, 3)
        queries, *new = (_heads(part) for part in parts.outputs())
        return _attention(queries, *(remember(one, f"{layer}.{n}") for n, one in enumerate(new)))

    def remember(new: Node, name: str) -> Node:
        """The keys or values of all positions: those of the cache, and the new one."""
        shape = op.concat([op.shape_of(rows), [HEADS, 0, DIM // HEADS]], 0)
        past = op.read_value(
            op.broadcast(np.float32(0), shape), name, np.float32, [-1, HEADS, -1, DIM // HEADS]
        )
        whole = op.concat([op.gather(past, rows, 0), new], 2)  # this form is known to its compiler
        assigned.append(op.assign(whole, name))
        return whole

    def cross_attention(x: Node) -> Node:
        with_text, without = op.split(x, 0, 2).outputs()
        queries = _heads(_dense(_norm(with_text), DIM, DIM))
        return op.concat([op.add(with_text, _attention(queries, *text)), without], 0)

    entries = op.add(tokens, np.arange(CODEBOOKS) * (CARD + 1))
    x = op.reduce_sum(op.gather(_random(CODEBOOKS * (CARD + 1), DIM), entries, 0), [1])
    x = op.add(x, op.gather(sinusoids(POSITIONS, DIM).numpy(), position, 0))
    for layer in range(SMALL.layers):
        x = cross_attention(op.add(x, self_attention(x, layer)))
        inner = op.gelu(_dense(_norm(x), DIM, 4 * DIM), "erf")
        x = op.add(x, _dense(inner, 4 * DIM, DIM))
    logits = _dense(_norm(x), DIM, CODEBOOKS * CARD)
    return ov.Model([op.result(logits)], assigned, [tokens, position, rows, *text])


def _attention(queries: Node, keys: Node, values: Node) -> Node:
    mixed = op.scaled_dot_product_attention(queries, keys, values, causal=False)
    joined = op.reshape(op.transpose(mixed, [0, 2, 1, 3]), [-1, DIM], False)
    return _dense(joined, DIM, DIM)


def _heads(x: Node) -> Node:
    """[rows, heads, 1, dim of a head]"""
    return op.transpose(op.reshape(x, [-1, 1, HEADS, DIM // HEADS], False), [0, 2, 1, 3])


def _dense(x: Node, inputs: int, outputs: int) -> Node:
    weights = op.constant(RANDOM.integers(-127, 128, (outputs, inputs), np.int8))
    scales = np.full((outputs, 1), 1 / (127 * inputs**0.5), np.float32)
    return op.matmul(x, op.multiply(op.convert(weights, np.float32), scales), False, True)


def _norm(x: Node) -> Node:
    normal = op.mvn(x, [1], True, 1e-5, "inside_sqrt")
    return op.add(op.multiply(normal, _random(DIM)), _random(DIM))


def _input(name: str, shape: list[int], type: Any = np.float32) -> Node:
    parameter = op.parameter(shape, type, name)
    parameter.output(0).set_names({name})
    return parameter


def _random(*shape: int) -> Any:
    return RANDOM.standard_normal(shape, np.float32)
