"""Codes are drawn as audiocraft draws them, and by each song's own settings alone."""

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor

from musicgen_engine.core import torchaudio_shim
from musicgen_engine.model.sampler import Sampler
from protocol.request import Song

CPU = torch.device("cpu")
CARD = 64
ROWS, CODEBOOKS = 5_000, 4  # 20,000 draws
SONG = Song("", frames=50, seed=1, top_k=0, cfg_coef=3.0)
SETTINGS: dict[str, dict[str, Any]] = {
    "plain": {},
    "colder": {"temperature": 0.5},
    "hotter": {"temperature": 2.0},
    "top_k": {"top_k": 10},
    "top_k and a temperature": {"top_k": 10, "temperature": 1.7},
    "top_k of 1": {"top_k": 1},
    "top_k of the card": {"top_k": CARD},
    "top_p": {"top_p": 0.8},
    "top_p before top_k": {"top_p": 0.9, "top_k": 2},
    "top_p of next to nothing": {"top_p": 1e-6},
    "top_p of 1": {"top_p": 1.0},
    "without the text": {"cfg_coef": 0.0},
    "without guidance": {"cfg_coef": 1.0},
    "much guidance": {"cfg_coef": 20.0, "temperature": 10.0},
}


@pytest.fixture(scope="module")
def audiocraft() -> Any:
    torchaudio_shim.install()
    from audiocraft.models.lm import LMModel

    return LMModel


def logits(*shape: int, seed: int = 0) -> Tensor:
    """With the text and without: float32 [2, *shape]."""
    generator = torch.Generator().manual_seed(seed)
    without = torch.randn(*shape, generator=generator)
    return torch.stack([without + 0.4 * torch.randn(*shape, generator=generator), without])


def draw(song: Song, logits: Tensor, first_frame: int = 0) -> Tensor:
    """Codes [n, K] of n x K frames in a row, of one song."""
    _, n, codebooks, card = logits.shape
    sampler = Sampler(2, codebooks, card, CPU)
    sampler.put(1, song)
    frames = torch.arange(n * codebooks).view(n, codebooks) + first_frame
    return sampler.draw(logits, [1] * n, frames)


class FixedLogits:
    """All that audiocraft's sampling needs of a model."""

    cfg_coef, two_step_cfg, _fsdp = 0.0, False, None

    def __init__(self, logits: Tensor) -> None:
        self._logits = logits.flatten(0, 1)[:, :, None]  # [2 n, K, 1, card]

    def __call__(self, *args: Any, **kwargs: Any) -> Tensor:
        return self._logits


def audiocrafts_draw(audiocraft: Any, song: Song, logits: Tensor) -> Tensor:
    """Codes [n, K] by audiocraft's own code."""
    torch.manual_seed(0)
    sequence = torch.zeros(logits.shape[1:3])[..., None]
    codes: Tensor = audiocraft._sample_next_token(
        FixedLogits(logits),
        sequence,
        {"a condition": None},
        {},
        use_sampling=True,
        temp=song.temperature,
        top_k=song.top_k,
        top_p=song.top_p,
        cfg_coef=song.cfg_coef,
    )
    return codes[..., 0]


def chances(song: Song, logits: Tensor) -> npt.NDArray[np.float64]:
    """What each of the tokens is drawn with, from the definitions. Logits: [2, card]."""
    with_text, without = logits.double().numpy()
    guided = without + (with_text - without) * song.cfg_coef
    p: npt.NDArray[np.float64] = np.exp((guided - guided.max()) / song.temperature)
    p /= p.sum()
    order = np.argsort(-p)
    before = np.cumsum(p[order]) - p[order]
    if song.top_p > 0:
        p[order[before > song.top_p]] = 0
    elif song.top_k > 0:
        p[order[song.top_k :]] = 0
    p /= p.sum()
    return p


def surprise(codes: Tensor, chances: npt.NDArray[np.float64]) -> float:
    """Chi-square in standard deviations from its mean; tokens rarer than 5 are taken together."""
    expected = chances * codes.numel()
    drawn = np.bincount(codes.flatten().numpy(), minlength=len(chances))
    assert not drawn[expected == 0].any()
    rare = expected < 5
    expected = np.append(expected[~rare], expected[rare].sum())
    drawn = np.append(drawn[~rare], drawn[rare].sum())
    there = expected > 0
    squares = ((drawn - expected)[there] ** 2 / expected[there]).sum()
    freedom = max(there.sum() - 1, 1)
    return float((squares - freedom) / np.sqrt(2 * freedom))


