"""Codes are sampled as audiocraft samples them, by each sequence's own settings alone."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor

from musicgen_engine.core.audiocraft_imports import make_torchaudio_importable
from musicgen_engine.model.guidance import CLASSIFIER_FREE, Guidance
from musicgen_engine.model.native_sampler import NativeSampler
from musicgen_engine.model.sampler import NOT_FINITE, Sampler
from protocol.request import GenerationRequest
from tests.conftest import needs_native

CPU = torch.device("cpu")
VOCAB_SIZE = 64
ROWS, CODEBOOKS = 5_000, 4  # 20,000 samples
REQUEST = GenerationRequest("", frames=50, seed=1, top_k=0, cfg_coef=3.0)
SETTINGS: dict[str, dict[str, Any]] = {
    "plain": {},
    "colder": {"temperature": 0.5},
    "hotter": {"temperature": 2.0},
    "top_k": {"top_k": 10},
    "top_k and a temperature": {"top_k": 10, "temperature": 1.7},
    "top_k of 1": {"top_k": 1},
    "top_k of the vocabulary": {"top_k": VOCAB_SIZE},
    "top_p": {"top_p": 0.8},
    "top_p before top_k": {"top_p": 0.9, "top_k": 2},
    "top_p of next to nothing": {"top_p": 1e-6},
    "top_p of 1": {"top_p": 1.0},
    "without the text": {"cfg_coef": 0.0},
    "without guidance": {"cfg_coef": 1.0},
    "strong guidance": {"cfg_coef": 20.0, "temperature": 10.0},
}


@pytest.fixture(scope="module")
def audiocraft() -> Any:
    make_torchaudio_importable()
    from audiocraft.models.lm import LMModel

    return LMModel


@pytest.fixture(params=["torch", pytest.param("native", marks=needs_native)])
def new(request: pytest.FixtureRequest) -> type[Sampler]:
    return NativeSampler if request.param == "native" else Sampler


def logits(*shape: int, seed: int = 0) -> Tensor:
    """With the text and without: float32 [2, *shape]."""
    generator = torch.Generator().manual_seed(seed)
    without = torch.randn(*shape, generator=generator)
    return torch.stack([without + 0.4 * torch.randn(*shape, generator=generator), without])


def sample(
    request: GenerationRequest, logits: Tensor, first_frame: int = 0, new: type[Sampler] = Sampler
) -> Tensor:
    """Codes [n, K] of n x K frames in a row, of one request."""
    _, n, codebooks, vocab_size = logits.shape
    sampler = new(2, codebooks, vocab_size, CPU)
    sampler.set_request(1, request)
    frames = torch.arange(n * codebooks).view(n, codebooks) + first_frame
    return sampler.sample(by_sequence(logits), [1] * n, frames)


def by_sequence(logits: Tensor) -> Tensor:
    """[2, n, ...] → [n * 2, ...], the two rows of each sequence side by side."""
    return logits.transpose(0, 1).flatten(0, 1)


class FixedLogits:
    """All that audiocraft's sampling needs of a model."""

    cfg_coef, two_step_cfg, _fsdp = 0.0, False, None

    def __init__(self, logits: Tensor) -> None:
        self._logits = logits.flatten(0, 1)[:, :, None]  # [2 n, K, 1, vocab_size]

    def __call__(self, *args: Any, **kwargs: Any) -> Tensor:
        return self._logits


def audiocrafts_sample(audiocraft: Any, request: GenerationRequest, logits: Tensor) -> Tensor:
    """Codes [n, K] by audiocraft's own code."""
    torch.manual_seed(0)
    sequence = torch.zeros(logits.shape[1:3])[..., None]
    codes: Tensor = audiocraft._sample_next_token(
        FixedLogits(logits),
        sequence,
        {"a condition": None},
        {},
        use_sampling=True,
        temp=request.temperature,
        top_k=request.top_k,
        top_p=request.top_p,
        cfg_coef=request.cfg_coef,
    )
    return codes[..., 0]


