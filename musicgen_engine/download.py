"""`python -m musicgen_engine.download MODEL...` downloads weights ahead of the first request."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from musicgen_engine.hub import fetch, fetch_separator, resolve
from musicgen_engine.repository import Repository
from protocol.errors import WeightsMissing

PROJECT = Path(__file__).resolve().parent.parent


def download(names: Sequence[str], folder: Path) -> None:
    """Download the weights of models in the repository `folder`, and show the progress.

    Raises:
        ValueError: there is no such folder, or no such model; it names the ones there are.
        WeightsMissing: it says why the weights cannot be downloaded.
    """
    try:
        variants = {variant.name: variant for variant in Repository(folder).variants()}
    except OSError:
        problem = f"MODEL_REPOSITORY={folder} is wrong: give a folder of models that may be read"
        raise ValueError(problem) from None
    if not names or not variants.keys() >= set(names):
        raise ValueError(f"MODEL={' '.join(names)} is wrong: give one of {', '.join(variants)}")
    for name in names:
        variant = variants[name]
        print(f"{name}: weights under {variant.license}", flush=True)
        weights = fetch(resolve(variant.checkpoint, folder / name / "1"), _show)
        fetch_separator(weights, _show)
        print(f"\r{name}: all here".ljust(40), flush=True)


def _show(done: int, total: int | None) -> None:
    of_all = f" of {total / 1e6:,.0f}" if total else ""
    print(f"\r  {done / 1e6:,.0f}{of_all} MB", end="", flush=True)


if __name__ == "__main__":
    try:
        folder = os.environ.get("MODEL_REPOSITORY") or PROJECT / "model_repository"
        download(sys.argv[1:], Path(folder))
    except (ValueError, WeightsMissing) as error:
        sys.exit(str(error))
