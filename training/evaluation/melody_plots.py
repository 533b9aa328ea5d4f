"""Draws chromagrams of melodies and songs: `python -m training.evaluation.melody_plots FILE`.

Writes a PNG file for the model card: each column of panels has a tune, and two songs that follow
it. The line is the pitch class that `following` compares.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes

from musicgen_engine.config import ModelConfig
from musicgen_engine.core.loaded_model import LoadedModel
from protocol.constants import FRAME_RATE
from protocol.request import GenerationRequest
from training.evaluation.adherence import generate
from training.evaluation.following import agreement, request
from training.evaluation.hearing import Sound, melody_classes, pitch_strengths
from training.evaluation.tunes import TUNES, whistle

SECONDS = 8
DRAWN = (0, 8, 9)  # tunes
PROMPTS = ("piano", "flute with bass and drums")
PITCH_CLASSES = ("C", "", "D", "", "E", "F", "", "G", "", "A", "", "B")


def draw_chroma(axes: Axes, sound: Sound, title: str) -> None:
    strengths = pitch_strengths(sound)
    chroma = np.stack([strengths[pitch_class::12].max(axis=0) for pitch_class in range(12)])
    extent = (0, chroma.shape[1] / FRAME_RATE, -0.5, 11.5)
    axes.imshow(chroma / chroma.max(axis=0), origin="lower", aspect="auto", extent=extent)
    classes = melody_classes(sound)
    times = np.arange(len(classes)) / FRAME_RATE
    axes.plot(times, np.where(classes < 0, np.nan, classes), ".", color="red", markersize=2)
    axes.set_yticks(range(12), PITCH_CLASSES, fontsize=6)
    axes.set_title(title, fontsize=9)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("file", type=Path)
    parser.add_argument(
        "--folder", type=Path, default=Path("model_repository/musicgen-tiny-melody/1")
    )
    arguments = parser.parse_args()
    file: Path = arguments.file.resolve()  # loading a model changes the working directory
    model = LoadedModel.load(arguments.folder.resolve(), ModelConfig())
    tunes = [whistle(TUNES[number], SECONDS) for number in DRAWN]
    guidance = GenerationRequest.cfg_coef
    songs = generate(
        model, [request(prompt, tune, 1, guidance) for prompt in PROMPTS for tune in tunes]
    )
    figure, panels = plt.subplots(1 + len(PROMPTS), len(tunes), figsize=(12, 7))
    for column, (number, tune) in enumerate(zip(DRAWN, tunes, strict=True)):
        draw_chroma(panels[0][column], tune, f"melody: {TUNES[number].name}")
        for row, prompt in enumerate(PROMPTS):
            song = songs[row * len(tunes) + column]
            title = f"{prompt}, agrees in {100 * agreement(song, tune):.0f} %"
            draw_chroma(panels[1 + row][column], song, title)
        panels[-1][column].set_xlabel("s")
    figure.tight_layout()
    figure.savefig(file, dpi=70)
    plt.close(figure)


if __name__ == "__main__":
    main()
