"""Measures and draws the seam of loops: `python -m training.evaluation.seam OUT.png`.

Plays each loop twice in a row. The spectral flux and the steps of level at its seam are compared
with those at all other places, the onsets after it with those before it. The same songs, cut out
without a blend, show that the measures hear a seam. Prints a Markdown table.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np

from gateway.audio.loop import BLEND, Loop
from musicgen_engine.config import ModelConfig
from musicgen_engine.core.loaded_model import LoadedModel
from protocol.constants import FRAME_RATE, SAMPLE_RATE
from protocol.request import GenerationRequest
from training.evaluation.adherence import generate
from training.evaluation.hearing import Floats, Sound, spectrogram

PROMPTS = (
    "calm piano",
    "slow flute and guitar",
    "sad strings",
    "organ and guitar",
    "epic brass, loud drums",
    "happy synth with drums",
)
SECONDS = 8
SIZE, HOP = 512, 160  # samples of a short window: 16 ms; between windows: 5 ms
QUARTER = SAMPLE_RATE // 4  # samples on each side of a step of level
NEAR = SAMPLE_RATE // 20  # samples after a seam that belong to it
DRAWN = 1.5  # seconds on each side of a seam


def looped(song: Sound, samples: int, lead: int = SAMPLE_RATE) -> Sound:
    """The gateway's loop of a song."""
    return np.asarray(Loop(samples, lead)(song[None])[0])


def flux(sound: Sound) -> Floats:
    """The rises of the spectrum, every HOP samples."""
    levels = np.log1p(1_000 / SIZE * spectrogram(sound, SIZE, HOP))
    return np.asarray(np.maximum(np.diff(levels, axis=0, prepend=levels[:1]), 0).sum(axis=1))


def level_steps(sound: Sound) -> Floats:
    """The change of level (dB) between the quarters of a second before and after, every HOP."""
    energy = np.pad(
        np.square(sound, dtype=np.float64).cumsum(), (QUARTER + 1, QUARTER), mode="edge"
    )
    quarters = 10 * np.log10((energy[QUARTER:] - energy[:-QUARTER]) / QUARTER + 1e-7)
    return np.asarray(np.abs(quarters[QUARTER:] - quarters[:-QUARTER])[::HOP])


def seam(loop: Sound) -> tuple[float, float]:
    """The most flux and the largest step of level at the seam of a loop, played twice in a row, as
    shares of the most and the largest elsewhere."""
    twice = np.concatenate([loop, loop])
    places = np.arange(0, len(twice), HOP)
    round_the_seam = np.abs(places - len(loop)) <= len(loop) // 2  # each place of the loop once
    at_seam = (places >= len(loop) - BLEND - NEAR) & (places <= len(loop) + NEAR)
    shares = []
    for measure in (flux, level_steps):
        values = measure(twice)[: len(places)]
        elsewhere = values[round_the_seam & ~at_seam]
        shares.append(float(values[at_seam].max() / elsewhere.max()))
    return shares[0], shares[1]


def beat_kept(loop: Sound, bpm: float) -> float:
    """How alike the onsets of two beats on both sides of the seam are, -1 to 1."""
    beats = round(2 * 60 / bpm * SAMPLE_RATE / HOP)
    place, onsets = len(loop) // HOP, flux(np.concatenate([loop, loop]))
    before = onsets[place - beats : place]
    later = [onsets[place + shift :][:beats] for shift in range(-3, 4)]
    return float(max(np.corrcoef(before, after)[0, 1] for after in later))


def draw(file: Path, titles: list[str], loops: list[Sound]) -> None:
    figure, panels = plt.subplots(len(loops), figsize=(8, 2.4 * len(loops)), squeeze=False)
    for (axes,), title, loop in zip(panels, titles, loops, strict=True):
        half = round(DRAWN * SAMPLE_RATE)
        amplitudes = spectrogram(np.concatenate([loop[-half:], loop[:half]]), SIZE, HOP)[1:-2]
        level = 20 * np.log10(amplitudes.T / amplitudes.max() + 1e-6)
        extent = (-DRAWN, DRAWN, 0, SAMPLE_RATE / 2_000)
        axes.imshow(level, origin="lower", aspect="auto", vmin=-90, vmax=0, extent=extent)
        axes.set_ylabel("kHz")
        axes.set_title(title, fontsize=9)
    panels[-1][0].set_xlabel("s after the beginning")
    figure.tight_layout()
    figure.savefig(file, dpi=70)
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("out", type=Path, help="PNG file")
    parser.add_argument("--folder", type=Path, default=Path("model_repository/musicgen-tiny/1"))
    parser.add_argument("--seeds", type=int, default=4, help="songs of each prompt")
    arguments = parser.parse_args()
    out: Path = arguments.out.resolve()  # loading a model changes the working directory
    model = LoadedModel.load(arguments.folder.resolve(), ModelConfig())
    wanted = [(prompt, seed) for prompt in PROMPTS for seed in range(arguments.seeds)]
    frames = (SECONDS + 1) * FRAME_RATE
    songs = generate(model, [GenerationRequest(text, frames, seed=seed) for text, seed in wanted])
    samples = SECONDS * SAMPLE_RATE
    blended = [looped(song, samples) for song in songs]
    cut = [song[SAMPLE_RATE:] for song in songs]
    print("| loops | more flux at the seam than anywhere else | a larger step of level |")
    print("| --- | --- | --- |")
    for name, loops in (("blended", blended), ("cut", cut)):
        shares = np.array([seam(loop) for loop in loops])
        worse = [f"{count} of {len(loops)}" for count in (shares > 1).sum(axis=0)]
        print(f"| {name} | {' | '.join(worse)} |")
    worst = int(np.argmax([seam(loop)[0] for loop in cut]))
    titles = [f"{wanted[worst][0]}, {kind}" for kind in ("blended", "cut")]
    draw(out, titles, [blended[worst], cut[worst]])


if __name__ == "__main__":
    main()
