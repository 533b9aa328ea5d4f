"""Measures what a melody costs: `python -m bench.melody [--folder FOLDER] [--only PART]`.

The separator's weights are random, in htdemucs's exact shape; those of the model are random in
musicgen-small's shape, in int8, as a model that takes a melody. Prints tables, then one line of
JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import tempfile
from dataclasses import replace
from fractions import Fraction
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch

from bench.clock import seconds
from bench.codec import TINY_FOLDER
from bench.offline import Timeline, generate, steps_until_ready
from bench.report import Record, Table, hardware
from bench.small import write_small
from bench.steps import PROMPT
from musicgen_engine.config import ModelConfig
from musicgen_engine.core.engine import Engine, warm_up
from musicgen_engine.core.loaded_model import LoadedModel
from musicgen_engine.core.queue import Queue
from musicgen_engine.core.separator_process import SeparatorProcess
from musicgen_engine.core.sequence import Sequence
from protocol.constants import FRAME_RATE, SAMPLE_RATE, Samples
from protocol.request import GenerationRequest

HTDEMUCS: dict[str, Any] = {
    "sources": ["drums", "bass", "other", "vocals"],
    "bottom_channels": 512,
    "t_heads": 8,
}
TINY_MELODY_FOLDER = TINY_FOLDER.parents[1] / "musicgen-tiny-melody" / "1"
MELODY_SECONDS = 10
WORDS = PROMPT.split()


def write_htdemucs(file: Path) -> None:
    """Write a separator in htdemucs's shape: 42 M parameters, 84 MB."""
    from demucs.htdemucs import HTDemucs
    from safetensors.torch import save_file

    model = HTDemucs(**HTDEMUCS, segment=Fraction(39, 5))
    state = {name: value.half().contiguous() for name, value in model.state_dict().items()}
    segment = {"_type": "fraction", "numerator": 39, "denominator": 5}
    about = {
        "klass": "demucs.htdemucs.HTDemucs",
        "kwargs": json.dumps(HTDEMUCS | {"segment": segment}),
    }
    save_file(state, file, about)


def separation(folder: Path) -> list[Record]:
    table = Table("Separation: seconds, of all cores and of one, and memory of its process")
    weights = folder / "htdemucs.safetensors"
    write_htdemucs(weights)
    separator = SeparatorProcess(weights)
    for length in (1, 10, 30):
        mix = np.tile(_melody(length, seed=0), (2, 1))
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        taken = seconds(partial(separator.separate, mix, lambda: True))
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        processor = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        row = {"melody": length, "seconds": round(taken, 1), "of a core": round(processor, 1)}
        table.add(row | {"MB": after.ru_maxrss // 1024})
    return table.rows


def first_sound(models: dict[str, LoadedModel]) -> list[Record]:
    """Of single songs, one after the other, after the song with which an engine warms up."""
    table = Table("Seconds to the first sound")
    for name, model in models.items():
        warm_up(model)
        melodies = [_melody(MELODY_SECONDS, seed) for seed in range(3)]
        followed = [_following(number, melody) for number, melody in enumerate(melodies)]
        cases = {
            "first with a melody": followed[:1],
            "others with a melody": followed[1:],
            "the same again": [followed[-1]] * 2,
            "without": [GenerationRequest(_prompt(n), FRAME_RATE, seed=n) for n in range(3)],
        }
        waits = {
            case: median(generate(model, [request]).waits()[0] for request in requests)
            for case, requests in cases.items()
        }
        table.add({"model": name} | {case: round(wait, 2) for case, wait in waits.items()})
    return table.rows


def beside(model: LoadedModel, songs_running: tuple[int, ...] = (1, 4, 8)) -> list[Record]:
    """The steps of songs while another one begins to follow a melody, in a slot that no song had
    before and in one that has the null melody's positions."""
    table = Table("A step in ms: ordinary, while melody and text are encoded, with a chunk")
    warm_up(model)
    for songs in songs_running:
        queue = Queue(max_queue=songs)
        engine = Engine(model, queue, Timeline())
        running = [Sequence(n, GenerationRequest(PROMPT, 1500, seed=n)) for n in range(songs)]
        for sequence in running:
            queue.submit(sequence)
        while any(sequence.frames_done == 0 for sequence in running):
            engine.scheduler.wait()
            engine.step()
        ordinary = median(seconds(engine.step) for _ in range(15))
        row = {"songs": songs, "ordinary": ordinary}
        encoding: list[float] = []
        for number, slot in enumerate(("new slot", "used slot")):
            short = replace(_following(number, _melody(30, number)), frames=1)
            new = Sequence(songs + number, short)
            queue.submit(new)
            encoding += steps_until_ready(engine, new)
            row[slot] = median(seconds(engine.step) for _ in range(15))
            while not new.finished:
                engine.step()
        row |= {"encoding": median(encoding), "until encoded": sum(encoding) / 2}
        times = {name: round(1000 * value, 1) for name, value in row.items() if name != "songs"}
        table.add({"songs": songs} | times)
    return table.rows


def _prompt(number: int) -> str:
    return " ".join(WORDS[number % 3 :])


def _following(number: int, melody: Samples) -> GenerationRequest:
    return GenerationRequest(
        _prompt(number), FRAME_RATE, seed=number, melody=melody, separate=False
    )


def _melody(length: float, seed: int) -> Samples:
    """Notes of half a second: [1, samples]"""
    time = np.arange(round(length * SAMPLE_RATE)) / SAMPLE_RATE
    notes = np.random.default_rng(seed).integers(0, 12, int(2 * length) + 1)
    pitch = 261.63 * 2 ** (notes[(2 * time).astype(int)] / 12)
    samples: Samples = np.sin(2 * np.pi * np.cumsum(pitch) / SAMPLE_RATE).astype(np.float32)[None]
    return samples * np.float32(0.3)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--folder", type=Path, help="of the checkpoint, which is kept there")
    parser.add_argument("--only", choices=("separation", "first sound", "beside"))
    arguments = parser.parse_args()
    only = arguments.only
    torch.set_num_threads(os.cpu_count() or 1)
    results: Record = {"bench": "melody", "hardware": f"{hardware()}, torch {torch.__version__}"}
    with tempfile.TemporaryDirectory() as temporary:
        folder = (arguments.folder or Path(temporary)).resolve()
        if only in (None, "separation"):
            results["separation"] = separation(Path(temporary))
        if only in (None, "first sound", "beside"):
            write_small(folder, melody=True)
            config = ModelConfig(device="cpu", precision="int8", memory=0.4)
            small = LoadedModel.load(folder, config)
        if only in (None, "first sound"):
            tiny = LoadedModel.load(TINY_MELODY_FOLDER, ModelConfig(device="cpu"))
            results["first sound"] = first_sound({"small's shape": small, "tiny-melody": tiny})
        if only in (None, "beside"):
            results["beside"] = beside(small)
    print("\n" + json.dumps(results))


if __name__ == "__main__":
    main()
