"""The codec begins as the transform that was written into it."""

import pytest
import torch
from torch import Tensor

from protocol.request import SAMPLES_PER_FRAME as HOP
from training import codec, data, quantizer, transform
from training.music import Part
from training.structure import CODEBOOKS, TINY
from training.transform import Transform

FRAMES = 100


@pytest.fixture(scope="module")
def songs() -> Tensor:
    return torch.stack([data.audio(number, FRAMES) for number in range(12)])


@pytest.fixture(scope="module")
def fitted(songs: Tensor) -> Transform:
    return transform.fit(songs, TINY.codec_dim)


def snr(audio: Tensor, original: Tensor) -> float:
    inner = slice(HOP, -HOP)  # the ends have no neighbours to overlap with
    noise = (audio - original)[..., inner].square().sum() / original[..., inner].square().sum()
    return -10 * noise.log10().item()


def test_the_mdct_is_undone_by_its_own_transpose() -> None:
    audio = torch.randn(1, 10 * HOP, generator=torch.Generator().manual_seed(0))
    windows = transform.windows(audio) @ transform.mdct().T @ transform.mdct()
    again = torch.nn.functional.fold(
        windows.transpose(1, 2), (1, 11 * HOP), (1, 2 * HOP), stride=(1, HOP)
    )[:, 0, 0, HOP // 2 : -HOP // 2]
    assert snr(again, audio) > 100


def test_encoder_and_decoder_compute_the_transform(songs: Tensor, fitted: Transform) -> None:
    books = torch.zeros(CODEBOOKS, TINY.codes, TINY.codec_dim)
    written = codec.write(fitted, books)
    with torch.inference_mode():
        features = written.encoder(songs[:, None]).transpose(1, 2)
        audio = written.decoder(fitted(songs).transpose(1, 2))[:, 0]
    scale = fitted(songs).std()
    torch.testing.assert_close(features / scale, fitted(songs) / scale, atol=0.1, rtol=0.05)
    assert snr(audio, songs) > 12


CODES, METRONOME = 32, 24
TIME = METRONOME + torch.arange(3_200) % (CODES - METRONOME)
SILENCE: dict[Part, Tensor] = {"drums": TIME, "bass": TIME.flip(0)}


@pytest.fixture(scope="module")
def parts() -> dict[Part, Tensor]:
    generator = torch.Generator().manual_seed(0)
    silence = torch.zeros(200, 8)
    return {
        part: torch.cat([torch.randn(3_000, 8, generator=generator), silence])
        for part in dict.fromkeys(quantizer.PARTS)
    }


@pytest.fixture(scope="module")
def books(parts: dict[Part, Tensor]) -> Tensor:
    return quantizer.codebooks(parts, CODES, METRONOME)


def test_each_codebook_leaves_less_of_its_part(parts: dict[Part, Tensor], books: Tensor) -> None:
    codes = quantizer.quantise(parts, books, SILENCE)
    rest = dict(parts)
    for part, book, code in zip(quantizer.PARTS, books, codes, strict=True):
        left = rest[part] - book[code]
        assert left.square().mean() < 0.8 * rest[part].square().mean()
        used = range(1, CODES) if part in quantizer.METRONOME else range(CODES)
        assert code.unique().tolist() == [*used]
        rest[part] = left


def test_a_part_has_the_same_codes_whatever_else_plays(
    parts: dict[Part, Tensor], books: Tensor
) -> None:
    alone = {part: x if part == "lead" else torch.zeros_like(x) for part, x in parts.items()}
    together, lead = (quantizer.quantise(played, books, SILENCE) for played in (parts, alone))
    for part, one, other in zip(quantizer.PARTS, together, lead, strict=True):
        assert torch.equal(other, SILENCE.get(part, one))


def test_silence_tells_the_time_and_comes_back_as_silence(
    parts: dict[Part, Tensor], books: Tensor
) -> None:
    codes = quantizer.quantise(parts, books, SILENCE)
    for part, code in zip(quantizer.PARTS, codes, strict=True):
        silence = SILENCE.get(part, torch.zeros_like(TIME))
        assert torch.equal(code[-200:], silence[-200:])
        assert (code != silence)[:-200].float().mean() > 0.9  # some is quieter than any code
    assert not quantizer.dequantise(codes, books)[:, -200:].any()


def test_without_the_metronome_silence_is_code_zero_and_all_else_the_same(
    parts: dict[Part, Tensor], books: Tensor
) -> None:
    codes = quantizer.quantise(parts, books, SILENCE)
    without = quantizer.unclocked(codes, METRONOME)
    assert not without[:, -200:].any() and torch.equal(without[1:3], codes[1:3])
    vectors = [quantizer.dequantise(c, books) for c in (codes, without)]
    assert torch.equal(*vectors)


def test_codes_come_back_as_the_sum_of_their_vectors(books: Tensor) -> None:
    codes = torch.randint(32, (4, 50), generator=torch.Generator().manual_seed(0))
    vectors = quantizer.dequantise(codes, books).T
    expected = sum(book[code] for book, code in zip(books, codes, strict=True))
    torch.testing.assert_close(vectors, expected)
