"""The codec begins as the transform that was written into it."""

import pytest
import torch
from torch import Tensor

from musicgen_engine.song import SAMPLES_PER_FRAME as HOP
from training import codec, data, quantizer, transform
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


def test_codes_are_the_nearest_and_come_back_as_their_sum() -> None:
    generator = torch.Generator().manual_seed(0)
    books = torch.randn(2, 16, 8, generator=generator) * torch.tensor([1.0, 0.1]).view(2, 1, 1)
    codes = torch.randint(16, (2, 50), generator=generator)
    vectors = quantizer.dequantise(codes, books).T
    assert torch.equal(vectors, books[0][codes[0]] + books[1][codes[1]])
    assert torch.equal(quantizer.quantise(books[0], books)[0], torch.arange(16))


def test_each_codebook_leaves_less_than_the_one_before() -> None:
    x = torch.randn(5_000, 8, generator=torch.Generator().manual_seed(0))
    books = quantizer.codebooks(x, 32)
    codes = quantizer.quantise(x, books)
    left = [x]
    for k in range(CODEBOOKS):
        left.append(left[-1] - books[k][codes[k]])
        assert left[-1].square().mean() < 0.8 * left[-2].square().mean()
        assert len(codes[k].unique()) == 32
