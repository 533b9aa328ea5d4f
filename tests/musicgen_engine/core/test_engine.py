"""Everybody's songs in one batch: exactly audiocraft's, and as if each were alone."""

import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from musicgen_engine.model.transformer import Piece
from musicgen_engine.core.loaded_model import Model
from protocol.errors import (
    Cancelled,
    GenerationFailed,
    InvalidInput,
    QueueFull,
    WeightsChanged,
)
from protocol.request import Samples, Song
from tests.conftest import until
from tests.musicgen_engine.core.reference import Reference
from tests.musicgen_engine.core.studio import Studio, Take, play, play_together

GREEDY = Song("a calm piano melody", frames=50, seed=0, temperature=0)
SAMPLED = Song("a calm piano melody", frames=120, seed=7)


@pytest.fixture(scope="module")
def audiocraft(tiny: Model, tiny_checkpoint: Path) -> Reference:
    return Reference(tiny_checkpoint)


@pytest.fixture(scope="module")
def audiocraft_stereo(stereo: Model, stereo_checkpoint: Path) -> Reference:
    return Reference(stereo_checkpoint)


@pytest.fixture(scope="module")
def audiocraft_rotary(rotary: Model, rotary_checkpoint: Path) -> Reference:
    return Reference(rotary_checkpoint)


