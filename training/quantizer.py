"""Vector quantisation of parts that are known separately, with codebooks from k-means.

A residual quantiser has a code for each sum of instruments, and a small model cannot learn so many
sums. Here drums, lead and bass have codebooks of their own, so a note has the same codes whatever
else plays. The decoder still adds all vectors up. An encoder of the sum still finds much the same
codes, because the loudest part comes first.

Many codes stand for silence. Where drums or bass are silent, their code names the position in the
bar or in the phrase. All frames of a held tone look alike; with these position codes the model need
not count them.

audiocraft's own k-means compares all vectors with all centres in one tensor; for this many vectors
the tensor exceeds the memory of most machines.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from training.music import Part

# The part of each codebook; the second codebook of a part encodes the residual of the first.
PARTS: tuple[Part, ...] = ("drums", "lead", "lead", "bass")
POSITIONED: tuple[Part, ...] = ("drums", "bass")  # parts whose silence names the position
ITERATIONS = 30
SAMPLE = 100  # vectors for each code, in each iteration


def fit(parts: Mapping[Part, Tensor], vocab_size: int, first_position_code: int) -> Tensor:
    """[codebooks, vocab_size, dimension] from the vectors [rows, dimension] of each part.

    Code 0 is silence, as are the codes from `first_position_code` on in `POSITIONED` parts.
    """
    generator = torch.Generator().manual_seed(0)
    residuals, codebooks = dict(parts), []
    for part in PARTS:
        x = residuals[part]
        codebook = x.new_zeros(vocab_size, x.shape[1])
        end = first_position_code if part in POSITIONED else vocab_size
        codebook[1:end] = _kmeans(x[x.abs().amax(dim=1) > 0], end - 1, generator)
        residuals[part] = x - codebook[_nearest(x, codebook)]
        codebooks.append(codebook)
    return torch.stack(codebooks)


def extend(codebooks: Tensor, parts: Mapping[Part, Tensor], vocab_size: int) -> Tensor:
    """[codebooks, `vocab_size`, dimension]: with more codes, for the vectors of `parts`.

    The codes stay the same. A codebook whose part is not in `parts` gets codes of silence.
    """
    generator = torch.Generator().manual_seed(0)
    residuals, extended = dict(parts), []
    for part, codebook in zip(PARTS, codebooks, strict=True):
        more = codebook.new_zeros(vocab_size - len(codebook), codebook.shape[1])
        if part in parts:
            x = residuals[part]
            more = _kmeans(x[x.abs().amax(dim=1) > 0], len(more), generator)
        extended.append(torch.cat([codebook, more]))
        if part in parts:
            residuals[part] = x - extended[-1][_nearest(x, extended[-1])]
    return torch.stack(extended)


def quantise(
    parts: Mapping[Part, Tensor], codebooks: Tensor, silence: Mapping[Part, Tensor]
) -> Tensor:
    """[codebooks, rows] from the vectors [rows, dimension] of each part.

    `silence` holds the code of silence in each row, for the parts in `POSITIONED`.
    """
    residuals, codes = dict(parts), []
    for part, codebook in zip(PARTS, codebooks, strict=True):
        code = _nearest(residuals[part], codebook)
        residuals[part] = residuals[part] - codebook[code]
        codes.append(torch.where(code == 0, silence[part], code) if part in POSITIONED else code)
    return torch.stack(codes)


def drop_positions(codes: Tensor, first_position_code: int) -> Tensor:
    """[..., codebooks, frames] with code 0 for all silence, as an encoder writes it."""
    positioned = torch.tensor([part in POSITIONED for part in PARTS])[:, None]
    return torch.where(positioned & (codes >= first_position_code), 0, codes)


def dequantise(codes: Tensor, codebooks: Tensor) -> Tensor:
    """[..., codebooks, frames] -> [..., dimension, frames]"""
    vectors = [codebook[codes[..., k, :].long()] for k, codebook in enumerate(codebooks)]
    return torch.stack(vectors).sum(0).transpose(-1, -2)


def _kmeans(x: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """`count` centres of `x`; each iteration uses another sample."""
    centres = x[_draw(x.norm(dim=1), count, generator)].clone()
    for _ in range(ITERATIONS):
        sample = x[torch.randint(len(x), (SAMPLE * count,), generator=generator)]
        code = _nearest(sample, centres)
        error = (sample - centres[code]).square().sum(1)
        members = torch.bincount(code, minlength=count)
        centres = (
            torch.zeros_like(centres).index_add_(0, code, sample) / members.clamp(min=1)[:, None]
        )
        unused = (members == 0).nonzero()[:, 0]
        if len(unused):
            centres[unused] = sample[_draw(error, len(unused), generator)]
    return centres


def _draw(weights: Tensor, count: int, generator: torch.Generator) -> Tensor:
    return torch.multinomial(weights + 1e-9, count, generator=generator)


def _nearest(x: Tensor, codebook: Tensor) -> Tensor:
    """The code of each row of `x` [rows, dimension]."""
    half = codebook.square().sum(1) / 2
    return torch.cat([(half - rows @ codebook.T).argmin(1) for rows in torch.split(x, 8_192)])