def chances(request: GenerationRequest, logits: Tensor) -> npt.NDArray[np.float64]:
    """The probability of each token, from the definitions. Logits: [2, vocab_size]."""
    with_text, without = logits.double().numpy()
    guided = without + (with_text - without) * request.cfg_coef
    p: npt.NDArray[np.float64] = np.exp((guided - guided.max()) / request.temperature)
    p /= p.sum()
    order = np.argsort(-p)
    before = np.cumsum(p[order]) - p[order]
    if request.top_p > 0:
        p[order[before > request.top_p]] = 0
    elif request.top_k > 0:
        p[order[request.top_k :]] = 0
    p /= p.sum()
    return p


def surprise(codes: Tensor, chances: npt.NDArray[np.float64]) -> float:
    """Chi-square in standard deviations from its mean; tokens rarer than 5 are taken together."""
    expected = chances * codes.numel()
    sampled = np.bincount(codes.flatten().numpy(), minlength=len(chances))
    assert not sampled[expected == 0].any()
    rare = expected < 5
    expected = np.append(expected[~rare], expected[rare].sum())
    sampled = np.append(sampled[~rare], sampled[rare].sum())
    there = expected > 0
    squares = ((sampled - expected)[there] ** 2 / expected[there]).sum()
    freedom = max(there.sum() - 1, 1)
    return float((squares - freedom) / np.sqrt(2 * freedom))


@pytest.mark.parametrize("name", SETTINGS)
def test_codes_are_sampled_with_audiocrafts_chances(
    audiocraft: Any, name: str, new: type[Sampler]
) -> None:
    request = replace(REQUEST, **SETTINGS[name])
    one = logits(1, 1, VOCAB_SIZE)
    many = one.expand(2, ROWS, CODEBOOKS, VOCAB_SIZE)
    expected = chances(request, one[:, 0, 0])
    ours, theirs = sample(request, many, new=new), audiocrafts_sample(audiocraft, request, many)
    assert surprise(ours, expected) < 4
    assert surprise(theirs, expected) < 4


@pytest.mark.parametrize(
    "name", ["top_k", "top_k and a temperature", "top_p", "top_p before top_k"]
)
def test_codes_with_a_chance_are_audiocrafts(audiocraft: Any, name: str) -> None:
    request = replace(REQUEST, **SETTINGS[name])
    many = logits(1, 1, VOCAB_SIZE, seed=2).expand(2, ROWS, CODEBOOKS, VOCAB_SIZE)
    assert set(sample(request, many).flatten().tolist()) == set(
        audiocrafts_sample(audiocraft, request, many).flatten().tolist()
    )


@pytest.mark.parametrize("cfg_coef", [0.0, 1.0, 3.0, 20.0])
def test_greedy_codes_are_audiocrafts(audiocraft: Any, cfg_coef: float, new: type[Sampler]) -> None:
    request = replace(REQUEST, temperature=0.0, top_k=250, top_p=0.5, cfg_coef=cfg_coef)
    many = logits(100, 4, 2048)
    assert torch.equal(
        sample(request, many, new=new), audiocrafts_sample(audiocraft, request, many)
    )


@pytest.mark.parametrize("temperature", [1e-45, 1e-9, 0.0099])
def test_a_tiny_temperature_is_greedy(temperature: float) -> None:
    sampler, many = Sampler(2, 4, 2048, CPU), logits(2, 4, 2048)
    for slot, cold in enumerate([temperature, 0.0]):
        sampler.set_request(slot, replace(REQUEST, temperature=cold))
    frames = torch.arange(8).view(2, 4)
    mixed = sampler.sample(by_sequence(many), [0, 1], frames)
    assert torch.equal(mixed, sample(replace(REQUEST, temperature=0.0), many))


def test_tokens_as_likely_as_the_k_th_all_stay(audiocraft: Any, new: type[Sampler]) -> None:
    request = replace(REQUEST, top_k=2)
    level = torch.tensor([3.0, 2.0, 2.0, 2.0, *[0.0] * 12]).expand(2, ROWS, CODEBOOKS, 16)
    assert set(sample(request, level, new=new).flatten().tolist()) == {0, 1, 2, 3}
    assert set(audiocrafts_sample(audiocraft, request, level).flatten().tolist()) == {0, 1, 2, 3}


def test_a_top_k_beyond_the_vocabulary_keeps_every_token() -> None:
    many = logits(ROWS, CODEBOOKS, VOCAB_SIZE)
    beyond = replace(REQUEST, top_k=1_000_000)
    assert torch.equal(sample(beyond, many), sample(REQUEST, many))


