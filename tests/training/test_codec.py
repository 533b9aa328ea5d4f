"""Before training the codec computes the transform in its weights."""

import pytest
import torch
from torch import Tensor

from protocol.constants import SAMPLES_PER_FRAME as HOP
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


def test_the_transpose_of_the_mdct_inverts_it() -> None:
    audio = torch.randn(1, 10 * HOP, generator=torch.Generator().manual_seed(0))
    windows = transform.windows(audio) @ transform.mdct().T @ transform.mdct()
    inverse = torch.nn.functional.fold(
        windows.transpose(1, 2), (1, 11 * HOP), (1, 2 * HOP), stride=(1, HOP)
    )[:, 0, 0, HOP // 2 : -HOP // 2]
    assert snr(inverse, audio) > 100


def test_encoder_and_decoder_compute_the_transform(songs: Tensor, fitted: Transform) -> None:
    codebooks = torch.zeros(CODEBOOKS, TINY.vocab_size, TINY.codec_dim)
    encodec = codec.build(fitted, codebooks)
    with torch.inference_mode():
        features = encodec.encoder(songs[:, None]).transpose(1, 2)
        audio = encodec.decoder(fitted(songs).transpose(1, 2))[:, 0]
    scale = fitted(songs).std()
    torch.testing.assert_close(features / scale, fitted(songs) / scale, atol=0.1, rtol=0.05)
    assert snr(audio, songs) > 12


VOCAB_SIZE, FIRST_POSITION_CODE = 32, 24
POSITIONS = FIRST_POSITION_CODE + torch.arange(3_200) % (VOCAB_SIZE - FIRST_POSITION_CODE)
SILENCE: dict[Part, Tensor] = {"drums": POSITIONS, "bass": POSITIONS.flip(0)}


@pytest.fixture(scope="module")
def parts() -> dict[Part, Tensor]:
    generator = torch.Generator().manual_seed(0)
    silence = torch.zeros(200, 8)
    return {
        part: torch.cat([torch.randn(3_000, 8, generator=generator), silence])
        for part in dict.fromkeys(quantizer.PARTS)
    }


@pytest.fixture(scope="module")
def codebooks(parts: dict[Part, Tensor]) -> Tensor:
    return quantizer.fit(parts, VOCAB_SIZE, FIRST_POSITION_CODE)


def test_each_codebook_shrinks_the_residual(parts: dict[Part, Tensor], codebooks: Tensor) -> None:
    codes = quantizer.quantise(parts, codebooks, SILENCE)
    residuals = dict(parts)
    for part, codebook, code in zip(quantizer.PARTS, codebooks, codes, strict=True):
        residual = residuals[part] - codebook[code]
        assert residual.square().mean() < 0.8 * residuals[part].square().mean()
        used = range(1, VOCAB_SIZE) if part in quantizer.POSITIONED else range(VOCAB_SIZE)
        assert code.unique().tolist() == [*used]
        residuals[part] = residual


def test_a_part_has_the_same_codes_whatever_else_plays(
    parts: dict[Part, Tensor], codebooks: Tensor
) -> None:
    alone = {part: x if part == "lead" else torch.zeros_like(x) for part, x in parts.items()}
    together, lead = (quantizer.quantise(played, codebooks, SILENCE) for played in (parts, alone))
    for part, one, other in zip(quantizer.PARTS, together, lead, strict=True):
        assert torch.equal(other, SILENCE.get(part, one))


def test_silence_encodes_positions_and_decodes_to_silence(
    parts: dict[Part, Tensor], codebooks: Tensor
) -> None:
    codes = quantizer.quantise(parts, codebooks, SILENCE)
    for part, code in zip(quantizer.PARTS, codes, strict=True):
        silence = SILENCE.get(part, torch.zeros_like(POSITIONS))
        assert torch.equal(code[-200:], silence[-200:])
        assert (code != silence)[:-200].float().mean() > 0.9  # some are quieter than any code
    assert not quantizer.dequantise(codes, codebooks)[:, -200:].any()


def test_dropping_positions_changes_only_the_codes_of_silence(
    parts: dict[Part, Tensor], codebooks: Tensor
) -> None:
    codes = quantizer.quantise(parts, codebooks, SILENCE)
    without = quantizer.drop_positions(codes, FIRST_POSITION_CODE)
    assert not without[:, -200:].any() and torch.equal(without[1:3], codes[1:3])
    vectors = [quantizer.dequantise(c, codebooks) for c in (codes, without)]
    assert torch.equal(*vectors)


def test_codes_decode_to_the_sum_of_their_vectors(codebooks: Tensor) -> None:
    codes = torch.randint(32, (4, 50), generator=torch.Generator().manual_seed(0))
    vectors = quantizer.dequantise(codes, codebooks).T
    expected = sum(codebook[code] for codebook, code in zip(codebooks, codes, strict=True))
    torch.testing.assert_close(vectors, expected)
