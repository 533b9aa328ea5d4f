"""Residual vector quantisation with codebooks from k-means.

audiocraft's own initialisation compares all vectors with all centres in one tensor, which for as
many vectors as are needed here takes more memory than most machines have.
"""

import torch
from torch import Tensor

from training.structure import CODEBOOKS

ROUNDS = 30
SAMPLE = 100  # vectors for each code, in each round


def codebooks(x: Tensor, codes: int) -> Tensor:
    """[rows, dimension] -> [codebooks, codes, dimension]; each is for what those before leave."""
    generator = torch.Generator().manual_seed(0)
    rest, books = x.clone(), []
    for _ in range(CODEBOOKS):
        book = _kmeans(rest, codes, generator)
        rest -= book[_nearest(rest, book)]
        books.append(book)
    return torch.stack(books)


def quantise(x: Tensor, books: Tensor) -> Tensor:
    """[rows, dimension] -> codes [codebooks, rows]"""
    rest, codes = x.clone(), []
    for book in books:
        codes.append(_nearest(rest, book))
        rest -= book[codes[-1]]
    return torch.stack(codes)


def dequantise(codes: Tensor, books: Tensor) -> Tensor:
    """[..., codebooks, frames] -> [..., dimension, frames]"""
    vectors = [book[codes[..., k, :].long()] for k, book in enumerate(books)]
    return torch.stack(vectors).sum(0).transpose(-1, -2)


def _kmeans(x: Tensor, codes: int, generator: torch.Generator) -> Tensor:
    """[codes, dimension]; each round looks at another sample of `x`."""
    centres = x[_drawn(x.norm(dim=1), codes, generator)].clone()
    for _ in range(ROUNDS):
        sample = x[torch.randint(len(x), (SAMPLE * codes,), generator=generator)]
        code = _nearest(sample, centres)
        error = (sample - centres[code]).square().sum(1)
        count = torch.bincount(code, minlength=codes)
        centres = (
            torch.zeros_like(centres).index_add_(0, code, sample) / count.clamp(min=1)[:, None]
        )
        unused = (count == 0).nonzero()[:, 0]
        if len(unused):
            centres[unused] = sample[_drawn(error, len(unused), generator)]
    return centres


def _drawn(weights: Tensor, count: int, generator: torch.Generator) -> Tensor:
    return torch.multinomial(weights + 1e-9, count, generator=generator)


def _nearest(x: Tensor, book: Tensor) -> Tensor:
    """The code of each row of `x` [rows, dimension]."""
    half = book.square().sum(1) / 2
    return torch.cat([(half - rows @ book.T).argmin(1) for rows in torch.split(x, 8_192)])
