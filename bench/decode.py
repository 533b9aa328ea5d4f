"""Measures decoding beside audiocraft and transformers: `python -m bench.decode [--only PART]`.

A step makes the next codes of all songs. It reads each matrix once, for any number of songs (361 M
of the 420 M parameters in musicgen-small's shape; the others are embeddings, and the keys and
values of the text), and the keys and values of all earlier positions of each song, for two guidance
rows. It multiplies the matrices by two rows for each song. So a step is no faster than the memory
can be read: ours stand beside this limit. Music plays in real time at 50 steps per second.

The weights are random, in musicgen-small's exact shape. Some steps of a baseline's own `generate`
are followed by some of ours, so that other load on the machine slows both alike; medians count.
Prints tables, then one line of JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from functools import cache
from pathlib import Path
from statistics import median

import numpy as np
import torch

from bench.account import account
from bench.baselines import Audiocraft
from bench.clock import seconds
from bench.codec import codec, codec_seconds
from bench.offline import ARRIVAL_INTERVAL, Timeline, generate, steps_until_ready
from bench.report import Record, Table, hardware
from bench.small import random_codes, write_small
from bench.steps import PRECISIONS, PROMPT, contention, limits, steps
from musicgen_engine.config import ModelConfig
from musicgen_engine.core.engine import Engine
from musicgen_engine.core.loaded_model import LoadedModel
from musicgen_engine.core.queue import Queue
from musicgen_engine.core.sequence import Sequence
from protocol.constants import FRAME_RATE, SAMPLES_PER_FRAME
from protocol.prompt import WeightedText
from protocol.request import GenerationRequest


def engine(model: LoadedModel, quick: bool) -> list[Record]:
    table = Table(
        f"The whole engine, one request every {ARRIVAL_INTERVAL} s: seconds of audio per second, "
        "and seconds to the first audio"
    )
    duration, batches = (1, (1, 2, 4)) if quick else (5, (1, 2, 4, 8, 16))
    codec = codec_seconds(model.codec, random_codes(FRAME_RATE))
    for songs in batches:
        frames = duration * FRAME_RATE
        timeline = generate(
            model, [GenerationRequest(PROMPT, frames, seed=n) for n in range(songs)]
        )
        waits = timeline.waits()
        row = {
            "songs": songs,
            "audio": round(songs * duration / timeline.seconds(), 2),
            "first song": round(waits[0], 2),
            "median": round(median(waits), 2),
            "longest": round(max(waits), 2),
            "codec's share": round(songs * duration * codec / timeline.seconds(), 3),
        }
        table.add(row)
    return table.rows


def prefill(model: LoadedModel, quick: bool) -> list[Record]:
    """The cost of a song that is resumed after 28 s of codes, for running songs."""
    table = Table("A step in ms: ordinary, beside a resumed song's text, with its prefill")
    resumed = GenerationRequest(
        PROMPT, frames=1500, seed=0, codes=random_codes(1400), start=1400 * SAMPLES_PER_FRAME
    )
    for songs in (1,) if quick else (1, 4, 8):
        queue = Queue(max_queue=songs)
        engine = Engine(model, queue, Timeline())
        for id in range(songs):
            running = Sequence(id, GenerationRequest(PROMPT, frames=500, seed=id))
            queue.submit(running)
            steps_until_ready(engine, running)
        ordinary = median(seconds(engine.step) for _ in range(15))
        new = Sequence(songs, resumed)
        queue.submit(new)
        text = median(steps_until_ready(engine, new))
        prefill = median(seconds(engine.step) for _ in range(15))
        times = {"ordinary": ordinary, "text": text, "prefill": prefill}
        row = {name: round(1000 * time) for name, time in times.items()}
        table.add({"songs": songs} | row | {"ratio": round(prefill / ordinary, 2)})
    return table.rows


def blends(model: LoadedModel, quick: bool) -> list[Record]:
    """The cost of the texts of a prompt, at a position of one song."""
    table = Table("A step of one song in ms, by the texts of its prompt")
    for position in (100,) if quick else (100, 750):
        times: dict[str, float] = {}
        for texts in (1, 2, 3, 4):
            queue = Queue(max_queue=1)
            engine = Engine(model, queue, Timeline())
            blend = tuple(WeightedText(f"{PROMPT} {n}", 1.0) for n in range(texts))
            request = GenerationRequest(PROMPT, 1500, seed=0, codes=random_codes(position))
            sequence = Sequence(0, request.changed(0, {"prompt": blend}))
            queue.submit(sequence)
            while sequence.frames_done == position:
                engine.step()
            times[f"{texts}"] = median(seconds(engine.step) for _ in range(15))
        table.add({"position": position} | {n: round(1000 * t, 1) for n, t in times.items()})
    return table.rows


def parity(model: LoadedModel, folder: Path, quick: bool) -> Record:
    """The greedy codes of a song with two batch mates, compared with audiocraft's."""
    table = Table("Greedy codes of a song compared with audiocraft's")
    frames = (1 if quick else 10) * FRAME_RATE
    requests = [GenerationRequest(PROMPT, frames, seed=0, temperature=0.0)]
    requests += [GenerationRequest("loud drums", frames // 2, seed=seed) for seed in (1, 2)]
    ours, theirs = (
        generate(model, requests).codes(0),
        Audiocraft.load(folder, PROMPT).greedy(frames),
    )
    different = int((ours != theirs).sum())
    table.add({"codes": theirs.size, "values": len(np.unique(theirs)), "different": different})
    return table.rows[0]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--folder", type=Path, help="of the checkpoint, which is kept there")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parts = ("codec", "steps", "account", "engine", "blends", "prefill", "contention", "parity")
    parser.add_argument("--only", choices=parts)
    parser.add_argument("--plot", type=Path, help="an SVG file to draw the steps per second into")
    parser.add_argument("--quick", action="store_true", help="fewer and shorter measurements")
    arguments = parser.parse_args()
    only, quick = arguments.only, arguments.quick
    torch.set_num_threads(arguments.threads)
    results: Record = {
        "bench": "decode",
        "hardware": f"{hardware()}, torch {torch.__version__}",
    }
    with tempfile.TemporaryDirectory() as temporary:
        folder = (arguments.folder or Path(temporary)).resolve()
        plot = arguments.plot and arguments.plot.resolve()  # a baseline changes the directory
        write_small(folder)
        results["machine"] = limits(arguments.threads)

        @cache
        def model(precision: str) -> LoadedModel:
            config = ModelConfig(device="cpu", precision=precision, memory=0.4)
            return LoadedModel.load(folder, config)

        if only in (None, "account"):
            results["account"] = account(folder)
        if only in (None, "codec"):
            results["codec"] = codec(folder)
        if only in (None, "steps"):
            models = {name: model(name) for name in PRECISIONS}
            results["steps"] = steps(models, folder, results["machine"], quick)
            if plot:
                from bench.plot import draw

                draw(plot, results["steps"], results["hardware"])
        if only in (None, "engine"):
            results["engine"] = engine(model("int8"), quick)
        if only in (None, "blends"):
            results["blends"] = blends(model("int8"), quick)
        if only in (None, "prefill"):
            results["prefill"] = prefill(model("int8"), quick)
        if only in (None, "contention"):
            results["contention"] = contention({name: model(name) for name in PRECISIONS})
        if only in (None, "parity"):
            results["parity"] = parity(model("float32"), folder, quick)
    print("\n" + json.dumps(results))


if __name__ == "__main__":
    main()
