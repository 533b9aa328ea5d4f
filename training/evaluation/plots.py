"""Draws spectrograms and chromagrams of generated songs: `python -m training.evaluation.plots OUT`.

Writes PNG files for the model card: six songs of 10 s, one of 60 s from windows of 30 s, and one of
three sections.
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
from protocol.constants import FRAME_RATE, SAMPLE_RATE
from protocol.request import GenerationRequest
from protocol.section import Section
from training.evaluation.adherence import generate
from training.evaluation.hearing import Sound, hertz, pitch_classes, spectrogram

PROMPTS = (
    "slow sad piano with soft drums",
    "fast happy guitar",
    "calm strings in a major key",
    "epic brass with loud drums",
    "low bass",
    "flûte rapide et joyeuse",
)
SECTIONS = ("slow calm piano in a major key", "fast loud drums", "sad strings in a minor key")
SHORT, LONG = 10, 60  # seconds
PITCH_CLASSES = ("C", "", "D", "E♭", "E", "F", "", "G", "A♭", "A", "B♭", "B")
SIZE, HOP = 2_048, 640  # samples of a window of the spectrogram, and between windows
HIGHEST = 4_000  # Hz
CHROMA = SAMPLE_RATE // 2  # samples of a window of the chromagram


def draw_spectrum(axes: Axes, sound: Sound) -> None:
    amplitudes = spectrogram(sound, SIZE, HOP)[:, hertz(SIZE) <= HIGHEST]
    level = 20 * np.log10(amplitudes.T / amplitudes.max() + 1e-6)
    extent = (0, len(sound) / SAMPLE_RATE, 0, HIGHEST / 1_000)
    axes.imshow(level, origin="lower", aspect="auto", vmin=-70, vmax=0, extent=extent)
    axes.set_ylabel("kHz")


def draw_chroma(axes: Axes, sound: Sound) -> None:
    starts = range(0, len(sound) - CHROMA + 1, CHROMA)
    classes = np.stack([pitch_classes(sound[start : start + CHROMA]) for start in starts])
    extent = (0, len(sound) / SAMPLE_RATE, -0.5, 11.5)
    axes.imshow(classes.T, origin="lower", aspect="auto", extent=extent)
    axes.set_yticks(range(12), PITCH_CLASSES, fontsize=6)
    axes.set_xlabel("s")


def draw(file: Path, titles: list[str], sounds: list[Sound], columns: int) -> None:
    rows = -(-len(sounds) // columns)
    figure, panels = plt.subplots(2 * rows, columns, figsize=(12, 4 * rows), squeeze=False)
    for number, (title, sound) in enumerate(zip(titles, sounds, strict=True)):
        row, column = divmod(number, columns)
        panels[2 * row][column].set_title(title, fontsize=9)
        draw_spectrum(panels[2 * row][column], sound)
        draw_chroma(panels[2 * row + 1][column], sound)
    figure.tight_layout()
    figure.savefig(file, dpi=70)
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("out", type=Path, help="folder for the PNG files")
    parser.add_argument("--folder", type=Path, default=Path("model_repository/musicgen-tiny/1"))
    arguments = parser.parse_args()
    out: Path = arguments.out.resolve()  # loading a model changes the working directory
    model = LoadedModel.load(arguments.folder.resolve(), ModelConfig())
    out.mkdir(parents=True, exist_ok=True)
    requests = [GenerationRequest(prompt, SHORT * FRAME_RATE, seed=1) for prompt in PROMPTS]
    requests.append(GenerationRequest(PROMPTS[0], LONG * FRAME_RATE, seed=1))
    sections = tuple(Section(prompt, SHORT * FRAME_RATE) for prompt in SECTIONS)
    frames = sum(section.frames for section in sections)
    requests.append(GenerationRequest(SECTIONS[0], frames, seed=1, sections=sections))
    *short, long, changing = generate(model, requests)
    draw(out / "musicgen-tiny.png", list(PROMPTS), short, columns=3)
    draw(out / "musicgen-tiny-60s.png", [f"{PROMPTS[0]}, {LONG} s"], [long], columns=1)
    title = " | ".join(f"{prompt}, {SHORT} s" for prompt in SECTIONS)
    draw(out / "musicgen-tiny-sections.png", [title], [changing], columns=1)


if __name__ == "__main__":
    main()
