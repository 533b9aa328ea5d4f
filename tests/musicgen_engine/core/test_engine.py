"""Everybody's songs in one batch: exactly audiocraft's, and as if each were alone."""

import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from musicgen_engine.core.loaded_model import LoadedModel
from musicgen_engine.model.backend import ModelInput
from musicgen_engine.model.conditioning import Conditioning
from protocol.constants import Samples
from protocol.errors import (
    Cancelled,
    GenerationFailed,
    InvalidField,
    QueueFull,
    WeightsChanged,
)
from protocol.request import GenerationRequest
from tests.conftest import until
from tests.musicgen_engine.conftest import load
from tests.musicgen_engine.core.harness import Harness, Result, generate, generate_together
from tests.musicgen_engine.core.reference import Reference

GREEDY = GenerationRequest("a calm piano melody", frames=50, seed=0, temperature=0)
SAMPLED = GenerationRequest("a calm piano melody", frames=120, seed=7)


@pytest.fixture(scope="module")
def audiocraft(tiny: LoadedModel, tiny_checkpoint: Path) -> Reference:
    return Reference(tiny_checkpoint)


@pytest.fixture(scope="module")
def audiocraft_stereo(stereo: LoadedModel, stereo_checkpoint: Path) -> Reference:
    return Reference(stereo_checkpoint)


@pytest.fixture(scope="module")
def audiocraft_rotary(rotary: LoadedModel, rotary_checkpoint: Path) -> Reference:
    return Reference(rotary_checkpoint)