@pytest.mark.parametrize("name", SETTINGS)
def test_codes_are_drawn_with_audiocrafts_chances(audiocraft: Any, name: str) -> None:
    song = replace(SONG, **SETTINGS[name])
    one = logits(1, 1, CARD)
    many = one.expand(2, ROWS, CODEBOOKS, CARD)
    expected = chances(song, one[:, 0, 0])
    ours, theirs = draw(song, many), audiocrafts_draw(audiocraft, song, many)
    assert surprise(ours, expected) < 4
    assert surprise(theirs, expected) < 4


@pytest.mark.parametrize(
    "name", ["top_k", "top_k and a temperature", "top_p", "top_p before top_k"]
)
def test_codes_that_can_be_drawn_are_audiocrafts(audiocraft: Any, name: str) -> None:
    song = replace(SONG, **SETTINGS[name])
    many = logits(1, 1, CARD, seed=2).expand(2, ROWS, CODEBOOKS, CARD)
    assert set(draw(song, many).flatten().tolist()) == set(
        audiocrafts_draw(audiocraft, song, many).flatten().tolist()
    )


@pytest.mark.parametrize("cfg_coef", [0.0, 1.0, 3.0, 20.0])
def test_greedy_codes_are_audiocrafts(audiocraft: Any, cfg_coef: float) -> None:
    song = replace(SONG, temperature=0.0, top_k=250, top_p=0.5, cfg_coef=cfg_coef)
    many = logits(100, 4, 2048)
    assert torch.equal(draw(song, many), audiocrafts_draw(audiocraft, song, many))


def test_equal_chances_at_the_k_th_all_stay(audiocraft: Any) -> None:
    song = replace(SONG, top_k=2)
    level = torch.tensor([3.0, 2.0, 2.0, 2.0, 0.0]).expand(2, ROWS, CODEBOOKS, 5)
    assert set(draw(song, level).flatten().tolist()) == {0, 1, 2, 3}
    assert set(audiocrafts_draw(audiocraft, song, level).flatten().tolist()) == {0, 1, 2, 3}


def test_a_top_k_beyond_the_card_keeps_every_token() -> None:
    many = logits(ROWS, CODEBOOKS, CARD)
    beyond = replace(SONG, top_k=1_000_000)
    assert torch.equal(draw(beyond, many), draw(SONG, many))


def test_a_top_k_of_1_is_greedy() -> None:
    many = logits(ROWS, CODEBOOKS, CARD)
    greedy = draw(replace(SONG, temperature=0.0), many)
    assert torch.equal(draw(replace(SONG, top_k=1), many), greedy)


def test_a_song_repeats_with_its_seed_and_differs_with_another() -> None:
    many = logits(100, 4, 2048)
    again = draw(SONG, many)
    assert torch.equal(draw(SONG, many), again)
    assert (draw(replace(SONG, seed=2), many) != again).float().mean() > 0.9
    assert (draw(SONG, many, first_frame=1) != again).float().mean() > 0.9


def test_a_slots_new_song_has_nothing_of_the_old() -> None:
    many, frames = logits(1, 4, 2048), torch.arange(4)[None]
    sampler = Sampler(1, 4, 2048, CPU)
    for settings in SETTINGS.values():
        song = replace(SONG, **settings)
        sampler.put(0, song)
        assert torch.equal(sampler.draw(many, [0], frames), draw(song, many))


def test_a_row_is_the_same_in_any_batch_on_any_number_of_threads() -> None:
    greedy: dict[str, Any] = {"temperature": 0.0}
    settings = [*SETTINGS.values(), greedy, {"top_k": 250}]
    sampler = Sampler(16, 4, 2048, CPU)
    for slot in range(16):
        sampler.put(slot, replace(SONG, seed=slot, **settings[slot]))
    many, frames = logits(16, 4, 2048), torch.arange(64).view(16, 4)
    alone = [sampler.draw(many[:, [i]], [i], frames[[i]]) for i in range(16)]
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        for n in range(1, 17):
            rows = torch.randperm(16, generator=torch.Generator().manual_seed(n))[:n].tolist()
            together = sampler.draw(many[:, rows], rows, frames[rows])
            assert torch.equal(together, torch.cat([alone[row] for row in rows]))
    torch.set_num_threads(1)
