"""Songs that follow a melody: the codes are exactly audiocraft's, and as if each were alone."""

import threading
import weakref
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import Tensor

from musicgen_engine.core.loaded_model import LoadedModel
from musicgen_engine.core.separator_process import SeparatorProcess
from musicgen_engine.model.backend import ModelInput
from protocol.constants import Chroma, Codes, Samples
from protocol.errors import InvalidField
from protocol.request import GenerationRequest
from tests.conftest import needs_native
from tests.musicgen_engine.conftest import TINY_MELODY, load
from tests.musicgen_engine.core.harness import (
    Harness,
    Relay,
    Result,
    decoding_by,
    generate,
    generate_together,
)
from tests.musicgen_engine.core.reference import (
    Reference,
    TransformersReference,
    write_separator,
)

PLAIN = GenerationRequest("a calm piano", frames=50, seed=0, temperature=0, separate=False)
WINDOW = 100  # frames, for tests of several windows: 1,500, as checkpoints have, take minutes
LONG = "an anthem for a stadium, with choirs, " * 18


def tune(seconds: float, channels: int = 1, rate: int = 32_000, seed: int = 0) -> Samples:
    """A melody of half-second notes with eight harmonics; read-only, as an engine receives it."""
    random = np.random.default_rng(seed)
    time = np.arange(round(seconds * rate)) / rate
    notes = random.integers(0, 12, int(seconds * 2) + 1)
    phase = 2 * np.pi * np.cumsum(261.63 * 2 ** (notes[(time * 2).astype(int)] / 12)) / rate
    wave = sum(0.2 / number * np.sin(number * phase) for number in range(1, 9))
    loudness = np.linspace(1, 0.5, channels)[:, None]
    audio: Samples = (loudness * np.asarray(wave)).astype(np.float32)
    audio.flags.writeable = False
    return audio


TUNE, SILENCE = tune(2), np.zeros((1, 32_000), np.float32)
FOLLOWING = replace(PLAIN, melody=TUNE)


def with_short_windows(model: LoadedModel) -> LoadedModel:
    return replace(model, pattern=replace(model.pattern, window=WINDOW))


def random_codes(frames: int, codebooks: int = 4) -> Codes:
    return np.random.default_rng(1).integers(0, 2048, (codebooks, frames), np.int32)


def random_chroma(windows: int = 1, seed: int = 1) -> Chroma:
    return np.random.default_rng(seed).integers(0, 12, (windows, 235), np.int32)


