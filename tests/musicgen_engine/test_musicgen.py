"""Our MusicGen against audiocraft's own, on small checkpoints."""

import os
import pickle
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from musicgen_engine.musicgen import MusicGen
from musicgen_engine.song import Samples, Song
from tests.conftest import ROOT

TINY = ROOT / "model_repository" / "musicgen-tiny" / "1"
SONG = Song("a calm piano melody", frames=100, seed=7)


def ignore(frames: int) -> None: ...


@pytest.fixture(autouse=True)
def back_home() -> Iterator[None]:
    """Loading changes the working directory: the engine is a process of its own, we are not."""
    home = Path.cwd()
    yield
    os.chdir(home)


@pytest.fixture(scope="module")
def tiny() -> MusicGen:
    torch.set_num_threads(1)  # as fast for so small a model, and steady where cores are shared
    return MusicGen.load(TINY, "cpu")


def plain_audiocraft(folder: Path, song: Song) -> Samples:
    """What audiocraft plays when used as its documentation says."""
    from audiocraft.models.musicgen import MusicGen as Audiocraft  # once torchaudio can be imported

    os.chdir(folder)
    model = Audiocraft.get_pretrained(str(folder), device="cpu")
    model.set_generation_params(duration=song.frames / 50)
    torch.manual_seed(song.seed)
    samples: Samples = model.generate([song.prompt])[0].numpy()
    return samples


def test_a_song_is_audiocrafts_to_the_bit(tiny: MusicGen) -> None:
    assert np.array_equal(tiny.generate(SONG, ignore), plain_audiocraft(TINY, SONG))


def test_a_song_longer_than_the_models_window_is_audiocrafts_too(tiny: MusicGen) -> None:
    song = Song("rock", frames=1550, seed=3)
    assert np.array_equal(tiny.generate(song, ignore), plain_audiocraft(TINY, song))


def test_a_stereo_song_is_audiocrafts_to_the_bit(stereo_checkpoint: Path) -> None:
    stereo = MusicGen.load(stereo_checkpoint, "cpu")
    assert (stereo.channels, stereo.sample_rate) == (2, 32_000)
    samples = stereo.generate(SONG, ignore)
    assert samples.shape == (2, 64_000)
    assert not np.array_equal(samples[0], samples[1])
    assert np.array_equal(samples, plain_audiocraft(stereo_checkpoint, SONG))


@pytest.mark.parametrize("frames", [1, 2, 3, 29, 35, 1500, 1804])
def test_a_song_has_exactly_its_frames_and_counts_up_to_them(tiny: MusicGen, frames: int) -> None:
    seen: list[int] = []
    samples = tiny.generate(Song("jazz", frames, seed=1), seen.append)
    assert samples.shape == (1, frames * 640)
    assert samples.dtype == np.float32
    assert seen == sorted(seen)
    assert set(seen) == set(range(frames + 1))


@pytest.mark.parametrize("at", [0, 1, 60])
def test_a_song_stops_where_it_is_told_to_and_leaves_the_model_as_it_was(
    tiny: MusicGen, at: int
) -> None:
    class Stop(Exception):
        pass

    seen: list[int] = []

    def stop(frames: int) -> None:
        seen.append(frames)
        if frames == at:
            raise Stop

    before = tiny.generate(SONG, ignore)
    with pytest.raises(Stop):
        tiny.generate(SONG, stop)
    assert seen[-1] == at
    assert np.array_equal(tiny.generate(SONG, ignore), before)


def test_seed_and_prompt_each_change_the_song(tiny: MusicGen) -> None:
    songs = [SONG, Song(SONG.prompt, 100, seed=8), Song("fast drums", 100, seed=7)]
    first, reseeded, reworded = (tiny.generate(song, ignore) for song in songs)
    for other in (reseeded, reworded):
        assert abs(np.corrcoef(first[0], other[0])[0, 1]) < 0.9


def test_temperature_zero_is_greedy_whatever_the_seed(tiny: MusicGen) -> None:
    a, b = (tiny.generate(Song("funk", 50, seed, temperature=0.0), ignore) for seed in (1, 2))
    assert np.array_equal(a, b)


@pytest.mark.parametrize(
    "prompt", ["", " ", "\0", "🎵🥁", "日本の太鼓", "a\nb\tc", "x" * 2000, "<pad></s><extra_id_0>"]
)
def test_any_text_is_a_prompt(tiny: MusicGen, prompt: str) -> None:
    assert np.isfinite(tiny.generate(Song(prompt, 10, seed=1), ignore)).all()


@pytest.mark.parametrize(
    "song",
    [
        Song("funk", 10, 1, top_k=0),
        Song("funk", 10, 1, top_k=1_000_000),
        Song("funk", 10, 1, top_p=1.0),
        Song("funk", 10, 1, top_p=1e-6),
        Song("funk", 10, 1, temperature=1e-6),
        Song("funk", 10, 1, temperature=100.0),
        Song("funk", 10, 1, cfg_coef=0.0),
        Song("funk", 10, 1, cfg_coef=100.0),
        Song("funk", 10, seed=2**63 - 1),
    ],
)
def test_settings_at_their_limits_make_music(tiny: MusicGen, song: Song) -> None:
    assert np.isfinite(tiny.generate(song, ignore)).all()


class Trap:
    """Runs code when it is unpickled."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (self.file,))


def test_a_checkpoint_cannot_run_code(tmp_path: Path) -> None:
    torch.save({"best_state": Trap(tmp_path / "ran"), "xp.cfg": ""}, tmp_path / "state_dict.bin")
    with pytest.raises(pickle.UnpicklingError):
        MusicGen.load(tmp_path, "cpu")
    assert not (tmp_path / "ran").exists()
