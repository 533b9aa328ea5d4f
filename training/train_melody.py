"""Trains musicgen-tiny-melody from a checkpoint of musicgen-tiny.

    python -m training.train_melody FOLDER [--start CHECKPOINT]

Adds codes for the pitch classes that musicgen-tiny lacks, composes songs with melodies and encodes
them, and trains the language model on. Each stage saves a file in FOLDER and is skipped where its
file exists, so a stopped run resumes. The checkpoint is written to FOLDER/checkpoint.
"""

import argparse
import shutil
from pathlib import Path
from typing import Any

import torch
from audiocraft.models import loaders
from safetensors.torch import load_file, save_file
from torch import Tensor

from training import codec, melody, quantizer, trainer
from training.checkpoint import CODEC, LM, export, melody_state, save_atomically
from training.melody_model import MelodyRecipe
from training.structure import MELODY_SPECTRUM, TINY, TINY_MELODY, tiny_melody_lm_config
from training.transform import Transform

CODEBOOK_SONGS = 60  # songs that the new codes are fitted to


def extend_codebooks(file: Path, transform: Transform, codebooks: Tensor) -> Tensor:
    if not file.exists():
        print("codec: fits codes to the new pitch classes", flush=True)
        new = melody.new_notes(range(CODEBOOK_SONGS))
        features = {part: transform(audio) for part, audio in new.items()}
        save_atomically(quantizer.extend(codebooks, features, TINY_MELODY.vocab_size), file)
    saved: Tensor = torch.load(file, weights_only=True)
    return saved


def encode_songs(file: Path, transform: Transform, codebooks: Tensor) -> tuple[Tensor, Tensor]:
    """Codes int16 [songs, codebooks, frames] and chroma uint8 [songs, frames + 1]."""
    if not file.exists():
        songs = []
        for song in melody.encode_songs(range(melody.SONGS), transform, codebooks):
            songs.append(song)
            if len(songs) % 100 == 0:
                print(f"data: {len(songs)} of {melody.SONGS} songs encoded", flush=True)
        codes, chroma = zip(*songs, strict=True)
        save_atomically({"codes": torch.stack(codes), "chroma": torch.stack(chroma)}, file)
    saved = torch.load(file, weights_only=True)
    return saved["codes"], saved["chroma"]


def export_checkpoint(folder: Path, work: Path, trained_codec: Any, lm: Any) -> None:
    """Writes the checkpoint as audiocraft releases one, with the text encoder beside it."""
    folder.mkdir(exist_ok=True)
    export(folder / CODEC, codec.config(TINY_MELODY), trained_codec.cpu().state_dict())
    state = lm.state_dict()
    projection = lm.melody
    state = {name: tensor for name, tensor in state.items() if not name.startswith("melody.")}
    state |= melody_state(projection, MELODY_SPECTRUM["radix2_exp"])
    export(folder / LM, tiny_melody_lm_config(), state)
    shutil.copytree(work / TINY.text_encoder, folder / TINY.text_encoder, dirs_exist_ok=True)
    encoder = folder / TINY.text_encoder / "model.safetensors"  # half the size; loads into float32
    halves = {name: tensor.half() for name, tensor in load_file(encoder).items()}
    save_file(halves, encoder, metadata={"format": "pt"})
    encoder.chmod(0o644)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--start", type=Path, default=Path("model_repository/musicgen-tiny/1"))
    arguments = parser.parse_args()
    folder: Path = arguments.folder.resolve()
    start: Path = arguments.start.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copytree(start / TINY.text_encoder, folder / TINY.text_encoder, dirs_exist_ok=True)
    tiny_codec = loaders.load_compression_model(str(start), device="cpu").eval()
    transform = codec.transform_of(tiny_codec)
    codebooks = extend_codebooks(folder / "codebooks.pt", transform, codec.codebooks_of(tiny_codec))
    codes, chroma = encode_songs(folder / "songs.pt", transform, codebooks)
    recipe = MelodyRecipe(start, folder, codebooks, codes, chroma)
    trainer.train(recipe, folder / "language_model.pt")
    trained_codec = codec.with_codebooks(tiny_codec, codebooks, TINY_MELODY)
    lm = trainer.load(recipe, folder / "language_model.pt")
    export_checkpoint(folder / "checkpoint", folder, trained_codec, lm)
    print(f"the checkpoint is in {folder / 'checkpoint'}")


if __name__ == "__main__":
    main()
