"""Makes musicgen-tiny from nothing.

    python -m training FOLDER

Composes and plays its own music, makes a codec for it, writes the music down in codes, and trains
the decoder and the language model. Each stage leaves a file in FOLDER, and one that is there is not
made again: what was stopped goes on where it was. The checkpoint comes to FOLDER/checkpoint.
"""

import argparse
import json
import shutil
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from training import codec, data, language_model, quantizer, reconstruction, transform
from training.checkpoint import CODEC, LM, save, write_text_encoder
from training.files import keep
from training.quantizer import PARTS
from training.structure import TINY, lm_config

SONGS_FITTED, SONGS_QUANTISED = 200, 300  # that transform and codebooks are made from


def fit(file: Path) -> tuple[transform.Transform, Tensor]:
    """The linear codec and its codebooks."""
    if not file.exists():
        print(f"codec: composes {SONGS_QUANTISED} songs and fits itself to them", flush=True)
        songs = torch.stack([data.audio(number) for number in range(SONGS_FITTED)])
        fitted = transform.fit(songs, TINY.codec_dim)
        played = [data.parts(number) for number in range(SONGS_QUANTISED)]
        parts = {part: torch.cat([fitted(song[part]) for song in played]) for part in PARTS}
        books = quantizer.codebooks(parts, TINY.codes, data.METRONOME)
        keep({"analysis": fitted.analysis, "synthesis": fitted.synthesis, "books": books}, file)
    saved = torch.load(file, weights_only=True)
    return transform.Transform(saved["analysis"], saved["synthesis"]), saved["books"]


def encode(file: Path, fitted: transform.Transform, books: Tensor) -> Tensor:
    """int16 [songs, codebooks, frames]"""
    if not file.exists():
        codes = []
        for song in data.codes(data.SONGS, fitted, books):
            codes.append(song)
            if len(codes) % 200 == 0:
                print(f"data: {len(codes)} of {data.SONGS} songs written down", flush=True)
        keep(torch.stack(codes), file)
    codes_: Tensor = torch.load(file, weights_only=True)
    return codes_


def export(folder: Path, work: Path, trained_codec: Any) -> None:
    """As a release of audiocraft: the text encoder stands beside the language model."""
    folder.mkdir(exist_ok=True)
    save(folder / CODEC, codec.config(), trained_codec.cpu().state_dict())
    lm = language_model.load(work, work / "language_model.pt")
    save(folder / LM, lm_config(TINY, channels=1), lm.state_dict())
    shutil.copytree(work / TINY.text_encoder, folder / TINY.text_encoder, dirs_exist_ok=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("folder", type=Path)
    folder: Path = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    fitted, books = fit(folder / "codec.pt")
    codes = encode(folder / "codes.pt", fitted, books)
    trained_codec = codec.write(fitted, books)
    reconstruction.train(trained_codec, codes, books, folder / "decoder.pt", device)
    if not (folder / TINY.text_encoder).exists():
        write_text_encoder(folder, TINY)
    language_model.train(codes, folder, folder / "language_model.pt")
    export(folder / "checkpoint", folder, trained_codec)
    held_out = range(data.SONGS - language_model.HELD_OUT, data.SONGS)
    print(json.dumps(reconstruction.evaluate(trained_codec, codes, held_out)))
    print(f"the checkpoint is in {folder / 'checkpoint'}")


if __name__ == "__main__":
    main()