def others(frames: int) -> dict[int, Song]:
    """Seven songs of all kinds, by the round in which they join."""
    held = np.random.default_rng(1).integers(0, 2048, (4, 40), np.int32)
    return {
        0: Song("drums", frames, seed=1),
        1: Song("", frames // 2, seed=2, top_p=0.8),
        4: Song("strings " * 60, frames, seed=3, cfg_coef=1.0),
        9: Song("guitar", frames + 40, seed=4, codes=held, start=31 * 640),
        10: Song("flute", 3, seed=5, temperature=0),
        25: Song("bass", frames, seed=6, top_k=1),
        40: Song("Музыка", frames // 3, seed=7, temperature=2.0, top_k=0),
    }


def same(one: Take, other: Take) -> bool:
    """To the bit, chunk by chunk."""
    return len(one.chunks) == len(other.chunks) and all(
        np.array_equal(a.audio, b.audio) and np.array_equal(a.codes, b.codes)
        for a, b in zip(one.chunks, other.chunks, strict=True)
    )


@pytest.mark.parametrize(
    "song",
    [
        GREEDY,
        replace(GREEDY, frames=1),
        replace(GREEDY, cfg_coef=1.0),
        replace(GREEDY, cfg_coef=0.0),
        replace(GREEDY, cfg_coef=20.0),
        replace(GREEDY, prompt=""),
        replace(GREEDY, prompt="rock"),
        replace(GREEDY, prompt="an anthem for a stadium, with choirs, " * 40),
        replace(GREEDY, prompt="Музыка 音楽 🎵"),
    ],
    ids=lambda song: f"{song.prompt[:12]!r}, {song.frames} frames, cfg {song.cfg_coef:g}",
)
def test_greedy_codes_are_audiocrafts_to_the_last(
    tiny: Model, audiocraft: Reference, song: Song
) -> None:
    take = play(tiny, song)
    assert len(np.unique(take.codes)) > take.codes.size / 2  # a song that repeats proves little
    assert np.array_equal(take.codes, audiocraft.codes(song))
    assert np.allclose(take.audio, audiocraft.audio(take.codes), rtol=0, atol=1e-5)


def test_a_text_of_more_tokens_than_there_is_room_for_is_refused_and_harms_nobody(
    tiny: Model,
) -> None:
    """One sign may take half a dozen tokens."""
    many, good = Song("\ufdfa" * 2000, 20, seed=1), replace(SAMPLED, frames=20)
    refused, beside = play_together(tiny, {0: many, 1: good})
    assert isinstance(refused.error, InvalidInput)
    assert refused.error.message.startswith("PROMPT: 12003 tokens of text; at most 2002 are read")
    assert same(beside, play(tiny, good))


def test_a_round_that_hangs_is_seen_from_outside(tiny: Model) -> None:
    answers = threading.Event()

    def describe(prompt: str) -> Tensor:
        answers.wait(20)
        return tiny.describe(prompt)

    studio = Studio(replace(tiny, describe=describe))
    threading.Thread(target=studio.engine.run, daemon=True).start()
    take = studio.submit(replace(GREEDY, frames=1))
    until(lambda: studio.engine.busy > 0.2)
    answers.set()
    until(lambda: take.ended and not studio.engine.busy)


def test_greedy_codes_are_audiocrafts_over_three_windows_whatever_else_plays(
    tiny: Model, audiocraft: Reference
) -> None:
    """Others come when it begins, and when its second and third window are prefilled."""
    song = replace(GREEDY, frames=2420)
    later = {1550: Song("drums", 120, seed=1), 2530: Song("bass", 100, seed=2)}
    takes = play_together(tiny, {**others(100), 55: song, **later})
    assert np.array_equal(takes[7].codes, audiocraft.codes(song))
    assert all(take.error is None for take in takes)


@pytest.mark.parametrize(("frames", "extend_stride"), [(50, 18.0), (1520, 11.5)])
def test_greedy_stereo_codes_are_audiocrafts_with_any_stride_of_its_windows(
    stereo: Model, audiocraft_stereo: Reference, frames: int, extend_stride: float
) -> None:
    song = replace(GREEDY, frames=frames, extend_stride=extend_stride)
    take = play(stereo, song)
    assert np.array_equal(take.codes, audiocraft_stereo.codes(song))
    assert np.allclose(take.audio, audiocraft_stereo.audio(take.codes), rtol=0, atol=1e-5)


@pytest.mark.parametrize("frames", [50, 1520])
def test_greedy_codes_at_rotary_positions_are_audiocrafts_whatever_else_plays(
    rotary: Model, audiocraft_rotary: Reference, frames: int
) -> None:
    song = replace(GREEDY, frames=frames)
    take = play_together(rotary, {**others(60), 5: song})[3]
    assert take.task.song is song
    assert np.array_equal(take.codes, audiocraft_rotary.codes(song))


def test_a_song_at_rotary_positions_is_the_same_to_the_bit_alone_and_in_company(
    rotary: Model,
) -> None:
    takes = play_together(rotary, {**others(60), 5: SAMPLED})
    assert same(takes[3], play(rotary, SAMPLED))


@pytest.mark.parametrize("held", [1, 33, 49])
def test_a_greedy_continuation_is_audiocrafts(
    tiny: Model, audiocraft: Reference, held: int
) -> None:
    codes = np.random.default_rng(0).integers(0, 2048, (4, held), np.int32)
    song = replace(GREEDY, codes=codes)
    expected = audiocraft.codes(song)
    assert np.array_equal(expected[:, :held], codes)
    assert np.array_equal(play(tiny, song).codes, expected[:, held:])


def noise(channels: int, seconds: float, sample_rate: int) -> Samples:
    """Low, so that resampling keeps it."""
    steps = np.random.default_rng(2).standard_normal((channels, int(seconds * sample_rate)))
    return (0.01 * steps.cumsum(axis=1)).astype(np.float32).clip(-1, 1)


def test_a_song_that_goes_on_from_audio_is_audiocrafts(tiny: Model, audiocraft: Reference) -> None:
    song = replace(GREEDY, prompt_audio=noise(2, 0.4, 44_100), prompt_sample_rate=44_100)
    take = play(tiny, song)
    assert song.held == 20
    assert take.task.song.prompt_audio is None  # it was let go
    assert np.array_equal(take.codes, audiocraft.codes(song))  # those of the audio first
    assert np.allclose(take.audio, audiocraft.audio(take.codes), rtol=0, atol=1e-5)


def test_a_stereo_song_goes_on_from_audio_in_mono(
    stereo: Model, audiocraft_stereo: Reference
) -> None:
    song = replace(GREEDY, prompt_audio=noise(1, 0.4, 32_000))
    assert np.array_equal(play(stereo, song).codes, audiocraft_stereo.codes(song))


def test_what_a_song_goes_on_from_need_not_be_played(tiny: Model) -> None:
    """Samples beyond the last whole frame are left out."""
    whole = replace(SAMPLED, prompt_audio=noise(1, 0.411, 32_000))
    new = replace(whole, start=20 * 640)
    played, rest = play(tiny, whole), play(tiny, new)
    assert np.array_equal(played.codes, rest.codes)
    assert np.allclose(played.audio[:, new.start :], rest.audio, rtol=0, atol=1e-5)


def test_other_weights_than_a_song_was_begun_with_are_refused(tiny: Model) -> None:
    assert play(tiny, replace(GREEDY, frames=2, revision=tiny.revision)).error is None
    studio = Studio(tiny)
    take = studio.submit(replace(GREEDY, revision="0123456789ab"))
    studio.finish()
    assert isinstance(take.error, WeightsChanged)


def test_a_stride_as_long_as_what_the_model_sees_is_an_error_of_that_song_alone(
    tiny: Model,
) -> None:
    studio = Studio(tiny)
    take = studio.submit(replace(GREEDY, extend_stride=30.0))
    studio.finish()
    assert isinstance(take.error, InvalidInput) and "EXTEND_STRIDE: 30 " in take.error.message


def test_a_song_is_the_same_to_the_bit_alone_and_among_seven_that_come_and_go(
    tiny: Model,
) -> None:
    songs = others(90)
    alone = {round: play(tiny, song) for round, song in songs.items()}
    together = play_together(tiny, {**songs, 12: SAMPLED})
    for take, round in zip(together, sorted([*songs, 12]), strict=True):
        assert same(take, play(tiny, SAMPLED) if round == 12 else alone[round])


def test_a_seed_is_a_song_and_another_seed_another(tiny: Model) -> None:
    take = play(tiny, SAMPLED)
    assert same(take, play(tiny, SAMPLED))
    assert not np.array_equal(take.codes, play(tiny, replace(SAMPLED, seed=8)).codes)


@pytest.mark.parametrize("frames", [1, 2, 3, 4, 5, 24, 25, 29, 30, 78, 79, 80])
def test_a_song_has_exactly_its_frames(tiny: Model, frames: int) -> None:
    take = play(tiny, Song("jazz", frames, seed=1))
    assert take.codes.shape == (4, frames)
    assert take.audio.shape == (1, frames * 640)
    assert take.task.frames_done == frames


def test_audio_goes_out_while_the_song_is_made(tiny: Model) -> None:
    """Half seconds for two seconds, as soon as the codec's four frames of look-ahead are there."""
    studio = Studio(tiny)
    take = studio.submit(replace(SAMPLED, frames=200))
    while not take.chunks:
        studio.engine.round()
    assert take.task.frames_done == 29
    studio.finish()
    assert [chunk.audio.shape[1] // 640 for chunk in take.chunks] == [25, 25, 25, 25, 50, 50]
    assert [chunk.codes.shape[1] for chunk in take.chunks] == [29, 25, 25, 25, 50, 46]


@pytest.mark.parametrize(("held", "start"), [(29, 16_000), (60, 0), (60, 60 * 640), (61, 12_345)])
def test_a_song_that_goes_on_from_its_codes_is_the_rest_of_the_uninterrupted_one(
    tiny: Model, held: int, start: int
) -> None:
    whole = play(tiny, SAMPLED)
    rest = play(tiny, replace(SAMPLED, codes=whole.codes[:, :held], start=start))
    assert np.array_equal(rest.codes, whole.codes[:, held:])
    assert np.allclose(rest.audio, whole.audio[:, start:], rtol=0, atol=1e-5)


@pytest.mark.parametrize("held", [29, 60])
def test_progress_begins_where_a_song_goes_on(tiny: Model, held: int) -> None:
    studio = Studio(tiny)
    codes = np.zeros((4, held), np.int32)
    take = studio.submit(replace(SAMPLED, codes=codes, start=held * 640))
    told = []
    while not take.ended:
        studio.engine.round()
        told.append(take.task.frames_done)
    assert told[0] == held and told[-1] == SAMPLED.frames
    assert told == sorted(told)


def test_a_stereo_song_goes_on_from_its_codes(stereo: Model) -> None:
    whole = play(stereo, SAMPLED)
    rest = play(stereo, replace(SAMPLED, codes=whole.codes[:, :70], start=60 * 640))
    assert np.array_equal(rest.codes, whole.codes[:, 70:])
    assert np.allclose(rest.audio, whole.audio[:, 60 * 640 :], rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", ["tiny", "stereo"])
def test_a_song_that_broke_off_between_chunks_goes_on_to_the_bit(
    kind: str, request: pytest.FixtureRequest
) -> None:
    model: Model = request.getfixturevalue(kind)
    song = replace(SAMPLED, frames=220)
    chunks = play(model, song).chunks
    for had in range(1, len(chunks)):
        codes = np.concatenate([chunk.codes for chunk in chunks[:had]], axis=1)
        start = sum(chunk.audio.shape[1] for chunk in chunks[:had])
        rest = play(model, replace(song, codes=codes, start=start)).chunks
        assert [len(chunk.audio[0]) for chunk in rest] == [len(c.audio[0]) for c in chunks[had:]]
        for one, other in zip(rest, chunks[had:], strict=True):
            assert np.array_equal(one.audio, other.audio)


def test_a_song_goes_on_in_the_window_where_it_broke_off(tiny: Model) -> None:
    song = replace(SAMPLED, frames=1720)
    whole = play(tiny, song)
    for held in (1499, 1500, 1700):
        start = (held - 10) * 640
        rest = play(tiny, replace(song, codes=whole.codes[:, :held], start=start))
        assert np.array_equal(rest.codes, whole.codes[:, held:])
        assert np.allclose(rest.audio, whole.audio[:, start:], rtol=0, atol=1e-5)


@pytest.mark.parametrize("start", [0, 100 * 640 + 1, 120 * 640])
def test_a_song_whose_codes_are_all_there_is_only_played(tiny: Model, start: int) -> None:
    whole = play(tiny, SAMPLED)
    rest = play(tiny, replace(SAMPLED, codes=whole.codes, start=start))
    assert rest.codes.shape == (4, 0)
    assert np.allclose(rest.audio, whole.audio[:, start:], rtol=0, atol=1e-5)


def test_a_cancelled_song_ends_before_the_next_step_and_the_others_go_on(tiny: Model) -> None:
    studio = Studio(tiny)
    left, stays = studio.submit(replace(SAMPLED, seed=9)), studio.submit(SAMPLED)
    for _ in range(10):
        studio.engine.round()
    done = left.task.frames_done
    studio.scheduler.cancel(left.task.id)
    studio.engine.round()
    assert isinstance(left.error, Cancelled) and left.task.frames_done == done
    studio.finish()
    assert same(stays, play(tiny, SAMPLED))


@pytest.mark.parametrize(
    ("codes", "complaint"),
    [
        (np.zeros((8, 10), np.int32), "CODES: 8 codebooks"),
        (np.full((4, 10), 2048, np.int32), "CODES: 2048"),
    ],
)
def test_codes_of_another_model_are_an_error_of_that_song_alone(
    tiny: Model, codes: np.ndarray, complaint: str
) -> None:
    *_, good, bad = play_together(tiny, {0: SAMPLED, 2: replace(SAMPLED, codes=codes)})
    assert isinstance(bad.error, InvalidInput) and bad.error.message.startswith(complaint)
    assert same(good, play(tiny, SAMPLED))


def test_an_encoder_that_fails_on_a_text_fails_that_song_alone(tiny: Model) -> None:
    def describe(prompt: str) -> Tensor:
        if prompt == "bad":
            raise RuntimeError("no such text")
        return tiny.describe(prompt)

    model = replace(tiny, describe=describe)
    good, bad = play_together(model, {0: SAMPLED, 2: replace(SAMPLED, prompt="bad")})
    assert isinstance(bad.error, GenerationFailed) and "no such text" not in str(bad.error)
    assert same(good, play(tiny, SAMPLED))


def test_an_error_of_the_device_ends_the_engine(tiny: Model) -> None:
    class Broken:
        def condition(self, slot: int, text: Tensor) -> None:
            raise torch.AcceleratorError("the device is gone")

    studio = Studio(replace(tiny, decoder=Broken()))  # type: ignore[arg-type]
    studio.submit(SAMPLED)
    with pytest.raises(torch.AcceleratorError):
        studio.engine.run()


def test_a_long_prompt_is_prefilled_in_pieces_small_enough_for_the_others(tiny: Model) -> None:
    steps: list[list[int]] = []

    class Watched:
        condition = staticmethod(tiny.decoder.condition)

        def step(self, pieces: Sequence[Piece]) -> Tensor:
            steps.append([piece.tokens.shape[1] for piece in pieces])
            return tiny.decoder.step(pieces)

    codes = np.random.default_rng(0).integers(0, 2048, (4, 300), np.int32)
    long = Song("", frames=310, seed=1, codes=codes)
    play_together(replace(tiny, decoder=Watched()), {0: SAMPLED, 1: long})  # type: ignore[arg-type]
    assert [1, 8] in steps and max(max(step) for step in steps if len(step) > 1) == 8
    steps.clear()
    play(replace(tiny, decoder=Watched()), long)  # type: ignore[arg-type]
    assert steps[:5] == [[64]] * 4 + [[44]]  # nobody waits


def test_more_songs_than_slots_wait_their_turn_in_order(tiny: Model) -> None:
    studio = Studio(tiny, max_queue=2)
    takes = [studio.submit(Song("x", 5, seed=n)) for n in range(tiny.slots + 2)]
    with pytest.raises(QueueFull):
        studio.submit(Song("x", 5, seed=99))
    studio.finish()
    assert all(take.audio.shape == (1, 3200) for take in takes)
