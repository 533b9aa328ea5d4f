"""Vector quantisation of parts that are known apart, with codebooks from k-means.

A residual quantiser looks at a sum of instruments and writes down a code for each sum, of which
there are too many for a small model to learn. Here drums, lead and bass have codebooks of their
own, so a note has the same codes whatever else plays. A decoder adds them up all the same, and an
encoder that hears the sum only finds much the same codes, for the loudest part comes first.

Silence has many codes, all of the same nothing: where drums or bass are silent, theirs tells what
the moment is. A tone that is held looks the same in every frame; with this metronome the model need
not count them, and with the mode and the bar it tells, too, it need not look for them in the music.

audiocraft's own initialisation compares all vectors with all centres in one tensor, which for as
many vectors as are needed here takes more memory than most machines have.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from training.music import Part

# Whose each codebook is; the second one of a part is for what the first leaves.
PARTS: tuple[Part, ...] = ("drums", "lead", "lead", "bass")
METRONOME: tuple[Part, ...] = ("drums", "bass")  # whose silence tells the moment
ROUNDS = 30
SAMPLE = 100  # vectors for each code, in each round


def codebooks(parts: Mapping[Part, Tensor], codes: int, metronome: int) -> Tensor:
    """Of each part [rows, dimension] -> [codebooks, codes, dimension].

    Code 0 is silence, and so are those from `metronome` on where the part has one.
    """
    generator = torch.Generator().manual_seed(0)
    rest, books = dict(parts), []
    for part in PARTS:
        x = rest[part]
        book = x.new_zeros(codes, x.shape[1])
        last = metronome if part in METRONOME else codes
        book[1:last] = _kmeans(x[x.abs().amax(dim=1) > 0], last - 1, generator)
        rest[part] = x - book[_nearest(x, book)]
        books.append(book)
    return torch.stack(books)


def quantise(parts: Mapping[Part, Tensor], books: Tensor, silence: Mapping[Part, Tensor]) -> Tensor:
    """Of each part [rows, dimension] -> [codebooks, rows]

    `silence`: the code in each row, of the parts in `METRONOME`.
    """
    rest, codes = dict(parts), []
    for part, book in zip(PARTS, books, strict=True):
        code = _nearest(rest[part], book)
        rest[part] = rest[part] - book[code]
        codes.append(torch.where(code == 0, silence[part], code) if part in METRONOME else code)
    return torch.stack(codes)


def unclocked(codes: Tensor, metronome: int) -> Tensor:
    """[..., codebooks, frames] with silence as code 0 alone, as an encoder writes it."""
    tells = torch.tensor([part in METRONOME for part in PARTS])[:, None]
    return torch.where(tells & (codes >= metronome), 0, codes)


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