def mates(frames: int, **settings: Any) -> dict[int, GenerationRequest]:
    """Seven requests with and without a melody, by the step at which they join the batch."""
    requests = {
        0: GenerationRequest("drums", frames, seed=1),
        1: GenerationRequest("", frames // 2, seed=2, melody=tune(0.7, seed=2), separate=False),
        3: GenerationRequest(LONG, frames, seed=3, melody=tune(3, seed=3), separate=False),
        9: GenerationRequest("guitar", frames + 9, seed=4, codes=random_codes(9), start=8 * 640),
        10: GenerationRequest("flute", 3, seed=5, temperature=0),
        14: GenerationRequest("bass", frames, seed=6, cfg_coef=1.0),
        20: GenerationRequest("Музыка", frames // 3, seed=7, melody=tune(1), separate=False),
    }
    return {step: replace(request, **settings) for step, request in requests.items()}


@pytest.fixture(scope="module")
def audiocraft(melody: LoadedModel, melody_checkpoint: Path) -> Reference:
    return Reference(melody_checkpoint)


@pytest.fixture(scope="module")
def audiocraft_stereo(stereo_melody: LoadedModel, stereo_melody_checkpoint: Path) -> Reference:
    return Reference(stereo_melody_checkpoint)


@pytest.fixture(scope="module")
def separating(melody: LoadedModel, tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    """The model with a separator."""
    weights = write_separator(tmp_path_factory.mktemp("separator") / "955717e8.safetensors")
    return replace(melody, separator=SeparatorProcess(weights))


@pytest.fixture(scope="module")
def followed(melody: LoadedModel) -> Result:
    """The result of FOLLOWING alone."""
    return generate(melody, FOLLOWING)


@pytest.mark.parametrize(
    "request_",
    [
        PLAIN,
        replace(PLAIN, prompt=""),
        FOLLOWING,
        replace(FOLLOWING, cfg_coef=1.0),
        replace(FOLLOWING, prompt=""),
        replace(FOLLOWING, prompt=LONG),
        replace(PLAIN, melody=tune(0.5)),
        replace(PLAIN, melody=tune(0.02)),
        replace(PLAIN, melody=tune(70)),
        replace(PLAIN, melody=SILENCE),
        replace(PLAIN, melody=tune(1, channels=2, rate=44_100), melody_sample_rate=44_100),
        replace(FOLLOWING, codes=random_codes(20)),
    ],
    ids=[
        "none", "none, no text", "2 s", "weak", "no text", "long text", "0.5 s", "0.02 s", "70 s",
        "silence", "stereo at 44.1 kHz", "continued",
    ],
)  # fmt: skip
def test_greedy_codes_with_a_melody_are_audiocrafts(
    melody: LoadedModel, audiocraft: Reference, request_: GenerationRequest
) -> None:
    known = request_.prompt_frames
    codes = generate(melody, request_).codes
    assert len(np.unique(codes)) > codes.size / 2  # repetition would prove little
    assert np.array_equal(codes, audiocraft.codes(request_)[:, known:])


def test_greedy_codes_with_a_melody_are_transformers(
    melody: LoadedModel, melody_checkpoint: Path
) -> None:
    transformers = TransformersReference(melody_checkpoint)
    for request in (
        PLAIN,
        FOLLOWING,
        replace(FOLLOWING, prompt=""),
        replace(FOLLOWING, prompt=LONG, cfg_coef=1.0),
        replace(PLAIN, melody=tune(29)),
    ):
        assert np.array_equal(generate(melody, request).codes, transformers.codes(request))


@pytest.mark.parametrize(
    ("heard", "frames"),
    [
        pytest.param(tune(2, channels=2), 50, id="2 s"),
        pytest.param(tune(9, channels=2), 140, id="two windows", marks=pytest.mark.slow),
        pytest.param(tune(0.02), 50, id="0.02 s", marks=pytest.mark.slow),
        pytest.param(SILENCE, 50, id="silence", marks=pytest.mark.slow),
        pytest.param(tune(70), 50, id="70 s", marks=pytest.mark.slow),
        pytest.param(tune(9), 220, id="three windows", marks=pytest.mark.slow),
    ],
)
def test_greedy_codes_with_a_melody_in_a_mix_are_audiocrafts(
    separating: LoadedModel, audiocraft: Reference, heard: Samples, frames: int
) -> None:
    request = replace(PLAIN, melody=heard, separate=True, frames=frames, extend_stride=1.0)
    window = WINDOW if frames > WINDOW else 1500
    model = with_short_windows(separating) if frames > WINDOW else separating
    result = generate(model, request)
    assert np.array_equal(result.codes, audiocraft.codes(request, window))
    assert result.chunks[-1].chroma.min() >= 0
    assert result.sequence.request.melody is None  # its memory is free


def test_what_is_taken_out_of_a_mix_changes_the_song(
    separating: LoadedModel, followed: Result
) -> None:
    codes = generate(separating, replace(FOLLOWING, separate=True)).codes
    assert not np.array_equal(codes, followed.codes)


class Separator(SeparatorProcess):
    """It needs no process: the melody is the mean of the channels. From the second job on it waits
    for `go_on`."""

    def __init__(self) -> None:
        self.jobs, self.go_on = 0, threading.Event()

    def check(self) -> None: ...

    def separate(self, mix: Samples, wanted: Any, timeout: float = 0) -> Samples:
        if self.jobs:
            self.go_on.wait()
        self.jobs += 1
        melody: Samples = mix.mean(0, keepdims=True)
        return melody


def test_a_song_begins_before_its_later_windows_are_separated(melody: LoadedModel) -> None:
    """Another song does not wait, and from the first chunk on it resumes to the bit."""
    separator = Separator()
    model = replace(with_short_windows(melody), separator=separator)
    settings: dict[str, Any] = {"frames": 170, "extend_stride": 1.0, "temperature": 1.0}
    request = replace(FOLLOWING, separate=True, **settings)
    harness = Harness(model)
    whole, other = harness.submit(request), harness.submit(replace(PLAIN, **settings))
    while not (whole.chunks and other.ended):
        harness.step()
    first = whole.chunks[0]
    assert [(row >= 0).all() for row in first.chroma] == [True, False, False]
    assert whole.sequence.frames_done == WINDOW
    separator.go_on.set()
    harness.run()
    assert whole.chunks[-1].chroma.min() >= 0

    separator.go_on.clear()
    rest = replace(request, chroma=first.chroma, codes=first.codes, start=first.audio.shape[1])
    harness = Harness(model)
    resumed = harness.submit(rest)
    separator.go_on.set()
    harness.run()
    assert np.array_equal(resumed.codes, whole.codes[:, first.codes.shape[1] :])
    assert np.array_equal(resumed.audio, whole.audio[:, first.audio.shape[1] :])
    alone = replace(request, separate=False)
    assert np.array_equal(generate(model, alone).codes, whole.codes)


def test_the_bundled_models_greedy_codes_are_audiocrafts() -> None:
    """Its text is for the cross-attention, and its positions are rotary."""
    model, audiocraft = load(TINY_MELODY, precision="float32"), Reference(TINY_MELODY)
    for request in (PLAIN, FOLLOWING, replace(FOLLOWING, cfg_coef=1.0, prompt="")):
        assert np.array_equal(generate(model, request).codes, audiocraft.codes(request))


def test_a_melody_changes_the_song(melody: LoadedModel, followed: Result) -> None:
    others = [PLAIN, replace(FOLLOWING, melody=tune(2, seed=5))]
    assert not any(np.array_equal(generate(melody, one).codes, followed.codes) for one in others)


@pytest.mark.parametrize(
    ("backend", "seconds"),
    [
        pytest.param("native", 0.7, marks=needs_native),
        pytest.param("native", 70, marks=needs_native),
        ("packed", 3),
        ("eager", 3),
    ],
)
def test_each_window_of_a_batch_gets_audiocrafts_part_of_the_melody(
    melody: LoadedModel, melody_checkpoint: Path, audiocraft: Reference, seconds: float,
    backend: str,
) -> None:  # fmt: skip
    """Three windows, with seven mates that join in all of them."""
    if backend != melody.backend_name:
        melody = load(melody_checkpoint, backend=backend)
    request = replace(PLAIN, melody=tune(seconds), frames=220, extend_stride=1.0)
    requests = {**mates(100, extend_stride=1.0), 25: request}
    results = generate_together(with_short_windows(melody), requests)
    assert all(result.error is None for result in results)
    assert np.array_equal(results[-1].codes, audiocraft.codes(request, WINDOW))


def test_a_melody_has_one_windows_part_in_memory_at_a_time(melody: LoadedModel) -> None:
    """A song may have thousands of windows, each with megabytes of the melody."""
    plain: Any = melody.melody
    parts, alive = list[weakref.ref[Samples]](), list[int]()

    class Watched:
        def __getattr__(self, name: str) -> Any:
            return getattr(plain, name)

        def chroma(self, part: Samples) -> Any:
            parts.append(weakref.ref(part))
            alive.append(sum(one() is not None for one in parts))
            return plain.chroma(part)

    encoder: Any = Watched()
    request = replace(FOLLOWING, frames=1000, extend_stride=1.0, codes=random_codes(1000))
    generate(with_short_windows(replace(melody, melody=encoder)), request)
    assert len(alive) == 19 and max(alive) <= 2


@pytest.mark.parametrize("frames", [WINDOW, 220])
def test_greedy_stereo_codes_with_a_melody_are_audiocrafts(
    stereo_melody: LoadedModel, audiocraft_stereo: Reference, frames: int
) -> None:
    """Its stride is not a whole number of audiocraft's time steps."""
    heard = tune(1.1, channels=2)
    request = replace(PLAIN, melody=heard, frames=frames, extend_stride=1.46)
    result = generate(with_short_windows(stereo_melody), request)
    assert np.array_equal(result.codes, audiocraft_stereo.codes(request, WINDOW))


@pytest.mark.slow
@pytest.mark.parametrize(("frames", "seconds"), [(1500, 7.3), (1640, 7.3), (1500, 70), (2500, 40)])
def test_greedy_codes_of_long_songs_with_a_melody_are_audiocrafts(
    melody: LoadedModel, audiocraft: Reference, frames: int, seconds: float
) -> None:
    request = replace(PLAIN, melody=tune(seconds), frames=frames)
    results = generate_together(melody, {**mates(60), 25: request})
    assert np.array_equal(results[-1].codes, audiocraft.codes(request))


def test_a_song_with_a_melody_is_the_same_to_the_bit_in_any_batch(melody: LoadedModel) -> None:
    requests = {**mates(40), 12: replace(FOLLOWING, temperature=1.0)}
    together = generate_together(melody, requests)
    for result, step in zip(together, sorted(requests), strict=True):
        alone = generate(melody, requests[step])
        assert np.array_equal(result.codes, alone.codes)
        assert np.array_equal(result.audio, alone.audio)


def test_the_chroma_stands_for_the_audio_of_a_melody(melody: LoadedModel, followed: Result) -> None:
    chroma = followed.chunks[0].chroma
    assert chroma.shape == (1, 235) and 0 <= chroma.min() < chroma.max() < 12
    again = generate(melody, replace(PLAIN, chroma=chroma))
    assert np.array_equal(again.codes, followed.codes)
    assert followed.sequence.request.melody is None  # its memory is free


def test_a_song_without_a_melody_has_no_chroma(melody: LoadedModel, tiny: LoadedModel) -> None:
    for model in (melody, tiny):
        assert generate(model, replace(PLAIN, frames=2)).chunks[0].chroma.shape == (0, 0)


@pytest.mark.parametrize("known", [29, 60, 100, 149])
def test_a_song_with_a_melody_resumes_to_the_bit_without_its_audio(
    melody: LoadedModel, known: int
) -> None:
    model = with_short_windows(melody)
    request = replace(FOLLOWING, frames=170, extend_stride=1.0, temperature=1.0)
    whole = generate(model, request)
    chroma, start = whole.chunks[0].chroma, max(0, known - 10) * 640
    assert chroma.shape == (3, 235)
    rest = replace(request, melody=None, chroma=chroma, codes=whole.codes[:, :known], start=start)
    resumed = generate(model, rest)
    assert np.array_equal(resumed.codes, whole.codes[:, known:])


def test_a_prefix_is_prefilled_in_chunks_beside_batch_mates(melody: LoadedModel) -> None:
    steps: list[tuple[list[int], list[int]]] = []

    class Watched(Relay):
        def forward(self, batch: ModelInput) -> Tensor:
            steps.append((batch.starts.tolist(), batch.lengths.tolist()))
            return super().forward(batch)

    watched = decoding_by(melody, Watched(melody.backend))
    text = GenerationRequest("", 5, seed=1)
    generate(watched, text)
    assert steps[0] == ([-236], [64])  # alone, the chunks are large
    steps.clear()
    generate_together(watched, {0: replace(text, frames=60), 8: FOLLOWING})
    beside = [lengths for _, lengths in steps if len(lengths) == 2]
    most = 4  # where the cache has one of the two rows
    assert max(map(max, beside)) in (most // 2, most)


@pytest.mark.parametrize("negative", ["x", PLAIN.prompt, "a much longer text than the prompt is"])
def test_a_negative_prompt_stands_in_the_unconditional_prefix(
    melody: LoadedModel, negative: str
) -> None:
    """Guidance has no effect where both rows are equal, and no melody tells them apart."""
    songs = [
        generate(melody, replace(PLAIN, negative_prompt=negative, cfg_coef=scale))
        for scale in (0.0, 50.0)
    ]
    assert np.array_equal(songs[0].codes, songs[1].codes) == (negative == PLAIN.prompt)


def test_the_text_of_a_melody_model_is_bounded(melody: LoadedModel) -> None:
    refused, good = generate_together(
        melody, {0: replace(PLAIN, prompt="\ufdfa" * 200), 1: FOLLOWING}
    )
    assert isinstance(refused.error, InvalidField)
    assert "tokens of text; shorten it to 512" in refused.error.message
    assert good.error is None


@pytest.mark.parametrize(
    ("request_", "complaint"),
    [
        (
            replace(FOLLOWING, separate=True),
            "separate is true, and the separator's weights",
        ),
        (replace(PLAIN, chroma=random_chroma(2)), "chroma has the shape [2, 235]; give [1, 235]"),
        (replace(PLAIN, chroma=random_chroma()[:, :9]), "chroma has the shape [1, 9];"),
    ],
)
def test_a_melody_that_does_not_fit_is_refused_alone(
    melody: LoadedModel, followed: Result, request_: GenerationRequest, complaint: str
) -> None:
    bad, good = generate_together(melody, {0: request_, 1: FOLLOWING})
    assert isinstance(bad.error, InvalidField) and bad.error.message.startswith(complaint)
    assert np.array_equal(good.codes, followed.codes)


@pytest.mark.parametrize("name", ["melody", "chroma"])
def test_a_model_without_melody_names_what_it_does_not_take(tiny: LoadedModel, name: str) -> None:
    values: dict[str, Any] = {"melody": TUNE, "chroma": random_chroma()}
    error = generate(tiny, replace(PLAIN, **{name: values[name]})).error
    assert isinstance(error, InvalidField) and error.field == name
    assert "not for this model" in error.message
