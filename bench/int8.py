"""Measures what int8 costs: `python -m bench.int8 [--folder FOLDER]`.

Logits in musicgen-small's shape on random weights and random codes, also with planted outlier
channels (norms a hundred times as large, as checkpoints of a billion parameters have them): the
error relative to float32, and the Kullback-Leibler divergence of the probabilities after guidance.
Songs of musicgen-tiny with one seed: how long both precisions make the same codes, and how far
apart their spectra are, beside two songs of float32 with different seeds. Prints tables, then one
line of JSON.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from statistics import mean, median

import numpy as np
import torch
from torch import Tensor

from bench.offline import Timeline, generate
from bench.report import Record, Table, hardware
from bench.small import write_small
from musicgen_engine.config import ModelConfig
from musicgen_engine.core import checkpoint
from musicgen_engine.core.loaded_model import LoadedModel
from musicgen_engine.model.backend import Backend, ModelInput
from musicgen_engine.model.backend_loader import BACKENDS
from musicgen_engine.model.guidance import combine
from musicgen_engine.model.transformer import LayerWeights
from protocol.constants import FRAME_RATE, Samples
from protocol.request import GenerationRequest

TINY = Path("model_repository/musicgen-tiny/1")
PROMPTS = ("calm piano", "fast happy drums", "sad strings in minor", "a flute over soft drums")
SECONDS = 10
POSITIONS = 64
OUTLIERS = (17, 230, 801)  # channels
PRECISIONS = (torch.float32, torch.int8)


def logits(folder: Path) -> list[Record]:
    table = Table("Logits in int8 against float32, musicgen-small's shape, random weights")
    for outliers in (False, True):
        exact, coarse = (_guided(folder, precision, outliers) for precision in PRECISIONS)
        error = float((coarse - exact).norm() / exact.norm())
        log_exact, log_coarse = exact.log_softmax(-1), coarse.log_softmax(-1)
        divergence = (log_exact.exp() * (log_exact - log_coarse)).sum(-1).mean()
        table.add(
            {
                "outlier channels": "yes" if outliers else "no",
                "relative error": round(error, 4),
                "divergence after guidance": round(float(divergence), 5),
            }
        )
    return table.rows


def _guided(folder: Path, precision: torch.dtype, outliers: bool) -> Tensor:
    """[positions, codebooks, vocab_size]"""
    parts = checkpoint.load(folder, torch.device("cpu"))
    weights, conditioning = parts.weights, parts.text.encode(PROMPTS[0])
    layers = list(weights.layers)
    if outliers:
        layers = [_with_outliers(layer) for layer in layers]
    whole = replace(weights, layers=layers)
    backend: Backend = BACKENDS["native"](whole, 1, POSITIONS, torch.device("cpu"), precision)
    backend.set_conditioning(0, conditioning)
    random = np.random.default_rng(0)
    tokens = random.integers(0, weights.config.vocab_size, (weights.config.codebooks, POSITIONS))
    rows = []
    for position in range(POSITIONS):
        here = tokens[:, [position]]
        one = ModelInput.of(here, [0], start=position)
        rows.append(combine(backend.forward(one), [2], torch.tensor([[3.0]])))
    return torch.cat(rows)


def _with_outliers(layer: LayerWeights) -> LayerWeights:
    weight = layer.norm_ffn[0].detach().float().clone()
    weight[[*OUTLIERS]] *= 100
    ffn_in = layer.ffn_in.detach().float().clone()
    ffn_in[:, [*OUTLIERS]] /= 100  # a trained matrix makes up for them
    return LayerWeights(
        layer.self_attention,
        layer.cross_attention,
        (weight, layer.norm_ffn[1]),
        ffn_in,
        layer.ffn_out,
    )


def songs() -> list[Record]:
    table = Table(f"Songs of musicgen-tiny in int8 and float32, {SECONDS} s, one seed each")
    requests = [
        GenerationRequest(prompt, SECONDS * FRAME_RATE, seed=seed)
        for prompt in PROMPTS
        for seed in (1, 2)
    ]
    folder = TINY.resolve()
    exact, coarse = (
        generate(LoadedModel.load(folder, ModelConfig(precision=name)), requests)
        for name in ("float32", "int8")
    )
    ids = range(len(requests))
    agreement = [_agreeing(exact, coarse, id) for id in ids]
    audio = [exact.audio(id)[0] for id in ids]
    others = [distance(one, other) for one, other in list(pairwise(audio))[::2]]  # two seeds each
    table.add(
        {
            "the same codes for (s): median": round(median(agreement), 1),
            "shortest": round(min(agreement), 1),
            "spectra apart (dB), int8": round(
                mean(distance(audio[id], coarse.audio(id)[0]) for id in ids), 1
            ),
            "another seed": round(mean(others), 1),
        }
    )
    return table.rows


def _agreeing(exact: Timeline, coarse: Timeline, id: int) -> float:
    """Seconds until the first code that differs."""
    differ = (exact.codes(id) != coarse.codes(id)).any(axis=0)
    return float(np.argmax(differ) if differ.any() else len(differ)) / FRAME_RATE


def distance(one: Samples, other: Samples) -> float:
    """The mean difference of the long-term spectra of two songs, in dB by third of an octave."""

    def spectrum(samples: Samples) -> Samples:
        pieces = samples[: len(samples) // 4096 * 4096].reshape(-1, 4096) * np.hanning(4096)
        power = (np.abs(np.fft.rfft(pieces, axis=1)) ** 2).mean(axis=0)
        edges = np.unique((8 * 2 ** (np.arange(25) / 3)).astype(int))
        edges = edges[edges < len(power)]
        bands = [power[a:b].mean() + 1e-9 for a, b in pairwise(edges)]
        return np.asarray(10 * np.log10(bands), np.float32)

    return float(np.abs(spectrum(one) - spectrum(other)).mean())


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--folder", type=Path, help="of the checkpoint, which is kept there")
    arguments = parser.parse_args()
    results: Record = {"bench": "int8", "hardware": hardware()}
    results["songs"] = songs()
    with tempfile.TemporaryDirectory() as temporary:
        folder = (arguments.folder or Path(temporary)).resolve()
        write_small(folder)
        results["logits"] = logits(folder)
    print("\n" + json.dumps(results))


if __name__ == "__main__":
    main()
