"""Draws the steps per second of bench.decode."""

from __future__ import annotations

from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
from matplotlib.ticker import StrMethodFormatter

from bench.report import Record
from protocol.constants import FRAME_RATE

STYLES = {
    "int8": ("ours, int8", "tab:blue", "o"),
    "float32": ("ours, float32", "tab:cyan", "o"),
    "OpenVINO int8": ("OpenVINO, int8", "tab:purple", "s"),
    "transformers": ("transformers", "tab:orange", "^"),
    "audiocraft": ("audiocraft", "tab:red", "v"),
}


def draw(file: Path, rows: list[Record], hardware: str) -> None:
    """One panel for each position: steps per second against the number of songs."""
    positions = list(dict.fromkeys(row["position"] for row in rows))
    plt.rcParams |= {"svg.fonttype": "none", "svg.hashsalt": "decode"}  # small, and reproducible
    width = 1.5 + 3.5 * len(positions)
    figure, panels = plt.subplots(
        1, len(positions), sharey=True, squeeze=False, figsize=(width, 4), layout="constrained"
    )
    for axes, position in zip(panels[0], positions, strict=True):
        here = [row for row in rows if row["position"] == position]
        songs = [row["songs"] for row in here]
        axes.axhline(FRAME_RATE, color="black", linestyle="--", linewidth=1, label="real time")
        for name, (label, color, marker) in STYLES.items():
            if name in here[0]:
                rates = [row[name] for row in here]
                axes.plot(songs, rates, "-" + marker, color=color, label=label)
        axes.set(title=f"at position {position}", xlabel="songs", xticks=songs, yscale="log")
        axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axes.grid(alpha=0.3, which="both")
    panels[0][0].set_ylabel("steps per second of each song")
    panels[0][0].set_yticks([0.5, 1, 2, 5, 10, 20, 50, 100])
    figure.legend(*panels[0][0].get_legend_handles_labels(), loc="outside right center")
    figure.suptitle(hardware, fontsize=9)
    figure.savefig(file, metadata={"Date": None})
    plt.close(figure)