def test_a_top_k_of_1_is_greedy() -> None:
    many = logits(ROWS, CODEBOOKS, VOCAB_SIZE)
    greedy = sample(replace(REQUEST, temperature=0.0), many)
    assert torch.equal(sample(replace(REQUEST, top_k=1), many), greedy)


def test_a_seed_repeats_and_another_seed_differs() -> None:
    many = logits(100, 4, 2048)
    again = sample(REQUEST, many)
    assert torch.equal(sample(REQUEST, many), again)
    assert (sample(replace(REQUEST, seed=2), many) != again).float().mean() > 0.9
    assert (sample(REQUEST, many, first_frame=1) != again).float().mean() > 0.9


def test_a_slot_keeps_nothing_of_the_request_before(new: type[Sampler]) -> None:
    many, frames = logits(1, 4, 2048), torch.arange(4)[None]
    sampler = new(1, 4, 2048, CPU)
    for settings in SETTINGS.values():
        request = replace(REQUEST, **settings)
        sampler.set_request(0, request)
        alone = sample(request, many, new=new)
        assert torch.equal(sampler.sample(by_sequence(many), [0], frames), alone)


def test_a_sequence_is_the_same_to_the_bit_in_any_batch(new: type[Sampler]) -> None:
    greedy: dict[str, Any] = {"temperature": 0.0}
    settings = [*SETTINGS.values(), greedy, {"top_k": 250}]
    sampler = new(16, 4, 2048, CPU)
    for slot in range(16):
        sampler.set_request(slot, replace(REQUEST, seed=slot, **settings[slot]))
    many, frames = logits(16, 4, 2048), torch.arange(64).view(16, 4)
    alone = [sampler.sample(by_sequence(many[:, [i]]), [i], frames[[i]]) for i in range(16)]
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        for n in (1, 2, 3, 7, 16):
            rows = torch.randperm(16, generator=torch.Generator().manual_seed(n))[:n].tolist()
            together = sampler.sample(by_sequence(many[:, rows]), rows, frames[rows])
            assert torch.equal(together, torch.cat([alone[row] for row in rows]))
    torch.set_num_threads(1)


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("row", [0, 1], ids=["with the text", "without"])
def test_logits_that_are_not_finite_give_no_codes(
    number: float, row: int, new: type[Sampler]
) -> None:
    """With all settings; batch mates keep their codes."""
    greedy: dict[str, Any] = {"temperature": 0.0}
    settings = [*SETTINGS.values(), greedy]
    sampler, n = new(len(settings), 4, 2048, CPU), len(settings)
    for slot, setting in enumerate(settings):
        sampler.set_request(slot, replace(REQUEST, seed=slot, **setting))
    many, frames = logits(n, 4, 2048), torch.arange(4 * n).view(n, 4)
    sound = sampler.sample(by_sequence(many), range(n), frames)
    for broken in range(n):
        changed = many.clone()
        changed[row, broken, 3, 77] = number
        codes = sampler.sample(by_sequence(changed), range(n), frames)
        assert (codes[broken] == NOT_FINITE).all()
        others = [one for one in range(n) if one != broken]
        assert torch.equal(codes[others], sound[others])


def test_requests_with_other_guidance_rows_do_not_disturb(new: type[Sampler]) -> None:
    """To the bit, with two, three and five rows side by side."""
    guidances = [
        CLASSIFIER_FREE,
        Guidance((0.3, 0.7)),
        Guidance((0.2, 0.5, 0.1, 0.2)),
        CLASSIFIER_FREE,
    ]
    sampler = new(4, 4, 2048, CPU)
    for slot, guidance in enumerate(guidances):
        sampler.set_request(slot, replace(REQUEST, seed=slot), guidance)
    rows = [guidance.rows for guidance in guidances]
    many, frames = logits(6, 4, 2048).flatten(0, 1), torch.arange(16).view(4, 4)
    alone = [
        sampler.sample(part, [slot], frames[[slot]]) for slot, part in enumerate(many.split(rows))
    ]
    assert torch.equal(sampler.sample(many, [0, 1, 2, 3], frames), torch.cat(alone))