def others(frames: int) -> dict[int, GenerationRequest]:
    """Seven songs of all kinds, by the round in which they join."""
    held = np.random.default_rng(1).integers(0, 2048, (4, 40), np.int32)
    return {
        0: GenerationRequest("drums", frames, seed=1),
        1: GenerationRequest("", frames // 2, seed=2, top_p=0.8),
        4: GenerationRequest("strings " * 60, frames, seed=3, cfg_coef=1.0),
        9: GenerationRequest("guitar", frames + 40, seed=4, codes=held, start=31 * 640),
        10: GenerationRequest("flute", 3, seed=5, temperature=0),
        25: GenerationRequest("bass", frames, seed=6, top_k=1),
        40: GenerationRequest("Музыка", frames // 3, seed=7, temperature=2.0, top_k=0),
    }


def same(one: Result, other: Result) -> bool:
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
    tiny: LoadedModel, audiocraft: Reference, song: GenerationRequest
) -> None:
    result = generate(tiny, song)
    assert len(np.unique(result.codes)) > result.codes.size / 2  # a song that repeats proves little
    assert np.array_equal(result.codes, audiocraft.codes(song))
    assert np.allclose(result.audio, audiocraft.audio(result.codes), rtol=0, atol=1e-5)


def test_a_text_of_more_tokens_than_there_is_room_for_is_refused_and_harms_nobody(
    tiny: LoadedModel,
) -> None:
    """One sign may result half a dozen tokens."""
    many, good = GenerationRequest("\ufdfa" * 2000, 20, seed=1), replace(SAMPLED, frames=20)
    refused, beside = generate_together(tiny, {0: many, 1: good})
    assert isinstance(refused.error, InvalidField)
    assert refused.error.message.startswith("prompt has 12003 tokens of text; shorten it to 2002")
    assert same(beside, generate(tiny, good))


def test_a_round_that_hangs_is_seen_from_outside(tiny: LoadedModel) -> None:
    answers = threading.Event()

    def encode_text(prompt: str) -> Conditioning:
        answers.wait(20)
        return tiny.encode_text(prompt)

    harness = Harness(replace(tiny, encode_text=encode_text))
    threading.Thread(target=harness.engine.run, daemon=True).start()
    result = harness.submit(replace(GREEDY, frames=1))
    until(lambda: harness.engine.step_seconds > 0.2)
    answers.set()
    until(lambda: result.ended and not harness.engine.step_seconds)


def test_greedy_codes_are_audiocrafts_over_three_windows_whatever_else_plays(
    tiny: LoadedModel, audiocraft: Reference
) -> None:
    """Others come when it begins, and when its second and third window are prefilled."""
    song = replace(GREEDY, frames=2420)
    later = {
        1550: GenerationRequest("drums", 120, seed=1),
        2530: GenerationRequest("bass", 100, seed=2),
    }
    results = generate_together(tiny, {**others(100), 55: song, **later})
    assert np.array_equal(results[7].codes, audiocraft.codes(song))
    assert all(result.error is None for result in results)


@pytest.mark.parametrize(("frames", "extend_stride"), [(50, 18.0), (1520, 11.5)])
def test_greedy_stereo_codes_are_audiocrafts_with_any_stride_of_its_windows(
    stereo: LoadedModel, audiocraft_stereo: Reference, frames: int, extend_stride: float
) -> None:
    song = replace(GREEDY, frames=frames, extend_stride=extend_stride)
    result = generate(stereo, song)
    assert np.array_equal(result.codes, audiocraft_stereo.codes(song))
    assert np.allclose(result.audio, audiocraft_stereo.audio(result.codes), rtol=0, atol=1e-5)


@pytest.mark.parametrize("frames", [50, 1520])
def test_greedy_codes_at_rotary_positions_are_audiocrafts_whatever_else_plays(
    rotary: LoadedModel, audiocraft_rotary: Reference, frames: int
) -> None:
    song = replace(GREEDY, frames=frames)
    result = generate_together(rotary, {**others(60), 5: song})[3]
    assert result.sequence.request is song
    assert np.array_equal(result.codes, audiocraft_rotary.codes(song))


def test_a_song_at_rotary_positions_is_the_same_to_the_bit_alone_and_in_company(
    rotary: LoadedModel,
) -> None:
    results = generate_together(rotary, {**others(60), 5: SAMPLED})
    assert same(results[3], generate(rotary, SAMPLED))


@pytest.mark.parametrize("held", [1, 33, 49])
def test_a_greedy_continuation_is_audiocrafts(
    tiny: LoadedModel, audiocraft: Reference, held: int
) -> None:
    codes = np.random.default_rng(0).integers(0, 2048, (4, held), np.int32)
    song = replace(GREEDY, codes=codes)
    expected = audiocraft.codes(song)
    assert np.array_equal(expected[:, :held], codes)
    assert np.array_equal(generate(tiny, song).codes, expected[:, held:])


def noise(channels: int, seconds: float, sample_rate: int) -> Samples:
    """Low, so that resampling keeps it."""
    steps = np.random.default_rng(2).standard_normal((channels, int(seconds * sample_rate)))
    return (0.01 * steps.cumsum(axis=1)).astype(np.float32).clip(-1, 1)


def test_a_song_that_goes_on_from_audio_is_audiocrafts(
    tiny: LoadedModel, audiocraft: Reference
) -> None:
    song = replace(GREEDY, prompt_audio=noise(2, 0.4, 44_100), prompt_sample_rate=44_100)
    result = generate(tiny, song)
    assert song.prompt_frames == 20
    assert result.sequence.request.prompt_audio is None  # it was let go
    assert np.array_equal(result.codes, audiocraft.codes(song))  # those of the audio first
    assert np.allclose(result.audio, audiocraft.audio(result.codes), rtol=0, atol=1e-5)


def test_a_stereo_song_goes_on_from_audio_in_mono(
    stereo: LoadedModel, audiocraft_stereo: Reference
) -> None:
    song = replace(GREEDY, prompt_audio=noise(1, 0.4, 32_000))
    assert np.array_equal(generate(stereo, song).codes, audiocraft_stereo.codes(song))


def test_what_a_song_goes_on_from_need_not_be_played(tiny: LoadedModel) -> None:
    """Samples beyond the last whole frame are left out."""
    whole = replace(SAMPLED, prompt_audio=noise(1, 0.411, 32_000))
    new = replace(whole, start=20 * 640)
    played, rest = generate(tiny, whole), generate(tiny, new)
    assert np.array_equal(played.codes, rest.codes)
    assert np.allclose(played.audio[:, new.start :], rest.audio, rtol=0, atol=1e-5)


def test_other_weights_than_a_song_was_begun_with_are_refused(tiny: LoadedModel) -> None:
    assert generate(tiny, replace(GREEDY, frames=2, revision=tiny.revision)).error is None
    harness = Harness(tiny)
    result = harness.submit(replace(GREEDY, revision="0123456789ab"))
    harness.run()
    assert isinstance(result.error, WeightsChanged)


def test_a_stride_as_long_as_what_the_model_sees_is_an_error_of_that_song_alone(
    tiny: LoadedModel,
) -> None:
    harness = Harness(tiny)
    result = harness.submit(replace(GREEDY, extend_stride=30.0))
    harness.run()
    assert isinstance(result.error, InvalidField) and "extend_stride is 30;" in result.error.message


def test_a_song_is_the_same_to_the_bit_alone_and_among_seven_that_come_and_go(
    tiny: LoadedModel,
) -> None:
    songs = others(90)
    alone = {round: generate(tiny, song) for round, song in songs.items()}
    together = generate_together(tiny, {**songs, 12: SAMPLED})
    for result, round in zip(together, sorted([*songs, 12]), strict=True):
        assert same(result, generate(tiny, SAMPLED) if round == 12 else alone[round])


def test_a_seed_is_a_song_and_another_seed_another(tiny: LoadedModel) -> None:
    result = generate(tiny, SAMPLED)
    assert same(result, generate(tiny, SAMPLED))
    assert not np.array_equal(result.codes, generate(tiny, replace(SAMPLED, seed=8)).codes)


@pytest.mark.parametrize("frames", [1, 2, 3, 4, 5, 24, 25, 29, 30, 78, 79, 80])
def test_a_song_has_exactly_its_frames(tiny: LoadedModel, frames: int) -> None:
    result = generate(tiny, GenerationRequest("jazz", frames, seed=1))
    assert result.codes.shape == (4, frames)
    assert result.audio.shape == (1, frames * 640)
    assert result.sequence.frames_done == frames


def test_audio_goes_out_while_the_song_is_made(tiny: LoadedModel) -> None:
    """Half seconds for two seconds, as soon as the codec's four frames of look-ahead are there."""
    harness = Harness(tiny)
    result = harness.submit(replace(SAMPLED, frames=200))
    while not result.chunks:
        harness.engine.step()
    assert result.sequence.frames_done == 29
    harness.run()
    assert [chunk.audio.shape[1] // 640 for chunk in result.chunks] == [25, 25, 25, 25, 50, 50]
    assert [chunk.codes.shape[1] for chunk in result.chunks] == [29, 25, 25, 25, 50, 46]


@pytest.mark.parametrize(("held", "start"), [(29, 16_000), (60, 0), (60, 60 * 640), (61, 12_345)])
def test_a_song_that_goes_on_from_its_codes_is_the_rest_of_the_uninterrupted_one(
    tiny: LoadedModel, held: int, start: int
) -> None:
    whole = generate(tiny, SAMPLED)
    rest = generate(tiny, replace(SAMPLED, codes=whole.codes[:, :held], start=start))
    assert np.array_equal(rest.codes, whole.codes[:, held:])
    assert np.allclose(rest.audio, whole.audio[:, start:], rtol=0, atol=1e-5)


@pytest.mark.parametrize("held", [29, 60])
def test_progress_begins_where_a_song_goes_on(tiny: LoadedModel, held: int) -> None:
    harness = Harness(tiny)
    codes = np.zeros((4, held), np.int32)
    result = harness.submit(replace(SAMPLED, codes=codes, start=held * 640))
    told = []
    while not result.ended:
        harness.engine.step()
        told.append(result.sequence.frames_done)
    assert told[0] == held and told[-1] == SAMPLED.frames
    assert told == sorted(told)


def test_a_stereo_song_goes_on_from_its_codes(stereo: LoadedModel) -> None:
    whole = generate(stereo, SAMPLED)
    rest = generate(stereo, replace(SAMPLED, codes=whole.codes[:, :70], start=60 * 640))
    assert np.array_equal(rest.codes, whole.codes[:, 70:])
    assert np.allclose(rest.audio, whole.audio[:, 60 * 640 :], rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", ["tiny", "stereo"])
def test_a_song_that_broke_off_between_chunks_goes_on_to_the_bit(
    kind: str, request: pytest.FixtureRequest
) -> None:
    model: LoadedModel = request.getfixturevalue(kind)
    song = replace(SAMPLED, frames=220)
    chunks = generate(model, song).chunks
    for had in range(1, len(chunks)):
        codes = np.concatenate([chunk.codes for chunk in chunks[:had]], axis=1)
        start = sum(chunk.audio.shape[1] for chunk in chunks[:had])
        rest = generate(model, replace(song, codes=codes, start=start)).chunks
        assert [len(chunk.audio[0]) for chunk in rest] == [len(c.audio[0]) for c in chunks[had:]]
        for one, other in zip(rest, chunks[had:], strict=True):
            assert np.array_equal(one.audio, other.audio)


def test_a_song_goes_on_in_the_window_where_it_broke_off(tiny: LoadedModel) -> None:
    song = replace(SAMPLED, frames=1720)
    whole = generate(tiny, song)
    for held in (1499, 1500, 1700):
        start = (held - 10) * 640
        rest = generate(tiny, replace(song, codes=whole.codes[:, :held], start=start))
        assert np.array_equal(rest.codes, whole.codes[:, held:])
        assert np.allclose(rest.audio, whole.audio[:, start:], rtol=0, atol=1e-5)


@pytest.mark.parametrize("start", [0, 100 * 640 + 1, 120 * 640])
def test_a_song_whose_codes_are_all_there_is_only_played(tiny: LoadedModel, start: int) -> None:
    whole = generate(tiny, SAMPLED)
    rest = generate(tiny, replace(SAMPLED, codes=whole.codes, start=start))
    assert rest.codes.shape == (4, 0)
    assert np.allclose(rest.audio, whole.audio[:, start:], rtol=0, atol=1e-5)


def test_a_cancelled_song_ends_before_the_next_step_and_the_others_go_on(tiny: LoadedModel) -> None:
    harness = Harness(tiny)
    left, stays = harness.submit(replace(SAMPLED, seed=9)), harness.submit(SAMPLED)
    for _ in range(10):
        harness.engine.step()
    done = left.sequence.frames_done
    harness.scheduler.cancel(left.sequence.id)
    harness.engine.step()
    assert isinstance(left.error, Cancelled) and left.sequence.frames_done == done
    harness.run()
    assert same(stays, generate(tiny, SAMPLED))


@pytest.mark.parametrize(
    ("codes", "complaint"),
    [
        (np.zeros((8, 10), np.int32), "codes has 8 codebooks"),
        (np.full((4, 10), 2048, np.int32), "codes holds 2048"),
    ],
)
def test_codes_of_another_model_are_an_error_of_that_song_alone(
    tiny: LoadedModel, codes: np.ndarray, complaint: str
) -> None:
    *_, good, bad = generate_together(tiny, {0: SAMPLED, 2: replace(SAMPLED, codes=codes)})
    assert isinstance(bad.error, InvalidField) and bad.error.message.startswith(complaint)
    assert same(good, generate(tiny, SAMPLED))


def test_an_encoder_that_fails_on_a_text_fails_that_song_alone(tiny: LoadedModel) -> None:
    def encode_text(prompt: str) -> Conditioning:
        if prompt == "bad":
            raise RuntimeError("no such text")
        return tiny.encode_text(prompt)

    model = replace(tiny, encode_text=encode_text)
    good, bad = generate_together(model, {0: SAMPLED, 2: replace(SAMPLED, prompt="bad")})
    assert isinstance(bad.error, GenerationFailed) and "no such text" not in str(bad.error)
    assert same(good, generate(tiny, SAMPLED))


def test_an_error_of_the_device_ends_the_engine(tiny: LoadedModel) -> None:
    class Broken:
        def set_conditioning(self, slot: int, conditioning: Conditioning) -> None:
            raise torch.AcceleratorError("the device is gone")

        def forward(self, batch: ModelInput) -> Tensor:
            raise NotImplementedError

    harness = Harness(replace(tiny, backend=Broken()))
    harness.submit(SAMPLED)
    with pytest.raises(torch.AcceleratorError):
        harness.engine.run()


def test_prefill_chunks_beside_batch_mates_are_small(tiny: LoadedModel) -> None:
    steps: list[list[int]] = []

    class Watched:
        set_conditioning = staticmethod(tiny.backend.set_conditioning)

        def forward(self, batch: ModelInput) -> Tensor:
            steps.append(batch.lengths.tolist())
            return tiny.backend.forward(batch)

    watched = replace(tiny, backend=Watched())
    codes = np.random.default_rng(0).integers(0, 2048, (4, 300), np.int32)
    long = GenerationRequest("", frames=310, seed=1, codes=codes)
    generate_together(watched, {0: SAMPLED, 1: long})
    assert [1, 8] in steps and max(max(step) for step in steps if len(step) > 1) == 8
    steps.clear()
    generate(watched, long)
    assert steps[:5] == [[64]] * 4 + [[44]]  # alone, the chunks are large


def test_more_songs_than_slots_wait_their_turn_in_order(tiny: LoadedModel) -> None:
    harness = Harness(tiny, max_queue=2)
    results = [harness.submit(GenerationRequest("x", 5, seed=n)) for n in range(tiny.slots + 2)]
    with pytest.raises(QueueFull):
        harness.submit(GenerationRequest("x", 5, seed=99))
    harness.run()
    assert all(result.audio.shape == (1, 3200) for result in results)


def changed(model: LoadedModel, request: GenerationRequest, frame: int, prompt: str) -> Result:
    """The result of a request whose text changes at `frame`."""
    harness = Harness(model)
    result = harness.submit(request)
    result.sequence.change_prompt(frame, prompt)
    harness.run()
    return result


def test_a_text_that_changes_in_mid_song_is_heard_from_its_frame(tiny: LoadedModel) -> None:
    plain, other = generate(tiny, SAMPLED), changed(tiny, SAMPLED, 60, "loud drums")
    assert np.array_equal(plain.codes[:, :60], other.codes[:, :60])
    assert not np.array_equal(plain.codes[:, 60:], other.codes[:, 60:])


def test_the_same_text_again_changes_nothing(tiny: LoadedModel) -> None:
    assert same(changed(tiny, SAMPLED, 60, SAMPLED.prompt), generate(tiny, SAMPLED))


@pytest.mark.parametrize("held", [40, 60, 61, 90])
def test_a_changed_song_resumes_to_the_bit_in_a_new_engine(
    tiny: LoadedModel, tiny_checkpoint: Path, held: int
) -> None:
    """A position is computed under the conditioning of its own frame, in prefill too."""
    whole = changed(tiny, SAMPLED, 60, "loud drums")
    resumed = replace(SAMPLED, codes=whole.codes[:, :held], start=held * 640)
    rest = changed(load(tiny_checkpoint), resumed, 60, "loud drums")
    assert np.array_equal(rest.codes, whole.codes[:, held:])


@pytest.mark.parametrize("frame", [1000, 1510])
def test_a_changed_song_resumes_to_the_bit_in_a_later_window(tiny: LoadedModel, frame: int) -> None:
    """The window from frame 900 on is prefilled under both texts."""
    request = replace(SAMPLED, frames=1540)
    whole = changed(tiny, request, frame, "loud drums")
    for held in (1499, 1520):
        resumed = replace(request, codes=whole.codes[:, :held], start=held * 640)
        rest = changed(tiny, resumed, frame, "loud drums")
        assert np.array_equal(rest.codes, whole.codes[:, held:])


def test_a_changed_song_does_not_depend_on_its_batch_mates(tiny: LoadedModel) -> None:
    harness = Harness(tiny)
    for request in others(60).values():
        harness.submit(request)
    result = harness.submit(SAMPLED)
    result.sequence.change_prompt(60, "loud drums")
    harness.run()
    assert same(result, changed(tiny, SAMPLED, 60, "loud drums"))
