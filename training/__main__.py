"""Trains musicgen-tiny from nothing.

    python -m training FOLDER

Composes and plays the training songs, fits a codec to them, encodes them, and trains the codec's
decoder and the language model. Each stage saves a file in FOLDER and is skipped where its file
exists, so a stopped run resumes. The checkpoint is written to FOLDER/checkpoint.
"""

import argparse
import json
import shutil
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from training import (
    changes,
    codec,
    data,
    language_model,
    quantizer,
    reconstruction,
    trainer,
    transform,
)
from training.checkpoint import CODEC, LM, export, save_atomically, write_text_encoder
from training.quantizer import PARTS
from training.structure import TINY, lm_config

TRANSFORM_SONGS, CODEBOOK_SONGS = 200, 300  # songs that transform and codebooks are fitted to


def fit_codec(file: Path) -> tuple[transform.Transform, Tensor]:
    """The linear codec and its codebooks."""
    if not file.exists():
        print(f"codec: composes {CODEBOOK_SONGS} songs and fits the codec to them", flush=True)
        songs = torch.stack([data.audio(number) for number in range(TRANSFORM_SONGS)])
        fitted = transform.fit(songs, TINY.codec_dim)
        parts = [data.parts(number) for number in range(CODEBOOK_SONGS)]
        features = {part: torch.cat([fitted(song[part]) for song in parts]) for part in PARTS}
        codebooks = quantizer.fit(features, TINY.vocab_size, data.FIRST_POSITION_CODE)
        state = {
            "analysis": fitted.analysis,
            "synthesis": fitted.synthesis,
            "codebooks": codebooks,
        }
        save_atomically(state, file)
    saved = torch.load(file, weights_only=True)
    return transform.Transform(saved["analysis"], saved["synthesis"]), saved["codebooks"]


def encode_songs(file: Path, fitted: transform.Transform, codebooks: Tensor) -> Tensor:
    """int16 [songs, codebooks, frames]"""
    if not file.exists():
        codes = []
        for song in data.encode_songs(data.SONGS, fitted, codebooks):
            codes.append(song)
            if len(codes) % 200 == 0:
                print(f"data: {len(codes)} of {data.SONGS} songs encoded", flush=True)
        save_atomically(torch.stack(codes), file)
    saved: Tensor = torch.load(file, weights_only=True)
    return saved


def export_checkpoint(folder: Path, work: Path, trained_codec: Any, lm: Any) -> None:
    """Writes the checkpoint as audiocraft releases one, with the text encoder beside it."""
    folder.mkdir(exist_ok=True)
    export(folder / CODEC, codec.config(), trained_codec.cpu().state_dict())
    export(folder / LM, lm_config(TINY, channels=1), lm.state_dict())
    shutil.copytree(work / TINY.text_encoder, folder / TINY.text_encoder, dirs_exist_ok=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("folder", type=Path)
    folder: Path = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    fitted, codebooks = fit_codec(folder / "codec.pt")
    codes = encode_songs(folder / "codes.pt", fitted, codebooks)
    trained_codec = codec.build(fitted, codebooks)
    reconstruction.train(trained_codec, codes, codebooks, folder / "decoder.pt", device)
    if not (folder / TINY.text_encoder).exists():
        write_text_encoder(folder, TINY)
    start = folder / "language_model.pt"
    trainer.train(language_model.TinyRecipe(codes, folder), start)
    recipe = changes.ChangesRecipe(codes, folder, start)
    trainer.train(recipe, folder / "changes.pt")
    lm = trainer.load(recipe, folder / "changes.pt")
    export_checkpoint(folder / "checkpoint", folder, trained_codec, lm)
    held_out = range(data.SONGS - language_model.HELD_OUT, data.SONGS)
    print(json.dumps(reconstruction.evaluate(trained_codec, codes, held_out)))
    print(f"the checkpoint is in {folder / 'checkpoint'}")


if __name__ == "__main__":
    main()
